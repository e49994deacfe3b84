"""Misaligned accesses are found in whatever step they happen, and compiled policies need no second look at any."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from ncpc.cores import Core, load_core
from ncpc.cores.toolchain import build_elf
from ncpc.sim import accounting
from ncpc.sim.alignment import WORD, low
from ncpc.sim.emulator import Device, call, emulator_register, open_device
from ncpc.sim.layout import THROUGH
from ncpc.sim.plan import CallPlan
from ncpc.sim.profile import run_sequences
from ncpc.targets.c.device import plan_for, symbol_roots
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests import sim_programs as programs
from tests.c_programs import hostile, program_of, small_policy

ARM, RISCV = programs.ARM, programs.RISCV


@pytest.fixture(autouse=True)
def _tools(require_tool) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


LATE = 7
PLANTED = {
    "by its operand": (ARM, "ldr r3, [r1]\nadd r3, r1\nldr r3, [r3]", 4),
    "by its operand, a half": (RISCV, "lw a3, 0(a1)\nadd a3, a3, a1\nlh a3, 0(a3)", 2),
    "by an index": (ARM, "ldr r3, [r1]\nldrh r3, [r1, r3]", 2),
    "on another path": (ARM, "ldr r3, [r1]\ncmp r3, #0\nbeq 1f\nldr r3, [r1, #2]\n1:", 4),
    "on another path, stored": (RISCV, "lw a3, 0(a1)\nbeqz a3, 1f\nsw a3, 1(a2)\n1:", 4),
    "under a condition": (ARM, "ldr r3, [r1]\ncmp r3, #0\nit ne\nldrne r3, [r1, #2]\nb 1f\n1:", 4),
    "spilled by a copy": (ARM, "str r1, [sp, #-8]!\nldr r3, [r1]\nadd r3, r1\nmov r12, sp\nstr r3, [r12]\n"
                               "ldr r3, [sp]\nldr r3, [r3]\nadd sp, #8", 4),
    "through the stack": (RISCV, "lw a3, 0(a1)\nadd a3, a3, a1\nsw a3, -4(sp)\nlw a4, -4(sp)\nlw a4, 0(a4)", 4),
}


def late(value: int) -> np.ndarray:
    return programs.inputs(*[(value * (t == LATE), 0) for t in range(LATE + 3)])


@pytest.mark.parametrize("hook", ["c", "python"])
@pytest.mark.parametrize("name", PLANTED)
def test_a_late_misaligned_access_is_found(name: str, hook: str) -> None:
    """The seven steps before it are right, and stay as they were."""
    core, body, size = PLANTED[name]
    result = programs.run(core, programs.assembled(core, body), late(1), hook=hook)
    (fault,) = result.faults
    assert (fault.kind, fault.step, fault.size, fault.function) == ("misaligned", LATE, size, "step")
    assert fault.address % size
    assert result.completed == LATE
    assert not programs.run(core, programs.assembled(core, body), late(0), hook=hook).faults


CONDITIONAL_RETURN = """push {r4, lr}
ldr r3, [r1]
add r3, r1
ldr r3, [r3]
movt r3, #0x4536
bl 2f
ldr r4, [r1]
cmp r3, #99
bl 1f
adds r3, #7
str r3, [r2]
pop {r4, pc}
1:
mov r3, r1
ldr r3, [r3]
bx lr
2:
push {r4, lr}
cmp r1, r1
it eq
popeq {r4, pc}
udf #0"""
"""An access that is not known to be aligned, but is; and a return under a condition, which leads to instructions under
none."""


@pytest.mark.parametrize("hook", ["c", "python"])
def test_a_second_look_at_a_conditional_return_sees_what_the_first_one_did(hook: str) -> None:
    """Watching accesses by the emulator's own hooks left the condition of the return on what came behind it."""
    result = programs.run(ARM, programs.assembled(ARM, CONDITIONAL_RETURN), late(0), hook=hook)
    assert not result.faults
    assert (result.y.view("<i4") == 7).all()


