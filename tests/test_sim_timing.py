"""Cycle counts of small programs against the manuals' tables, worked out by hand."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from ncpc.cores import load_core
from ncpc.errors import BadInput
from ncpc.sim import timing_tables
from ncpc.sim.decode import decode
from ncpc.sim.emulator import call, open_device
from ncpc.sim.timing import ALWAYS, Correction, Cycles, total
from ncpc.sim.timing_ibex import IBEX_SMALL
from ncpc.sim.timing_tables import timing_model

spec = importlib.util.spec_from_file_location("sim_programs", Path(__file__).parent / "sim_programs.py")
assert spec is not None
assert spec.loader is not None
programs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(programs)
ARM, RISCV = programs.ARM, programs.RISCV


@pytest.fixture(autouse=True)
def _tools(require_tool):
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


# Cortex-M4: name, code, instructions, lower, upper. r0 is the instance, r1 and r2 the buffers, all in RAM.
CORTEX_M4_CASES = [
    ("plain", "adds r3, r0, #1", 1, 1, 1),
    ("multiply", "mul r3, r0, r1", 1, 1, 1),
    ("multiply and add", "mla r3, r0, r1, r2", 1, 1, 1),
    ("long multiply", "smull r2, r3, r0, r1", 1, 1, 1),
    ("saturate", "ssat r3, #16, r0", 1, 1, 1),
    ("dual 16-bit multiply", "smlad r3, r0, r1, r2", 1, 1, 1),
    ("divide", "sdiv r3, r0, r1", 1, 2, 12),
    ("unsigned divide", "udiv r3, r0, r1", 1, 2, 12),
    ("load", "ldr r3, [r0]", 1, 2, 2),
    ("load halfword by register", "movs r3, #2\nldrsh r2, [r0, r3]", 2, 3, 4),
    ("two loads", "ldr r2, [r0]\nldr r3, [r0, #4]", 2, 3, 4),
    ("three loads", "ldr r2, [r0]\nldr r3, [r0, #4]\nldrb r1, [r0, #9]", 3, 4, 6),
    ("dependent loads", "str r0, [r0]\nldr r2, [r0]\nldr r3, [r2]", 3, 4, 5),
    ("load behind its address", "adds r3, r0, #4\nldr r3, [r3]", 2, 3, 4),
    ("load after something else", "adds r3, r1, #4\nldr r3, [r0]", 2, 3, 3),
    ("loads that step their address", "mov r3, r0\nnop\nldr r2, [r3], #4\nldr r1, [r3], #4", 4, 5, 6),
    ("literal", "ldr r3, =0x12345678", 1, 2, 3),
    ("store", "str r1, [r0]", 1, 1, 1),
    ("store by register", "movs r3, #4\nnop\nstr r1, [r0, r3]", 3, 3, 4),
    ("load then store", "ldr r3, [r0]\nstr r3, [r0, #4]", 2, 3, 3),
    ("pair", "ldrd r2, r3, [r0]", 1, 3, 3),
    ("multiple", "ldm r0, {r1, r2, r3}", 1, 4, 4),
    ("push and pop", "push {r4, r5, r6}\npop {r4, r5, r6}", 2, 8, 8),
    ("jump", "b 1f\nnop\n1:", 1, 2, 4),
    ("branch not taken", "cmp r0, #0\nbeq 1f\nnop\n1:", 3, 3, 3),
    ("branch taken", "cmp r0, #0\nbne 1f\nnop\n1:", 2, 3, 5),
    ("compare and branch taken", "cbnz r0, 1f\nnop\n1:", 1, 2, 4),
    ("loop of five", "movs r2, #5\n1: subs r2, #1\nbne 1b", 11, 1 + 5 + 4 * 2 + 1, 1 + 5 + 4 * 4 + 1),
    ("condition fails", "cmp r0, #0\nit eq\nldreq r3, [r0]", 3, 2, 3),
    ("condition holds", "cmp r0, #0\nit ne\nldrne r3, [r0]", 3, 3, 4),
    ("divide, condition fails", "cmp r0, #0\nite eq\nsdiveq r3, r0, r1\nmovne r3, #1", 4, 3, 4),
    ("divide, condition holds", "cmp r0, #0\nite ne\nsdivne r3, r0, r1\nmoveq r3, #1", 4, 4, 15),
    ("jump to the next address", "b 1f\n1: adds r3, r0, #1", 2, 2 + 1, 4 + 1),
    ("call of the next address", "mov r3, lr\nbl 1f\n1: mov lr, r3", 3, 1 + 2 + 1, 1 + 4 + 1),
    ("branch to the next address, not taken", "cmp r0, #0\nbeq 1f\n1: adds r3, r0, #1", 3, 1 + 1 + 1, 1 + 4 + 1),
    ("branch to the next address, taken", "cmp r0, #0\nbne 1f\n1: adds r3, r0, #1", 3, 1 + 1 + 1, 1 + 4 + 1),
    ("jumps in a row", "b 1f\n1: b 1f\n1: b 1f\n1:", 3, 3 * 2, 3 * 4),
    ("constants that look like code", "b 1f\n.hword 0xbf04, 0xffb0, 0x0840\n1: adds r3, r0, #1", 2, 2 + 1, 4 + 1),
    ("table branch", "movs r3, #0\ntbb [pc, r3]\n.byte 1, 1\n1:", 2, 1 + 3, 1 + 5),
]


def charge(core, table, name):
    names = [c[0] for c in table]
    elf = programs.cases(core, tuple(c[1] for c in table))
    return programs.charge(elf, core, f"case_{names.index(name)}")


@pytest.mark.parametrize("case", CORTEX_M4_CASES, ids=lambda case: case[0])
def test_cortex_m4(case):
    assert charge(ARM, CORTEX_M4_CASES, case[0]) == case[2:]


def test_cortex_m4_call_and_return():
    code = "mov r3, lr\nbl callee\nmov lr, r3"
    after = ".thumb_func\n.type callee, %function\ncallee: bx lr\n.size callee, .-callee\n"
    result = programs.run(ARM, programs.assembled(ARM, code, after))
    assert (result.instructions[0, 0], result.lower[0, 0], result.upper[0, 0]) == (5, 6 + 2, 10 + 4)
    callee = result.functions["callee"]
    assert (callee.entries, callee.instructions, callee.lower, callee.upper) == (1, 1, 2, 4)


IBEX_CASES = [
    ("plain", "addi a3, a0, 1", 1, 1),
    ("compressed", "c.mv a3, a0", 1, 1),
    ("multiply", "mul a3, a0, a1", 1, 3),
    ("high multiply", "mulh a3, a0, a1", 1, 4),
    ("high unsigned multiply", "mulhu a3, a0, a1", 1, 4),
    ("divide", "div a3, a0, a1", 1, 37),
    ("remainder", "remu a3, a0, a1", 1, 37),
    ("divide by zero", "li a3, 0\ndiv a3, a0, a3", 2, 1 + 2),
    ("remainder by zero", "rem a3, a0, zero", 1, 2),
    ("load", "lw a3, 0(a0)", 1, 2),
    ("load byte", "lbu a3, 5(a0)", 1, 2),
    ("store", "sw a3, 0(a0)", 1, 2),
    ("two loads", "lw a3, 0(a0)\nlh a4, 4(a0)", 2, 4),
    ("branch not taken", "beqz a0, 1f\nnop\n1:", 2, 2),
    ("branch taken", "bnez a0, 1f\nnop\n1:", 1, 3),
    ("jump", "j 1f\nnop\n1:", 1, 2),
    ("loop of five", "li a3, 5\n1: addi a3, a3, -1\nbnez a3, 1b", 11, 1 + 5 + 4 * 3 + 1),
    ("jump to a 32-bit instruction on a word", "j 1f\n.p2align 2\n1: mulh a3, a0, a1", 2, 2 + 4),
    ("jump to a split 32-bit instruction", "j 1f\n.p2align 2\nc.nop\n1: mulh a3, a0, a1", 2, 2 + 1 + 4),
    ("jump to the next address", "j 1f\n1: c.mv a3, a0", 2, 2 + 1),
    ("call of the next address", "mv a3, ra\njal 1f\n1: mv ra, a3", 3, 1 + 2 + 1),
    ("jump to the next, a split 32-bit instruction", "c.j 1f\n1: mulh a3, a0, a1", 2, 2 + 1 + 4),
    ("jump by a register to the next", "auipc a3, 0\njalr x0, 8(a3)\naddi a3, a0, 1", 3, 1 + 2 + 1),
    ("fetch anew", ".p2align 2\n.word 0x100f\nc.mv a3, a0", 2, 2 + 1),
    ("fetch a split 32-bit instruction anew", ".p2align 2\nc.nop\n.word 0x100f\nmulh a3, a0, a1", 3, 1 + 2 + 1 + 4),
    ("jump to a split compressed one", "j 1f\n.p2align 2\nc.nop\n1: c.nop\nmulh a3, a0, a1", 3, 2 + 1 + 4),
]


@pytest.mark.parametrize("case", IBEX_CASES, ids=lambda case: case[0])
def test_ibex(case):
    name, _, instructions, cycles = case
    assert charge(RISCV, IBEX_CASES, name) == (instructions, cycles, cycles)


@pytest.mark.parametrize("taken", ["beqz", "bnez"])
def test_ibex_branch_to_the_next_address(taken):
    """Whether it is taken cannot be seen from what is executed: it costs 1 cycle, or 3."""
    elf = programs.cases(RISCV, (f"{taken} a0, 1f\n1: c.mv a3, a0",))
    assert programs.charge(elf, RISCV, "case_0") == (2, 1 + 1, 3 + 1)


@pytest.mark.parametrize("hook", ["c", "python"])
def test_float_code_costs_what_its_instructions_cost(hook):
    """The compiler's float routines jump to the very next address again and again."""
    from ncpc.sim.accounting import by_function

    elf = programs.compiled(RISCV, FLOAT_STEP)
    device, other = (open_device(elf, load_core(RISCV), programs.PLAIN, hook) for _ in range(2))
    calls = [call(device, name, (device.instance, device.x, device.y)) for name in ("init", "step", "step")]
    for name in ("init", "step"):
        call(other, name, (other.instance, other.x, other.y))
    assert calls[2].lower == calls[2].upper == programs.ibex_by_instruction(other, "step")
    blocks = [device.account.blocks[k] for k in range(len(device.account.owner))]
    inside = [b for b in blocks if b.falls and _ends_in_a_jump(device, b)]
    assert sum(b.falls for b in inside) > 0
    assert sum(c.lower for c in by_function(device.account).values()) == sum(c.lower for c in calls)


