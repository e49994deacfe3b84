"""The simulator's speed: the committed figures, and that they can be had again."""

from __future__ import annotations

import json

import pytest

from benchmarks.sim_speed import RESULT, STEPS, measure

REQUIRED = 30.0
"""Million instructions per second with cycle counting, on one core."""


def test_the_committed_figures_reach_what_is_required():
    rows = json.loads(RESULT.read_text())["rows"]
    compiled = {row["core"]: row for row in rows if row["hook"] == "c"}
    assert set(compiled) == {"cortex-m4", "rv32imc-ibex"}
    for row in compiled.values():
        assert row["million_instructions_per_second"] >= REQUIRED
        assert row["steps"] == STEPS
        python = next(r for r in rows if r["core"] == row["core"] and r["hook"] == "python")
        assert python["cycles_per_step"] == row["cycles_per_step"]


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc-ibex"])
def test_the_speed_can_be_had_again(core, require_tool):
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    row = measure(core, "c", 1000)
    committed = [r for r in json.loads(RESULT.read_text())["rows"] if r["core"] == core]
    assert row["instructions_per_step"] == committed[0]["instructions_per_step"]
    assert row["million_instructions_per_second"] >= REQUIRED
