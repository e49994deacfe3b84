"""Every cell against its source module: the committed figures are complete, and a sample measured again is the same."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.agreement import TOLERANCE, amplifies, measure, sequences
from benchmarks.agreement_file import read
from benchmarks.agreement_sources import FAMILIES, source
from tests.conftest import RequireTool

ROWS: list[dict[str, Any]] = read()
CHAOTIC = [row for row in ROWS if row["double"]["max"] > 10 * TOLERANCE]
MOST = 0.95
"""Share of a cell's configurations that must agree; the others are chaotic."""
TORCH = ("ltc", "cfc", "wired_cfc", "mixed_ltc", "gated", "leaky")


def test_every_family_is_there_with_a_hundred_configurations_of_each_cell() -> None:
    assert {row["family"] for row in ROWS} == set(FAMILIES)
    assert all(row["configurations"] >= 100 and row["steps"] == 200 for row in ROWS)


def test_cells_agree_with_their_sources() -> None:
    """All configurations of torch's cells, and of Keras's all but chaotic ones."""
    assert all(row["family"].startswith("keras") for row in ROWS if row["double"]["max"] > TOLERANCE)
    assert all(row["double"]["within"] >= MOST * row["configurations"] for row in ROWS)
    single = [row for row in ROWS if not row["family"].startswith(("keras_cfc", "keras_wired", "ode"))]
    assert all(row["single"]["max"] <= TOLERANCE for row in single)


@pytest.mark.parametrize("family", TORCH)
def test_a_configuration_measured_again_is_within_the_figures(family: str, require_tool: RequireTool) -> None:
    require_tool("torch")
    require_tool("ncps")
    row = next(row for row in ROWS if row["family"] == family)
    seed = row["single"]["seed"]
    again = measure(source(family, seed), seed)
    assert again is not None
    assert again.cell == row["cell"]
    assert again.double <= max(row["double"]["max"], 1e-12) * 1.01
    assert again.single == pytest.approx(row["single"]["max"], rel=0.5)


@pytest.mark.slow
@pytest.mark.parametrize("row", CHAOTIC, ids=lambda row: row["cell"])
def test_a_network_that_disagrees_is_one_that_amplifies_any_change(
    row: dict[str, Any], require_tool: RequireTool
) -> None:
    require_tool("keras")
    seed = row["double"]["seed"]
    found = source(row["family"], seed)
    data = sequences(seed, found.inputs, found.timespans)
    expected = found.outputs(data, True)
    assert amplifies(found, data, expected, max(1.0, float(abs(expected).max())))