def _ends_in_a_jump(device, block):
    at = block.start - device.account.machine.code_start
    return decode(device.account.code[at : at + block.size], block.start, RISCV)[-1].always_jumps


@pytest.mark.parametrize(("condition", "cycles"), [("eq", (3, 2, 3)), ("ne", (3, 3, 4))])
def test_a_condition_governs_across_a_page(condition, cycles):
    """The emulator ends a block at a page's end, here between IT and the load."""
    body = f"b 1f\n.p2align 12\n.space 4092\n1: cmp r0, #0\nit {condition}\nldr{condition} r3, [r0]"
    elf = programs.cases(ARM, (body,))
    jump = programs.charge(elf, ARM, "case_0")
    assert (jump[0] - 1, jump[1] - 2, jump[2] - 4) == cycles


def test_ibex_call_and_return():
    after = ".type callee, %function\n.p2align 2\ncallee: ret\n.size callee, .-callee\n"
    result = programs.run(RISCV, programs.assembled(RISCV, "mv a3, ra\njal ra, callee\nmv ra, a3", after))
    assert (result.instructions[0, 0], result.lower[0, 0], result.upper[0, 0]) == (5, 6 + 2, 6 + 2)


def test_divide_cost_follows_its_operand_in_every_step():
    code = "lw a3, 0(a1)\nlw a4, 4(a1)\ndiv a3, a3, a4\nsw a3, 0(a2)"
    x = programs.inputs((7, 2), (7, 0), (-9, 4), (1, 0))
    result = programs.run(RISCV, programs.assembled(RISCV, code), x)
    assert result.lower[0].tolist() == [8 + 37, 8 + 2, 8 + 37, 8 + 2]
    assert result.y[0].view("<i4").ravel().tolist() == [3, -1, -2, -1]
    assert result.functions["step"].lower == result.lower.sum()