ALIGNED = {
    "indices": (ARM, "ldrb r3, [r1]\nlsls r3, r3, #2\nldr r3, [r1, r3]\nldrb r3, [r1]\nldrh r3, [r1, r3, lsl #1]"),
    "a table": (ARM, "ldr r3, =init\nmovw r2, #4\nadd r3, r0, r2\nldrd r2, r12, [r3], #8\n"
                     "and r3, r3, #4\nldr r3, [r1, r3]"),
    "spilled": (ARM, "push {r0, r1, r4, lr}\nmovs r0, #1\nldr r3, [sp, #4]\nldr r3, [r3, #4]\npop {r0, r1, r4, lr}\n"
                     "ldr r3, [r0]"),
    "a conditional return": (ARM, "push {r4, lr}\nmov r4, r1\nldr r3, [r1]\ncmp r3, #9\nit eq\npopeq {r4, pc}\n"
                                  "ldr r3, [r4]\nldr r4, [sp], #4\nldr lr, [sp], #4"),
    "spilled by a copy": (ARM, "str r0, [sp, #-16]!\nadd r3, sp, #4\nstm r3!, {r1, r2}\nldr r3, [sp, #4]\n"
                               "ldr r3, [r3]\nadd sp, #16"),
    "spilled by a copy, RISC-V": (RISCV, "addi sp, sp, -16\naddi a3, sp, 4\nsw a1, 4(a3)\nlw a3, 8(sp)\nlw a3, 0(a3)\n"
                                         "addi sp, sp, 16"),
    "compressed": (RISCV, "lbu a3, 0(a1)\nc.slli a3, 2\nc.add a3, a1\nc.lw a3, 4(a3)\naddi sp, sp, -16\n"
                          "c.swsp a1, 4(sp)\nc.li a1, 1\nc.lwsp a1, 4(sp)\nc.lw a3, 0(a1)\naddi sp, sp, 16"),
}


@pytest.mark.parametrize("name", ALIGNED)
def test_what_is_known_to_be_aligned_is_executed_once(name: str) -> None:
    core, body = ALIGNED[name]
    device = open_device(programs.assembled(core, body), load_core(core), programs.PLAIN, "c")
    said, _ = run_sequences(device, {"x": late(0)}, lambda: None)
    assert (said["faults"], said["completed"], device.repeated) == ([], LATE + 3, 0)


def policy_device(core: Core, scheme: str, hook: str) -> tuple[Device, CallPlan]:
    program = program_of(small_policy(3), scheme, "runtime")
    face = interface_of(program)
    plan = plan_for(face, hostile(program, 3, steps=6))
    elf = build_elf(emit_c(face), core, None, symbol_roots(face), extra_flags=(f"-D{face.macro}_PROFILE",)).elf
    return open_device(elf, core, plan.interface, hook), plan


def arrays(plan: CallPlan) -> dict[str, Any]:
    return {"x": plan.x, **({} if plan.dt is None else {"dt": plan.dt})}


@pytest.mark.parametrize("core", [ARM, RISCV])
@pytest.mark.parametrize("scheme", ["int16", pytest.param("float32", marks=pytest.mark.slow)])
def test_policies_need_no_second_look_and_what_is_known_is_true(core: str, scheme: str) -> None:
    """At the entry of every block that is executed, registers and stacked words have the zero bits they are said to."""
    device, plan = policy_device(load_core(core), scheme, "python")
    alignment, machine = device.account.alignment, device.account.machine
    assert alignment is not None
    checked = [0]

    def through(block: int, state: int) -> None:
        words, stacked = alignment.states[state]
        for register, (bits, place) in enumerate(words):
            if place is not None:
                at = device.engine.reg_read(emulator_register(device.core.arch, register))
                assert at == device.core.ram.end + place, (hex(device.account.blocks[block].start), register)
            if bits and register:
                value = device.engine.reg_read(emulator_register(device.core.arch, register))
                assert value % (1 << bits) == 0, (hex(device.account.blocks[block].start), register)
                checked[0] += 1
        for at, (bits, _) in stacked:
            where = device.core.ram.size + at
            assert int(device.memory[where]) % (1 << bits) == 0
            checked[0] += 1
        accounting._through(device.account, alignment, block, state)

    wrapped: Any = THROUGH(through)
    machine.through = wrapped
    some = {name: a[:1, : 2 if scheme == "float32" else 6] for name, a in arrays(plan).items()}
    said, _ = run_sequences(device, some, lambda: None)
    assert device.account.error is None
    assert (said["faults"], device.repeated) == ([], 0)
    assert checked[0] > 1000


@pytest.mark.parametrize("core", [ARM, RISCV])
def test_a_full_table_changes_nothing(core: str) -> None:
    """Where no more outcomes can be kept, they are asked for again."""
    found = []
    for mask in (None, 1):
        device, plan = policy_device(load_core(core), "int16", "c")
        if mask is not None:
            device.account.machine.known_mask = mask
        said, counts = run_sequences(device, arrays(plan), lambda: None)
        found.append((counts["upper"].tolist(), said["faults"], device.repeated))
    assert found[0] == found[1]


def test_zero_bits_of_numbers() -> None:
    assert [low(n) for n in (0, 1, 2, 4, 6, -2, -4, 1 << 20)] == [2, 0, 1, 2, 1, 1, 2, 2]
    assert WORD == 2


def test_a_call_starts_from_its_own_arguments() -> None:
    """An argument that is no buffer is not taken for an aligned one."""
    device = open_device(programs.assembled(ARM, "ldr r3, [r1]"), load_core(ARM), programs.PLAIN, "c")
    for second, doubtful in ((device.x, 0), (device.x + 4, 1)):
        call(device, "step", (device.instance, second, device.y))
        assert len(device.account.doubtful) == doubtful
    assert ctypes.sizeof(device.account.machine) % 8 == 0
