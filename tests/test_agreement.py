"""Every cell against its source module: the committed figures are complete, and a sample measured again is the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ncpc.ir.gated import MixedMemory, WiredCfc
from ncpc.ir.policy import Dense, Layer
from tests.conftest import RequireTool

pytest.importorskip("torch")

from benchmarks.agreement import INTEGER_CONFIGURATIONS, STEPS, TOLERANCE, measure, measure_int16
from benchmarks.agreement_file import read
from benchmarks.agreement_sources import FAMILIES, Source, source

ROWS: list[dict[str, Any]] = read()
CUT = [row for row in ROWS if row.get("cut", {}).get("configurations")]
UNBOUNDED = ("keras_cfc", "keras_wired_cfc", "ode")
"""Families of cells whose states nothing bounds: their networks amplify roundings, or never forget one."""
BITS_UNUSED = 2.0**3
"""So many times coarser than needed a format may be: it also holds what the proof allows and nobody has seen."""
TORCH = ("ltc", "solved_ltc", "exponential_ltc", "cfc", "wired_cfc", "mixed_ltc", "gated", "ode", "ct_gru", "leaky",
         "lif", "lrc")


def row_of(family: str) -> dict[str, Any]:
    return next(row for row in ROWS if row["family"] == family)


def test_every_family_is_there_with_a_hundred_configurations_of_each_cell() -> None:
    assert {row["family"] for row in ROWS} == set(FAMILIES)
    assert all(row["configurations"] >= 100 and row["steps"] == STEPS for row in ROWS)


def test_every_configuration_agrees_with_its_source() -> None:
    """Those that run away or amplify too, as long as they can be compared."""
    for row in ROWS:
        assert row["double"]["max"] <= TOLERANCE, row["cell"]
        assert row["double"]["within"] == row["configurations"], row["cell"]
    for row in CUT:
        assert row["cut"]["max"] <= TOLERANCE, row["cell"]
        assert row["cut"]["within"] == row["cut"]["configurations"], row["cell"]


def test_binary32_strays_only_where_the_library_does() -> None:
    """Nearly as many float32 builds as source modules are within the tolerance; of cells of torch that forget, all."""
    for row in ROWS:
        assert row["built"]["within"] >= row["single"]["within"] - 2, row["cell"]
    for row in ROWS:
        if row["family"] not in UNBOUNDED:
            assert row["built"]["max"] <= TOLERANCE, row["cell"]


@pytest.mark.parametrize("family", TORCH)
def test_a_configuration_measured_again_is_within_the_figures(family: str, require_tool: RequireTool) -> None:
    require_tool("torch")
    require_tool("ncps")
    row = row_of(family)
    seed = row["single"]["seed"]
    again = measure(source(family, seed), seed)
    assert again is not None
    assert again.cell == row["cell"]
    assert again.double <= max(row["double"]["max"], 1e-12) * 1.01
    recorded = row["single"]["max"]  # in what order a library sums in binary32 is another on another processor
    assert recorded / 3 <= again.single <= recorded * 3


@pytest.mark.parametrize("row", CUT, ids=lambda row: row["cell"])
def test_a_network_that_runs_away_agrees_until_then(row: dict[str, Any], require_tool: RequireTool) -> None:
    require_tool("keras")
    seed = row["cut"]["seed"]
    again = measure(source(row["family"], seed), seed)
    assert again is not None
    assert again.cell == row["cell"]
    assert 0 < again.steps < STEPS
    assert again.double <= TOLERANCE


def turned(layer: Layer) -> Layer:
    """A wired CfC whose first stage turns its gates' biases round: a mistake that no 100 steps would hide."""
    if isinstance(layer, MixedMemory):
        return dataclasses.replace(layer, cell=turned(layer.cell))
    assert isinstance(layer, WiredCfc)
    gate = layer.stages[0].time_b
    assert gate is not None
    stage = dataclasses.replace(layer.stages[0], time_b=Dense(gate.weight, -gate.bias))
    return dataclasses.replace(layer, stages=(stage, *layer.stages[1:]))


def mistaken(found: Source) -> Source:
    return dataclasses.replace(found, double=tuple(map(turned, found.double)))


def test_a_wrong_equation_shows_before_a_network_runs_away(require_tool: RequireTool) -> None:
    require_tool("keras")
    row = next(row for row in CUT if row["cell"] == "ncps.keras CfC, wired, no_gate")
    seed = row["cut"]["seed"]
    wrong = measure(mistaken(source(row["family"], seed)), seed)
    assert wrong is not None
    assert wrong.steps < STEPS
    assert wrong.double > 100 * TOLERANCE


def test_every_cell_was_measured_as_integers() -> None:
    for row in ROWS:
        assert row["int16"]["configurations"] == INTEGER_CONFIGURATIONS, row["cell"]


def test_integers_hold_the_tolerance_or_there_is_a_reason() -> None:
    """A status bit, an output that hardly moves, a network that amplifies; a spike is all of an LIF neuron's range."""
    for row in (row for row in ROWS if row["family"] != "lif"):
        found = row["int16"]
        assert found["refused"] == 0, row["cell"]
        assert len(found["beyond"]) == found["configurations"] - found["within"], row["cell"]
        assert row["family"] in UNBOUNDED or found["within"] >= 0.9 * found["configurations"], row["cell"]
        for one in found["beyond"]:
            assert one["flagged"] or one["error"] <= BITS_UNUSED * max(one["unit"], one["moved"]), (row["cell"], one)


@pytest.mark.parametrize("family", ["gated", "leaky", "keras_ltc"])
def test_integers_measured_again_err_as_much(family: str, require_tool: RequireTool) -> None:
    for tool in ("torch", "ncps", "keras"):
        require_tool(tool)
    row = row_of(family)
    seed = row["int16"]["seed"]
    again = measure_int16(source(family, seed), seed)
    assert again is not None
    assert again.int16 is not None
    assert again.cell == row["cell"]
    assert again.int16 == pytest.approx(row["int16"]["max"], rel=0.05)
