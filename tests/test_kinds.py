"""The table of layers: what its rows name is there, and is of the row's record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from ncpc.ir.cells import CELLS, KINDS
from ncpc.ir.kinds import Kind, load


def first(function: Callable[..., Any]) -> Any:
    """The type of a function's first argument."""
    return next(iter(get_type_hints(function).values()))


@pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
def test_lowering_and_problems_take_the_record(kind: Kind) -> None:
    assert first(load(kind.lowering)) is kind.record
    assert first(load(kind.problems)) is kind.record


def test_no_kind_hides_another() -> None:
    assert len({kind.record for kind in KINDS.values()}) == len(KINDS)


def test_modules_of_the_package_are_read_as_their_records() -> None:
    pytest.importorskip("torch")
    cells = pytest.importorskip("ncpc.cells")
    modules = {kind.module: kind for kind in CELLS if kind.module}
    assert {load(name).__name__ for name in modules} == set(cells.__all__) - {"Sequential", "is_recurrent"}
    for name, kind in modules.items():
        assert getattr(cells, load(name).__name__) is load(name)
        assert get_type_hints(load(kind.reader))["return"] is kind.record
