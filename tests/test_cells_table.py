"""The table of what runs where is what the compiler does, and what it says works holds."""

from __future__ import annotations

import pytest

from benchmarks.cells_table import BEGIN, CELLS, END, README, SCHEMES, TABLE, TARGETS, page, table, tried, verdict
from ncpc.frontend.validate import check_policy
from ncpc.ir.cells import CELLS as KINDS


def committed_rows() -> dict[str, list[str]]:
    """Cell -> its entries, one per target, as committed."""
    rows = [line.strip("| ").split(" | ") for line in TABLE.read_text().splitlines() if line.startswith("| ")]
    assert tuple(rows[0][1:]) == TARGETS
    return {row[0]: row[1:] for row in rows[2:]}


def test_every_kind_of_cell_is_tried() -> None:
    kinds = {CELLS[name]().kind for name in CELLS}
    assert {"ltc", *(kind.kind for kind in KINDS)} <= kinds
    assert list(committed_rows()) == list(CELLS)


@pytest.mark.parametrize(("cell", "targets"), [
    ("CfC, pure", ("host", "onnx", "tflite", "nir")), ("CT-GRU", ("onnx", "tflite")),
    ("mixed memory, LTC", ("cortex-m4", "nir-graded")), ("LTC, Runge-Kutta", ("host", "nir")),
])
def test_the_table_is_current(cell: str, targets: tuple[str, ...]) -> None:
    found = tried((cell,), targets).takes
    row = dict(zip(TARGETS, committed_rows()[cell], strict=True))
    assert {target: row[target] for target in targets} == {
        target: " ".join(found[cell, target]) or "refused" for target in targets
    }


@pytest.mark.slow
def test_the_whole_table_is_current() -> None:
    found = tried(tuple(CELLS))
    assert TABLE.read_text() == page(found)
    if BEGIN in README.read_text():
        assert README.read_text().split(BEGIN)[1].split(END)[0].strip() == table(found)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "target"), [(cell, TARGETS[i % 5]) for i, cell in enumerate(CELLS)])
def test_what_the_table_promises_holds(cell: str, target: str) -> None:
    """Each cell on one target in turn; ``python -m benchmarks.cells_table --verify`` tries them all."""
    for scheme in SCHEMES:
        if scheme in dict(zip(TARGETS, committed_rows()[cell], strict=True))[target].split():
            assert verdict(cell, target, scheme) is None, scheme


def test_cells_of_the_table_are_valid() -> None:
    from benchmarks.cells_table import policy_of

    for cell in CELLS:
        check_policy(policy_of(cell), cell)
