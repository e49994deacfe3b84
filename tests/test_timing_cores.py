"""Cycle counts of small programs against the tables of the cores' manuals, worked out by hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ncpc.cores import load_core
from ncpc.errors import BadInput
from ncpc.sim import timing_tables
from ncpc.sim.decode import decode
from ncpc.sim.timing import Cycles
from ncpc.sim.timing_tables import timing_model
from tests.conftest import RequireTool

spec = importlib.util.spec_from_file_location("sim_programs", Path(__file__).parent / "sim_programs.py")
assert spec is not None
assert spec.loader is not None
programs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(programs)
Case = tuple[str, str, int, int, int]
"""Name, code, instructions, lower, upper."""


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


def armv6m(branch: int, call: int, pop_pc: int, special: int, multiply: int) -> tuple[Case, ...]:
    """The same programs on every core of Armv6-M, which differ in these figures."""
    exact = (
        ("plain", "adds r3, r0, #1", 1, 1),
        ("multiply", "movs r3, #5\nmuls r3, r0, r3", 2, 1 + multiply),
        ("load", "ldr r3, [r0]", 1, 2),
        ("load halfword by register", "movs r3, #2\nldrsh r2, [r0, r3]", 2, 1 + 2),
        ("literal", "ldr r3, =0x12345678", 1, 2),
        ("store", "str r1, [r0]", 1, 2),
        ("two loads", "ldr r2, [r0]\nldr r3, [r0, #4]", 2, 2 + 2),
        ("multiple", "mov r3, r0\nldm r3!, {r1, r2}", 2, 1 + 3),
        ("push and pop", "push {r4, r5, r6}\npop {r4, r5, r6}", 2, 4 + 4),
        ("jump", "b 1f\nnop\n1:", 1, branch),
        ("jump to the next address", "b 1f\n1: adds r3, r0, #1", 2, branch + 1),
        ("branch not taken", "cmp r0, #0\nbeq 1f\nnop\n1:", 3, 3),
        ("branch taken", "cmp r0, #0\nbne 1f\nnop\n1:", 2, 1 + branch),
        ("loop of five", "movs r2, #5\n1: subs r2, #1\nbne 1b", 11, 1 + 5 + 4 * branch + 1),
        ("call of the next address", "mov r3, lr\nbl 1f\n1: mov lr, r3", 3, 1 + call + 1),
        ("jump by a register", "mov r3, pc\nadds r3, #5\nbx r3\nnop\nnop", 4, 1 + 1 + branch + 1),
        ("write of pc", "mov r3, pc\nadds r3, #4\nmov pc, r3\nnop\nnop", 4, 1 + 1 + branch + 1),
        ("return by pop", "mov r3, lr\nbl 1f\nb 2f\n1: push {r4, lr}\npop {r4, pc}\n2: mov lr, r3", 6,
         1 + call + 3 + pop_pc + 2 + branch + 1),
        ("barrier", "dmb sy", 1, special),
        ("status", "mrs r3, apsr", 1, special),
    )
    return tuple((name, code, count, cycles, cycles) for name, code, count, cycles in exact)


# r0 is the instance, r1 and r2 the buffers, all in RAM.
CASES: Mapping[str, tuple[Case, ...]] = {
    "cortex-m3": (
        ("plain", "adds r3, r0, #1", 1, 1, 1),
        ("multiply", "mul r3, r0, r1", 1, 1, 1),
        ("multiply and add", "mla r3, r0, r1, r2", 1, 2, 2),
        ("multiply and subtract", "mls r3, r0, r1, r2", 1, 2, 2),
        ("long multiply", "smull r2, r3, r0, r1", 1, 3, 5),
        ("long multiply, unsigned", "umull r2, r3, r0, r1", 1, 3, 5),
        ("long multiply and add", "smlal r2, r3, r0, r1", 1, 4, 7),
        ("saturate", "ssat r3, #16, r0", 1, 1, 1),
        ("divide", "udiv r3, r0, r1", 1, 2, 12),
        ("load", "ldr r3, [r0]", 1, 2, 2),
        ("two loads", "ldr r2, [r0]\nldr r3, [r0, #4]", 2, 3, 4),
        ("store", "str r1, [r0]", 1, 1, 1),
        ("pair", "ldrd r2, r3, [r0]", 1, 3, 3),
        ("push and pop", "push {r4, r5, r6}\npop {r4, r5, r6}", 2, 8, 8),
        ("branch taken", "cmp r0, #0\nbne 1f\nnop\n1:", 2, 3, 5),
        ("condition holds", "cmp r0, #0\nit ne\nmlane r3, r0, r1, r2", 3, 3, 4),
        ("condition fails", "cmp r0, #0\nit eq\nmlaeq r3, r0, r1, r2", 3, 2, 3),
    ),
    "cortex-m0": armv6m(branch=3, call=4, pop_pc=4, special=4, multiply=1),
    "cortex-m0-mul32": armv6m(branch=3, call=4, pop_pc=4, special=4, multiply=32),
    "cortex-m0plus": armv6m(branch=2, call=3, pop_pc=3, special=3, multiply=1),
    "cortex-m0plus-mul32": armv6m(branch=2, call=3, pop_pc=3, special=3, multiply=32),
    "rv32im-picorv32": (
        ("plain", "addi a3, a0, 1", 1, 3, 3),
        ("two registers", "add a3, a0, a1", 1, 3, 3),
        ("shift", "sll a3, a0, a1", 1, 3, 3),
        ("multiply", "mul a3, a0, a1", 1, 6, 6),
        ("high multiply", "mulhsu a3, a0, a1", 1, 6, 6),
        ("divide", "div a3, a0, a1", 1, 40, 40),
        ("remainder by zero", "remu a3, a0, zero", 1, 40, 40),
        ("load", "lw a3, 0(a0)", 1, 5, 5),
        ("store", "sb a1, 3(a0)", 1, 5, 5),
        ("jump", "j 1f\nnop\n1:", 1, 3, 3),
        ("branch not taken", "beqz a0, 1f\nnop\n1:", 2, 6, 6),
        ("branch taken", "bnez a0, 1f\nnop\n1:", 1, 5, 5),
        ("branch to the next address", "beqz a0, 1f\n1: addi a3, a0, 1", 2, 3 + 3, 5 + 3),
        ("loop of five", "li a3, 5\n1: addi a3, a3, -1\nbnez a3, 1b", 11, 3 + 5 * 3 + 4 * 5 + 3, 3 + 5 * 3 + 4 * 5 + 3),
        ("jump by a register", "auipc a3, 0\njalr x0, 12(a3)\nnop\nnop", 3, 3 + 6 + 3, 3 + 6 + 3),
    ),
    "rv32imac-hazard3": (
        ("plain", "addi a3, a0, 1", 1, 1, 1),
        ("multiply", "mulh a3, a0, a1", 1, 1, 1),
        ("divide", "divu a3, a0, a1", 1, 18, 18),
        ("signed divide", "rem a3, a0, a1", 1, 18, 19),
        ("load", "lw a3, 0(a0)", 1, 1, 2),
        ("store", "sh a1, 2(a0)", 1, 1, 1),
        ("jump", ".p2align 2\nj 1f\n.p2align 2\n1: mv a3, a0", 2, 2 + 1, 2 + 1),
        ("jump to a split instruction", "j 1f\n.p2align 2\nc.nop\n1: mulh a3, a0, a1", 2, 2 + 1, 2 + 1 + 1),
        ("branch not taken", "beqz a0, 1f\nnop\n1:", 2, 1 + 1, 2 + 1),
        ("branch taken", "bnez a0, 1f\n.p2align 2\n1: c.mv a3, a0", 2, 1 + 1, 2 + 1),
        ("loop of five", "li a3, 5\n1: c.addi a3, -1\nbnez a3, 1b", 11, 1 + 5 + 5, 1 + 5 + 5 * 2),
    ),
}
ALL = [(core, case[0]) for core, cases in CASES.items() for case in cases]


def charge(core: str, name: str) -> tuple[int, int, int]:
    names = [case[0] for case in CASES[core]]
    return programs.charge(programs.cases(core, tuple(case[1] for case in CASES[core])), core,
                           f"case_{names.index(name)}")


@pytest.mark.parametrize(("core", "name"), ALL, ids=[f"{core} {name}" for core, name in ALL])
def test_a_program_costs_what_the_manual_says(core: str, name: str) -> None:
    assert charge(core, name) == next(case[2:] for case in CASES[core] if case[0] == name)


WRONG: tuple[tuple[str, str, str, Any], ...] = (
    ("cortex-m3", "multiply and add", "table", {"mla": Cycles(1, 1)}),
    ("cortex-m3", "long multiply", "table", {"smull": Cycles(1, 1)}),
    ("cortex-m3", "divide", "divide", Cycles(2, 11)),
    ("cortex-m0", "return by pop", "pop_pc", 3),
    ("cortex-m0plus", "call of the next address", "call", 4),
    ("cortex-m0plus-mul32", "multiply", "multiply", 1),
    ("rv32im-picorv32", "multiply", "cycles", {"mul": 5}),
    ("rv32im-picorv32", "branch taken", "branch_taken", 3),
    ("rv32im-picorv32", "plain", "plain", 1),
    ("rv32imac-hazard3", "signed divide", "cycles", {"rem": Cycles(18, 18)}),
    ("rv32imac-hazard3", "jump to a split instruction", "split_target", Cycles(0, 0)),
)


@pytest.mark.parametrize(("core", "name", "field", "value"), WRONG)
def test_a_wrong_entry_is_noticed(
    core: str, name: str, field: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, table = charge(core, name), load_core(core).timing_table
    model: Any = timing_model(table)
    entry = {**getattr(model, field), **value} if isinstance(value, dict) else value
    monkeypatch.setitem(timing_tables.TABLES, table, replace(model, **{field: entry}))  # type: ignore[arg-type]
    assert charge(core, name) != right


ABSENT = {"smlad": "20fb0132", "smlabb": "10fb0132", "smulbb": "10fb01f2", "smlalbb": "c0fb8132", "smmla": "50fb0132",
          "sxtab": "40fa81f2", "uxtb16": "3ffa81f2", "pkhbt": "c0ea0102", "qadd": "80fa81f2", "uadd8": "80fa41f2",
          "sel": "a0fa81f2", "ssat16": "20f30102", "umaal": "e0fb6132", "usad8": "70fb01f2", "smlaldx": "c0fbd132"}
"""Instructions of Armv7E-M, as bytes."""


@pytest.mark.parametrize("name", ABSENT)
def test_dsp_instructions_have_no_count_without_dsp(name: str) -> None:
    block = decode(bytes.fromhex(ABSENT[name]), 0x100, "arm")
    assert block[0].name == name
    timing_model("cortex_m4").cost(block, None)
    with pytest.raises(BadInput, match=f"no cycle count for '{name}' at 0x00000100: this timing table has no DSP"):
        timing_model("cortex_m3").cost(block, None)


def test_what_armv7m_has_is_no_dsp_instruction() -> None:
    """Whatever a Cortex-M3 executes has a count."""
    code = ("00fb0132" "00fb1132" "80fb0123" "a0fb0123" "c0fb0123" "e0fb0123" "00f30f03" "80f30f03" "0fb2" "4fb2" "8fb2"
            "cfb2" "4ffa81f2" "b0fa80f2" "90faa0f2" "c0f30703" "40f30703" "60f30703" "b0fbf1f2" "d0e90023")
    block = decode(bytes.fromhex(code), 0x100, "arm")
    assert len(block) == 20
    assert timing_model("cortex_m3").cost(block, None).taken.lower > 0


@pytest.mark.parametrize(("table", "counts"), [("count", True), ("count_integer", False)])
def test_an_fpu_s_instruction_counts_where_there_is_one(table: str, counts: bool) -> None:
    block = decode(bytes.fromhex("30ee810a"), 0x100, "arm")
    if counts:
        assert timing_model(table).cost(block, None).taken == Cycles(1, 1)
    else:
        with pytest.raises(BadInput, match="'vadd' at 0x00000100: the core has no FPU"):
            timing_model(table).cost(block, None)


@pytest.mark.parametrize("code", ["18bf", "00b1", "00fb01f2", "b0fa80f0", "a0fb0123"],
                         ids=["it", "cbz", "mul", "clz", "umull"])
def test_what_armv6m_has_not_has_no_count(code: str) -> None:
    block = decode(bytes.fromhex(code), 0x100, "arm")
    with pytest.raises(BadInput, match=f"no cycle count for '{block[0].name}' at 0x00000100: Armv6-M has no such"):
        timing_model("cortex_m0").cost(block, None)


def test_compressed_instructions_have_no_count_on_picorv32() -> None:
    block = decode(bytes.fromhex("aa86"), 0x100, "riscv32")  # c.mv a3, a0
    assert timing_model("ibex_small").cost(block, None).taken == Cycles(1, 1)
    with pytest.raises(BadInput, match="the compressed 'mv' at 0x00000100: this timing table is for RV32IM"):
        timing_model("picorv32").cost(block, None)


def test_atomic_instructions_have_no_count_on_hazard3() -> None:
    block = decode(bytes.fromhex("2f25b500"), 0x100, "riscv32")  # amoadd.w a0, a1, (a0)
    with pytest.raises(BadInput, match=r"no cycle count for the atomic 'amoadd\.w"):
        timing_model("hazard3").cost(block, None)
