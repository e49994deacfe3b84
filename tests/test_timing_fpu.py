"""Cycle counts of the Cortex-M4's FPU against its manual's table, worked out by hand; and what surrounds them."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from ncpc.cores import load_core
from ncpc.errors import BadInput
from ncpc.sim import timing_tables
from ncpc.sim.decode import arm_number, decode
from ncpc.sim.emulator import open_device
from ncpc.sim.profile import run_sequences
from ncpc.sim.timing import Cycles
from ncpc.sim.timing_fpu import Fpu
from ncpc.sim.timing_tables import timing_model
from tests.conftest import RequireTool

spec = importlib.util.spec_from_file_location("sim_programs", Path(__file__).parent / "sim_programs.py")
assert spec is not None
assert spec.loader is not None
programs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(programs)
M4F = "cortex-m4f"


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


# name, code, instructions, lower, upper. r0 is the instance, r1 and r2 the buffers, all in RAM.
CASES = [
    ("plain", "adds r3, r0, #1", 1, 1, 1),
    ("add", "vadd.f32 s0, s1, s2", 1, 1, 1),
    ("multiply", "vmul.f32 s0, s1, s2", 1, 1, 1),
    ("multiply and add", "vmla.f32 s0, s1, s2", 1, 1, 3),
    ("fused", "vfma.f32 s0, s1, s2", 1, 1, 3),
    ("a result that is waited for", "vadd.f32 s0, s1, s2\nvmul.f32 s3, s0, s1", 2, 2, 3),
    ("a result that is not", "vadd.f32 s0, s1, s2\nvmul.f32 s3, s1, s2", 2, 2, 2),
    ("a result a step later", "vadd.f32 s0, s1, s2\nnop\nvmul.f32 s3, s0, s1", 3, 3, 3),
    ("a result that is stored", "vadd.f32 s0, s1, s2\nvstr s0, [r0]", 2, 3, 4),
    ("a result in half a pair", "vadd.f32 s1, s1, s2\nvstr d0, [r0]", 2, 4, 5),
    ("compare and look", "vcmp.f32 s0, s1\nvmrs APSR_nzcv, fpscr", 2, 2, 3),
    ("divide that nothing waits for", "vdiv.f32 s0, s1, s2", 1, 1, 14),
    ("divide, then its result", "vdiv.f32 s0, s1, s2\nvadd.f32 s0, s0, s1", 2, 14 + 1, 14 + 2),
    ("divide beside integers", "vdiv.f32 s0, s1, s2\nadds r3, r1, #1\nadds r3, #1\nvadd.f32 s0, s0, s1", 4, 14 + 1, 17),
    ("divide, other floats between", "vdiv.f32 s0, s1, s2\nvadd.f32 s4, s5, s6\nvmul.f32 s0, s0, s1", 3, 15, 16),
    ("root", "vsqrt.f32 s0, s1\nvmov r3, s0", 2, 14 + 1, 14 + 2),
    ("load", "vldr s0, [r0]", 1, 2, 2),
    ("load a pair", "vldr d0, [r0]", 1, 3, 3),
    ("literal", "vldr s0, 1f\nb 2f\n.p2align 2\n1: .word 7\n2:", 2, 2 + 2, 3 + 4),
    ("two loads", "vldr s0, [r0]\nvldr s1, [r0, #4]", 2, 3, 4),
    ("load behind its address", "adds r3, r0, #4\nvldr s0, [r3]", 2, 3, 4),
    ("a loaded number", "vldr s0, [r0]\nvadd.f32 s0, s0, s1", 2, 3, 3),
    ("store", "vstr s0, [r0]", 1, 2, 2),
    ("multiple", "vldmia r0, {s0-s4}", 1, 6, 6),
    ("multiple pairs", "vldmia r0, {d0-d2}", 1, 7, 7),
    ("push and pop", "vpush {d8, d9}\nvpop {d8, d9}", 2, 10, 10),
    ("push of one", "vpush {s16}\nvpop {s16}", 2, 4, 4),
    ("moves", "vmov s0, r0\nvmov r3, s0\nvmov.f32 s1, s0\nvmov.f32 s2, #1.0", 4, 4, 4),
    ("two registers at once", "vmov d0, r0, r1\nvmov r3, r12, d0", 2, 4, 4),
    ("conversion", "vmov s0, r0\nvcvt.f32.s32 s0, s0\nvcvt.s32.f32 s0, s0", 3, 3, 4),
    ("condition fails", "cmp r0, #0\nit eq\nvldreq s0, [r0]", 3, 2, 3),
    ("condition holds", "cmp r0, #0\nit ne\nvldrne s0, [r0]", 3, 3, 4),
]


def charge(name: str) -> tuple[int, int, int]:
    elf = programs.cases(M4F, tuple(case[1] for case in CASES))
    return programs.charge(elf, M4F, f"case_{[case[0] for case in CASES].index(name)}")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_cortex_m4f(case: tuple[str, str, int, int, int]) -> None:
    assert charge(case[0]) == case[2:]


@pytest.mark.parametrize(("entry", "case"), [
    ({"vadd": Cycles(2, 2)}, "add"), ({"vmla": Cycles(1, 1)}, "multiply and add"),
    ({"vdiv": Cycles(13, 13)}, "divide, then its result"),
])
def test_a_wrong_entry_is_noticed(entry: dict[str, Cycles], case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, model = charge(case), timing_model("cortex_m4f")
    wrong = replace(model, fpu=Fpu({**model.fpu.table, **entry}))  # type: ignore[type-var, attr-defined]
    monkeypatch.setitem(timing_tables.TABLES, "cortex_m4f", wrong)  # type: ignore[arg-type]
    assert charge(case) != right


def test_what_this_fpu_has_not_has_no_count() -> None:
    block = decode(bytes.fromhex("30fe810a"), 0x100, "arm")
    assert block[0].name == "vselgt"
    with pytest.raises(BadInput, match="no cycle count for 'vselgt' at 0x00000100: this timing table's FPU has none"):
        timing_model("cortex_m4f").cost(block, None)


def test_lists_of_floats_are_read_as_what_they_move() -> None:
    s0 = arm_number(_single(0))
    push, load = decode(bytes.fromhex("2ded048b" "b0ec040a"), 0, "arm")  # vpush {d8, d9}; vldmia r0!, {s0-s3}
    assert (push.name, push.listed, push.reads, push.writes) == ("vpush", 4, (13, *range(s0 + 16, s0 + 20)), (13,))
    assert (load.name, load.listed, load.reads, load.writes) == ("vldmia", 4, (0,), (0, *range(s0, s0 + 4)))


def _single(number: int) -> int:
    from capstone import arm

    return int(arm.ARM_REG_S0) + number


KEPT = {
    "words beside a pushed pair": "push {r0, r1}\nvpush {d8, d9}\nldr r3, [sp, #16]\nldr r3, [r3]\nvpop {d8, d9}\n"
                                  "add sp, #8",
    "a loaded list": "add r3, r0, #8\nvldmia r3!, {s0-s3}\nldr r3, [r3]\nvstr d0, [r0]",
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_known_to_be_aligned_stays_so_beside_floats(name: str) -> None:
    device = open_device(programs.assembled(M4F, KEPT[name]), load_core(M4F), programs.PLAIN, "c")
    said, _ = run_sequences(device, {"x": programs.inputs((0, 0))}, lambda: None)
    assert (said["faults"], said["completed"], device.repeated) == ([], 1, 0)


def test_a_word_that_a_float_overwrites_on_the_stack_is_forgotten() -> None:
    """A pair of singles is two words: what was known of either is gone."""
    body = "push {r0, r1}\nvmov d0, r0, r1\nvstr d0, [sp]\nldr r3, [sp, #4]\nldr r3, [r3]\nadd sp, #8"
    device = open_device(programs.assembled(M4F, body), load_core(M4F), programs.PLAIN, "c")
    said, _ = run_sequences(device, {"x": programs.inputs((0, 0))}, lambda: None)
    assert (said["faults"], device.repeated) == ([], 1)


def test_a_misaligned_list_of_floats_is_a_fault() -> None:
    elf = programs.assembled(M4F, "adds r3, r1, #2\nvldmia r3, {s0, s1}")
    device = open_device(elf, load_core(M4F), programs.PLAIN, "c")
    said, _ = run_sequences(device, {"x": programs.inputs((0, 0))}, lambda: None)
    assert [fault["kind"] for fault in said["faults"]] == ["misaligned"]