FLOAT_STEP = """
int init(float *s); int reset(float *s); int step(float *s, const float x[2], float y[1]);
int init(float *s) { for (int i = 0; i < 4; i++) { s[i] = 0.25f * (float)i; } return 0; }
int reset(float *s) { return init(s); }
int step(float *s, const float x[2], float y[1]) {
  for (int i = 0; i < 4; i++) { s[i] = (s[i] * 0.75f + x[i & 1] - 0.125f) / (1.5f + s[i] * s[i]); }
  y[0] = s[0]; return s[1] < 0.5f;
}
"""


class SlowSigns:
    """Ibex, with a divider that takes one cycle more when the operands' signs differ."""

    def cost(self, block, following):
        plain = IBEX_SMALL.cost(block, following)
        divides = [i for i in block if i.name == "div"]
        signs = [Correction(i.address, "signs-differ", Cycles(1, 1), ALWAYS, i.reads[0], i.reads[1]) for i in divides]
        return replace(plain, corrections=(*plain.corrections, *signs))


@pytest.mark.parametrize("hook", ["c", "python"])
def test_a_correction_by_the_operands_signs(hook, monkeypatch):
    monkeypatch.setitem(timing_tables.TABLES, "ibex_small", SlowSigns())
    code = "lw a3, 0(a1)\nlw a4, 4(a1)\ndiv a3, a3, a4\nsw a3, 0(a2)"
    x = programs.inputs((7, 2), (-7, 2), (7, -2), (-7, -2), (-7, 0), (7, 0))
    result = programs.run(RISCV, programs.assembled(RISCV, code), x, hook=hook)
    assert (result.lower[0] - 8).tolist() == [37, 38, 38, 37, 3, 2]
    assert result.functions["step"].upper == result.upper.sum()


