"""A class of the product has a name of its own: whoever reads it knows which one is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.test_layout import ROOT, sources

TRAINED = ("ncpc/cells/", "ncpc/ir/cells.py")
"""The torch module that a user trains, and the record that it is read as (``Kind.module``, ``Kind.record``)."""
SHARED = {**dict.fromkeys(("CtGru", "CtRnn", "LeakyIntegrator", "NeuralOde"), TRAINED),
          **dict.fromkeys(("GruOde", "OdeRnn"), ("ncpc/cells/", "ncpc/ir/gated.py"))}
"""One idea in two worlds under one name, and where its two classes stand: the module's name is public."""


def homes(files: Iterable[Path], root: Path) -> dict[str, list[str]]:
    """Every class, also one within another or in a function, by name: the files in which it is defined."""
    found = defaultdict(list)
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(path.relative_to(root).as_posix())
    return found


def repeated(files: Iterable[Path], root: Path) -> dict[str, list[str]]:
    """Names that stand for more than one class, those of SHARED for more than one in each of their places."""
    return {name: places for name, places in homes(files, root).items()
            if len(places) > 1 and not (name in SHARED and is_shared(places, SHARED[name]))}


def is_shared(places: list[str], known: tuple[str, ...]) -> bool:
    """Whether each known place holds exactly one of the classes."""
    return len(places) == len(known) and all(sum(place.startswith(one) for place in places) == 1 for one in known)


def test_a_class_name_has_one_meaning() -> None:
    assert repeated(sources(), ROOT) == {}


def test_shared_names_are_in_use() -> None:
    found = homes(sources(), ROOT)
    assert all(is_shared(found[name], known) for name, known in SHARED.items())


PLANTED = {"ncpc/ir/program.py": "Program", "ncpc/ir/cells.py": "CtRnn", "ncpc/cells/ode.py": "CtRnn"}


@pytest.mark.parametrize(("where", "name"), [("targets/c/x.py", "Program"), ("ncpc/cells/x.py", "CtRnn"),
                                             ("targets/x.py", "CtRnn"), ("ncpc/passes/x.py", "Other")])
def test_a_class_that_stands_twice_is_found(tmp_path: Path, where: str, name: str) -> None:
    for path, planted in {**PLANTED, where: name}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(f"def f():\n    class {planted}:\n        pass\n")
    assert set(repeated(tmp_path.rglob("*.py"), tmp_path)) == {name} - {"Other"}
