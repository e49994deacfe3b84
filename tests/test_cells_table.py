"""The table of what runs where is what the compiler does, and what it says works holds."""

from __future__ import annotations

import pytest

from benchmarks import agreement_file
from benchmarks.cells_table import (
    BEGIN,
    END,
    INTEGERS,
    README,
    SCHEMES,
    TABLE,
    TARGETS,
    error,
    page,
    policy_of,
    random_table,
    table,
    tried,
    verdict,
)
from benchmarks.cells_table_rows import CELLS, ROWS
from ncpc.frontend.validate import check_policy
from ncpc.ir.cells import RECURRENT
from ncpc.ir.heads import LAYERS


def tables() -> list[list[list[str]]]:
    """The tables of the document, each as rows of entries, heading first."""
    found: list[list[list[str]]] = [[]]
    for line in TABLE.read_text().splitlines():
        if line.startswith("| "):
            found[-1].append(line.strip("| ").split(" | "))
        elif found[-1]:
            found.append([])
    return [table for table in found if table]


def committed_rows() -> dict[str, list[str]]:
    """Cell -> its entries, one per target, as committed."""
    rows = tables()[0]
    assert tuple(rows[0][1:]) == TARGETS
    return {row[0]: row[1:] for row in rows[2:]}


def test_every_kind_of_cell_is_tried() -> None:
    kinds = {CELLS[name]().kind for name in CELLS}
    assert kinds >= RECURRENT
    assert list(committed_rows()) == list(ROWS)


def test_every_kind_of_layer_is_tried() -> None:
    kinds = {layer.kind for made in ROWS.values() for layer in made()}
    assert {kind.name for kind in LAYERS} <= kinds


@pytest.mark.parametrize("row", ["CfC", "Keras wired CfC", "Conv2d, MaxPool2d, NCP"])
def test_errors_in_the_table_are_current(row: str) -> None:
    entries = {entry[0]: entry[1:] for entry in tables()[1][2:]}
    for scheme, written in zip(INTEGERS, entries[row], strict=False):
        assert error(row, scheme) == pytest.approx(float(written), rel=0.1)
    assert float(entries[row][0]) <= 2e-3


def test_random_configurations_of_every_source_are_in_the_document() -> None:
    assert random_table() in TABLE.read_text()
    rows = tables()[2][2:]
    assert [row[0] for row in rows] == [found["cell"] for found in agreement_file.read()]
    assert all(0 < int(within) <= int(tried) for _, tried, within, *_ in rows)


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
    found = tried(tuple(ROWS))
    assert TABLE.read_text() == page(found)
    if BEGIN in README.read_text():
        assert README.read_text().split(BEGIN)[1].split(END)[0].strip() == table(found)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "target"), [(cell, TARGETS[i % 5]) for i, cell in enumerate(ROWS)])
def test_what_the_table_promises_holds(cell: str, target: str) -> None:
    """Each cell on one target in turn; ``python -m benchmarks.cells_table --verify`` tries them all."""
    for scheme in SCHEMES:
        if scheme in dict(zip(TARGETS, committed_rows()[cell], strict=True))[target].split():
            assert verdict(cell, target, scheme) is None, scheme


def test_rows_of_the_table_are_valid() -> None:
    for row in ROWS:
        check_policy(policy_of(row), row)
