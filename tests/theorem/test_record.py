"""The committed answers of proofs: rows measured again, what they cover, and the documents' tables."""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest

from benchmarks.theorem import (
    CELLS,
    COMPILERS,
    CORES,
    DOCS,
    EXAMPLES,
    MODES,
    POLICIES,
    ROOT,
    SCHEMES,
    TEXT,
    Case,
    built,
    cases,
    in_docs,
    key,
    measured,
    recorded,
    row_of,
    totals,
    unlike,
)
from tests.conftest import RequireProgram, RequireTool
from tests.theorem.builds import Linked

ROWS = {key(row): row for row in recorded()}


@pytest.fixture
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla"):
        require_tool(module)


def row(*names: Any) -> tuple[Case, dict[str, Any]]:
    return Case(*names), ROWS[names]


def test_every_build_of_the_policies_is_proved() -> None:
    assert list(ROWS) == [names for case in cases() if (names := astuple(case)) in ROWS]
    wide = [r for r in ROWS.values() if r["policy"] in POLICIES]
    every = len(POLICIES) * len(SCHEMES) * len(MODES) * len(CORES) * len(COMPILERS) + len(CORES)
    assert len(wide) == every + len(EXAMPLES) * len(MODES) * len(COMPILERS)
    assert {r["compiler"] for r in wide} == {*COMPILERS, TEXT}
    for r in wide:
        assert (r["answer"], r["why"]) == ("proved", ""), r
        assert 0 < r["shown"] == r["outcomes"]
        assert 0 < r["least"] <= r["most"]
        assert r["stack_bytes"] > 0


def test_every_row_says_where_it_stopped() -> None:
    assert {r["policy"] for r in ROWS.values()} == {*POLICIES, *CELLS}
    assert {r["answer"] for r in ROWS.values()} <= {"proved", "undecided"}
    assert {r["policy"] for r in ROWS.values() if r["answer"] != "proved"} == {"Dense, Norm, LTC, Dense"}
    assert all((r["why"] == "") == (r["answer"] == "proved") for r in ROWS.values())


def test_one_policy_is_one_program_however_it_is_linked() -> None:
    for policy, scheme, dt, *_ in ROWS:
        some = [r for names, r in ROWS.items() if names[:3] == (policy, scheme, dt)]
        assert len({r["program"] for r in some}) == 1
        assert len({r["elf"] for r in some}) == len(some)


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("names", [
    ("sine", "int8", "runtime", "rv32imc-ibex", "zig -Os"), ("cartpole", "int16", "fixed", "cortex-m4", "zig -O2")])
def test_a_row_measured_again_is_the_same(names: tuple[Any, ...]) -> None:
    case, known = row(*names)
    assert unlike(row_of(case), known) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("names", [
    ("cartpole", "int16", "fixed", "rv32imc-ibex", "zig -O0"), ("CfC", "int16", "fixed", "rv32imc-ibex", "zig -O2"),
    ("RNN", "int16", "fixed", "cortex-m4", "zig -O2"), ("sine", "w8a16", "runtime", "cortex-m4", "zig -Os")])
def test_more_rows_measured_again_are_the_same(names: tuple[Any, ...]) -> None:
    case, known = row(*names)
    assert unlike(row_of(case), known) == {}


@pytest.mark.slow
@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("names", [
    ("sine", "int8", "runtime", "rv32imc-ibex", "gcc -O2"), ("activity", "int8", "fixed", "cortex-m4", "gcc -O2"),
    ("autoncp19-trained-irregular", "int16", "runtime", "cortex-m4", "gcc -O2"),
    ("cartpole", "w8a16", "fixed", "rv32imc-ibex", "gcc -O2")])
def test_what_gcc_links_is_proved(names: tuple[Any, ...], require_program: RequireProgram) -> None:
    """Its ELF too, where it is the gcc of the record."""
    case, known = row(*names)
    require_program(case.cc, optional=True)
    again = row_of(case)
    assert (again["answer"], again["program"], again["outcomes"]) == ("proved", known["program"], known["outcomes"])
    assert again["built_by"] != known["built_by"] or unlike(again, known) == {}


@pytest.mark.usefixtures("_tools")
def test_a_planted_change_is_seen() -> None:
    """An entry of a table in the ELF; another answer, another number; not seconds."""
    case, known = row("sine", "int16", "fixed", "cortex-m4", "zig -O2")
    build, compiler = built(case)
    changed = measured(case, replace(build, elf=Linked(build).with_byte("sigmoid_table", 4 * 256, 1)), compiler)
    assert {"elf", "answer", "why"} <= set(unlike(changed, known))
    assert changed["answer"] == "differs"
    for name in set(known) - {"seconds", "prover"}:
        assert set(unlike({**known, name: "other"}, known)) == {name}
    assert unlike({**known, "seconds": 1e6}, known) == {}
    assert unlike({**known, "prover": "another", "terms": 0}, known) == {}
    assert set(unlike({**known, "prover": "another", "answer": "differs"}, known)) == {"answer"}


@pytest.mark.usefixtures("_tools")
def test_a_row_stays_while_program_and_elf_do(monkeypatch: pytest.MonkeyPatch) -> None:
    case, known = row("sine", "int16", "fixed", "cortex-m4", "zig -O2")
    assert row_of(case, known) is known
    monkeypatch.setattr("benchmarks.theorem.measured", lambda case, *rest: {"measured": case})
    for name in ("program", "elf"):
        assert row_of(case, {**known, name: "0" * 16}) == {"measured": case}


def test_the_documents_tables_are_the_records() -> None:
    text = DOCS.read_text()
    assert in_docs(text, list(ROWS.values())) == text
    wide = [r for r in ROWS.values() if r["policy"] in POLICIES]
    proved = sum(r["answer"] == "proved" for r in wide)
    assert f"{proved} of {len(wide)} builds" in (ROOT / "README.md").read_text()
    assert sum(totals(wide).values()) == len(wide)
