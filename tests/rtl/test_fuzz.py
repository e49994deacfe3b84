"""Random programs take the cycles in the simulator that they take on the core's RTL, and a wrong table is noticed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ncpc.cores import core_names, load_core
from ncpc.sim import timing_tables
from ncpc.sim.timing_tables import timing_model
from tests.conftest import RequireTool
from tests.rtl import fuzz, records
from tests.rtl.bench import CORES, bench
from tests.rtl.calls import Measured, differences, run_rtl, run_simulator
from tests.rtl.programs import Piece, assembly, lines_of
from tests.rtl.test_policies import TOOLS

LEAST, FIXED, PLANTED = 1000, 200, 40
"""Programs of the record, of the sample that is tried each time, and of that on which faults are planted."""
KEPT = sorted(fuzz.KEPT.glob("*.json"))
BRANCHED = {"branch: taken", "branch: not taken", "jump: to the next address"}


@pytest.fixture
def _tools(require_tool: RequireTool) -> None:
    for tool in TOOLS:
        require_tool(tool)


@pytest.mark.parametrize("core", CORES)
def test_the_committed_programs_execute_every_instruction_and_none_is_off(core: str) -> None:
    record, compressed = records.load(records.FUZZ)[core], load_core(core).isa.endswith("c")
    assert record["off"] == 0
    assert record["programs"] >= LEAST
    assert record["calls"] == fuzz.RUNS * record["programs"]
    assert 0.9 * record["calls"] < record["exact"] < record["calls"]
    wanted = fuzz.rows(compressed) | BRANCHED | {"fence"}
    wanted |= {"jump: to a split instruction", "csr", "fence.i"} if compressed else set()
    assert set(record["executed"]) == wanted
    assert min(record["executed"].values()) > 500


def test_rtl_checked_are_the_cores_that_were_compared() -> None:
    """With the RTL of one revision, with nothing off, in policies and in random programs."""
    found = {name: (records.load(records.POLICIES).get(name), records.load(records.FUZZ).get(name))
             for name in core_names()}
    checked = {name for name, pair in found.items()
               if all(r and r["off"] == 0 for r in pair) and len({r["revision"] for r in pair}) == 1}
    assert checked == {name for name in core_names() if load_core(name).timing_class == "rtl-checked"} == set(CORES)


@pytest.mark.slow
@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("core", CORES)
def test_no_fixed_program_is_off(core: str) -> None:
    result = fuzz.fuzz(core, 1, FIXED)
    assert [found.off for found in result.off] == []
    assert result.programs == FIXED


@pytest.mark.slow
@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_was_off_is_so_no_more(path: Path) -> None:
    assert fuzz.tried(path) == []


@cache
def sample(core: str) -> tuple[Any, ...]:
    programs, memories = fuzz.drawn(core, random.Random(3), PLANTED, 0.0)
    elf = fuzz.linked(core, assembly(programs, load_core(core)), PLANTED)
    device = fuzz.opened(core, elf)
    calls = fuzz.calls_of(device, memories, fuzz.RUNS)
    return elf, calls, run_rtl(bench(core), device, calls)


def plants(core: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """A cycle more for each instruction that has an entry of its own or none, and for each other rule."""
    model: Any = timing_model(load_core(core).timing_table)
    names = {name.removeprefix("c.").split(" ")[0] for name in fuzz.rows(True)} | {"fence"}
    plain = getattr(model, "plain", 1)
    for name in sorted(names | ({"fence.i", "csrrs"} if core == "rv32imc-ibex" else set())):
        yield name, {"cycles": {**model.cycles, name: model.cycles.get(name, plain) + 1}}
    for rule in ("branch_taken", "divide_by_zero", "split_target"):
        if hasattr(model, rule):
            yield rule, {rule: getattr(model, rule) - 1}


@pytest.mark.slow
@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("core", CORES)
def test_every_wrong_entry_is_noticed(core: str, monkeypatch: pytest.MonkeyPatch) -> None:
    elf, calls, rtl = sample(core)
    table = load_core(core).timing_table
    right: Any = timing_model(table)

    def off() -> list[str]:
        """Of the first call that differs."""
        ours = run_simulator(fuzz.opened(core, elf), calls)
        return next((text for pair in zip(ours, rtl, strict=True) if (text := differences(*pair))), [])

    assert off() == []
    for name, wrong in plants(core):
        monkeypatch.setitem(timing_tables.TABLES, table, replace(right, **wrong))  # type: ignore[arg-type]
        assert [line.split(":")[0] for line in off()] == ["cycles"], name


@pytest.mark.slow
@pytest.mark.usefixtures("_tools")
def test_a_program_that_differs_is_made_short_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    core: str = "rv32im-picorv32"
    right: Any = timing_model("picorv32")
    monkeypatch.setitem(timing_tables.TABLES, "picorv32",  # type: ignore[arg-type]
                        replace(right, cycles={**right.cycles, "mulhsu": 5}))
    found = fuzz.batch(core, random.Random(5), 10, 0.0, print).off[0]
    least = fuzz.shrunk(core, found)
    assert len(least.program.pieces) == 1
    assert any("mulhsu" in line for line in lines_of(least.program.pieces, "p0"))
    path = fuzz.keep(core, 5, least, tmp_path)
    assert fuzz.tried(path) == list(least.off)
    monkeypatch.undo()
    assert fuzz.tried(path) == []


def test_a_difference_is_named() -> None:
    ours = Measured(10, 10, 5, 1, b"ab")
    assert differences(ours, ours) == []
    assert differences(ours, replace(ours, lower=11, upper=11)) == ["cycles: 10 simulated, 11 on the RTL"]
    assert differences(replace(ours, upper=12), replace(ours, lower=11, upper=11)) == []
    assert differences(replace(ours, upper=12), replace(ours, lower=13, upper=13)) == [
        "cycles: 10 to 12 simulated, 13 on the RTL"]
    assert differences(ours, replace(ours, instructions=4, memory=b"ac", value=2)) == [
        "instructions: 5 simulated, 4 on the RTL", "value: 1 simulated, 2 on the RTL",
        "memory: byte 1 is 98 simulated, 99 on the RTL"]
    assert differences(replace(ours, fault="misaligned"), ours) == ["fault: misaligned"]


def test_less_of_a_program_is_each_piece_left_out_and_each_opened() -> None:
    a, b, c = (Piece((name,)) for name in "abc")
    around = Piece(("x",), (b, c), ("y",))
    assert set(fuzz.without((a, around))) == {(around,), (a,), (a, b, c), (a, replace(around, inner=(c,))),
                                              (a, replace(around, inner=(b,)))}
    assert list(fuzz.without((a,))) == [()]
    assert list(fuzz.without(())) == []
