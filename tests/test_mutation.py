"""The mutation tests' record is honest: its counts add up, gaps are explained, and stored mutants are killed again."""

from __future__ import annotations

import json
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

from benchmarks import mutation
from benchmarks.mutants import Mutant, modules, mutants_of
from benchmarks.mutation_trials import alone, first_failure, plant, swapped
from tests.conftest import RequireTool

RECORD: dict[str, Any] = json.loads(mutation.RESULT.read_text())
STRICT = ("proofs", "semantics", "verification")
SOURCE = """def outer(a):
    def inner(b):
        return a + b
    return inner

NUMBER = 1 + 1
"""


@pytest.mark.parametrize("part", RECORD)
def test_the_counts_add_up(part: str) -> None:
    row = RECORD[part]
    rows = row["modules"].values()
    assert [row[name] for name in ("mutants", "tried", "killed")] == [
        sum(module[name] for module in rows) for name in ("mutants", "tried", "killed")]
    assert row["tried"] == row["killed"] + len(row["survivors"]) <= row["mutants"]
    assert all(len(module["keys"].split()) == module["killed"] for module in rows)
    assert row["explained"] == sum(bool(survivor["why"]) for survivor in row["survivors"])


@pytest.mark.parametrize("part", [part for part in STRICT if part in RECORD])
def test_nearly_all_are_killed_or_explained(part: str) -> None:
    row = RECORD[part]
    assert row["killed"] + row["explained"] >= 0.95 * row["tried"]


def test_stored_mutants_are_killed_again(tmp_path: Path) -> None:
    tree = mutation.copy_of_tree(tmp_path)
    stored = [row for part in RECORD.values() for row in part["examples"]]
    for row in (stored[0], stored[-1]):
        mutant = Mutant(*(row[name] for name in Mutant.__dataclass_fields__))
        assert alone(mutant, tree, [row["by"]], 120) == row["by"]
    assert first_failure(tree, [row["by"]], 120) is None


def test_a_fault_takes_the_place_of_a_function_wherever_that_is_held() -> None:
    old, new = (compile(text, "somewhere/net.py", "exec") for text in (SOURCE, SOURCE.replace("a + b", "a - b")))
    space: dict[str, Any] = {}
    exec(old, space)
    held: FunctionType = space["outer"](5)
    swaps = swapped(old, new)
    assert swaps is not None
    plant("somewhere/net.py", swaps)
    assert held(2) == space["outer"](5)(2) == 3


def test_faults_outside_functions_need_an_interpreter_of_their_own() -> None:
    old = compile(SOURCE, "net.py", "exec")
    assert swapped(old, old) == {}
    assert swapped(old, compile(SOURCE.replace("= 1", "= 2"), "net.py", "exec")) is None
    assert swapped(old, compile(SOURCE.replace("return a + b", "return lambda: a"), "net.py", "exec")) is None


def test_mutants_differ_in_one_line_and_are_the_same_every_time(require_tool: RequireTool) -> None:
    require_tool("cosmic_ray", optional=True)
    (path,) = modules("ir/cwords.py")
    found, source = mutants_of(path), path.read_text()
    assert found == mutants_of(path)
    assert len({mutant.key for mutant in found}) == len(found) > 50
    for mutant in found:
        pairs = zip(source.splitlines(), mutant.planted(source).splitlines(), strict=True)
        assert [(a.strip(), b.strip()) for a, b in pairs if a != b] == [(mutant.before, mutant.after)]


def test_a_line_that_is_gone_is_said() -> None:
    with pytest.raises(LookupError, match="no line reads 'x = 1'"):
        Mutant("net.py", "NumberReplacer", 3, "x = 1", "x = 2").planted("y = 1\n")