WRONG_ENTRIES = [
    ("ibex_small", "cycles", {"lw": 3}, RISCV, "load"),
    ("ibex_small", "cycles", {"mul": 1}, RISCV, "multiply"),
    ("ibex_small", "cycles", {"div": 38}, RISCV, "divide"),
    ("ibex_small", "branch_taken", 2, RISCV, "branch taken"),
    ("ibex_small", "split_target", 0, RISCV, "jump to a split 32-bit instruction"),
    ("cortex_m4", "divide", Cycles(2, 11), ARM, "divide"),
    ("cortex_m4", "load", Cycles(1, 1), ARM, "load"),
    ("cortex_m4", "refill", Cycles(1, 2), ARM, "jump"),
    ("cortex_m4", "table", {"mul": Cycles(2, 2)}, ARM, "multiply"),
]


@pytest.mark.parametrize(
    ("table", "field", "value", "core", "case"),
    WRONG_ENTRIES,
    ids=[f"{row[0]}.{row[1]} {row[4]}" for row in WRONG_ENTRIES],
)
def test_a_wrong_entry_is_noticed(table, field, value, core, case, monkeypatch):
    """The same cases on a table with one entry changed: the count must come out different."""
    cases = IBEX_CASES if core == RISCV else CORTEX_M4_CASES
    right = charge(core, cases, case)
    model = timing_model(table)
    entry = {**getattr(model, field), **value} if isinstance(value, dict) else value
    wrong = replace(model, **{field: entry})
    monkeypatch.setitem(timing_tables.TABLES, table, wrong)
    assert charge(core, cases, case) != right


def test_a_run_split_between_two_blocks_costs_the_same():
    """The emulator may end a block anywhere; a load right behind the split overlaps as if there were none."""
    model = timing_model("cortex_m4")
    code = bytes.fromhex("0268436804300168")  # ldr r2,[r0]; ldr r3,[r0,#4]; adds r0,#4; ldr r1,[r0]
    whole = decode(code, 0x08000000, "arm")
    unsplit = total(model.cost(whole, None).body)
    for at in (1, 2, 3):
        parts = model.cost(whole[:at], whole[at]), model.cost(whole[at:], None)
        assert total(parts[0].body) + total(parts[1].body) == unsplit
    assert unsplit == Cycles(2 + 1 + 1 + 2, 2 + 2 + 1 + 3)


def test_an_unknown_timing_table_lists_the_known_ones():
    with pytest.raises(BadInput, match=r"unknown timing table 'x'.*cortex_m4"):
        timing_model("x")


def test_an_fpu_instruction_has_no_count_without_an_fpu():
    block = decode(bytes.fromhex("31ee010a7047"), 0x100, "arm")
    assert block[0].name == "vadd"
    with pytest.raises(BadInput, match="no cycle count for 'vadd' at 0x00000100"):
        timing_model("cortex_m4").cost(block, None)


def test_count_charges_one_for_everything():
    block = decode(bytes.fromhex("02687047"), 0, "arm")
    assert total(timing_model("count").cost(block, None).body) == Cycles(2, 2)
