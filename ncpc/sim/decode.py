"""Machine code to instructions: the only module that imports capstone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from ncpc.errors import MissingTool
from ncpc.sim.timing import ALWAYS, Instruction

COMPRESSED = {
    "c.beqz": "beq",
    "c.bnez": "bne",
    "c.j": "jal",
    "c.jal": "jal",
    "c.jr": "jalr",
    "c.jalr": "jalr",
    "c.lwsp": "lw",
    "c.swsp": "sw",
}
RISCV_JUMPS = frozenset(("jal", "jalr", "beq", "bne", "blt", "bge", "bltu", "bgeu"))
ARM_JUMPS = frozenset(("b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh"))
LISTS = frozenset(("ldm", "ldmdb", "stm", "stmdb", "push", "pop"))
FLOAT_LISTS = frozenset(("vldmia", "vldmdb", "vstmia", "vstmdb", "vpush", "vpop"))
ALIASES = {"fconsts": "vmov", "fconstd": "vmov", "fmstat": "vmrs"}
"""Capstone's names of what the manual of the FPU calls otherwise."""
SP, PC = 13, 15
REGISTER, IMMEDIATE, MEMORY = 1, 2, 3
"""Capstone's types of operands, the same for every architecture."""


def decode(code: bytes, address: int, arch: str) -> tuple[Instruction, ...]:
    """The instructions in ``code``, which starts at ``address``; stops before bytes that are none.

    ``arch`` is ``arm`` (Thumb, M profile) or ``riscv32``. Raises MissingTool without capstone.
    """
    convert = _arm if arch == "arm" else _riscv
    return tuple(convert(i) for i in disassembler(arch).disasm(code, address))


@cache
def disassembler(arch: str) -> Any:
    """Capstone's, with details. Raises MissingTool without it."""
    try:
        import capstone as cs
    except ImportError:
        raise MissingTool("the simulator needs capstone: pip install 'ncpc[sim]'") from None
    if arch == "arm":
        engine = cs.Cs(cs.CS_ARCH_ARM, cs.CS_MODE_THUMB | cs.CS_MODE_MCLASS)
    else:
        engine = cs.Cs(cs.CS_ARCH_RISCV, cs.CS_MODE_RISCV32 | cs.CS_MODE_RISCVC)
    engine.detail = True
    return engine


def _arm(i: Any) -> Instruction:
    from capstone import arm

    name = ALIASES.get(i.insn_name(), i.insn_name())
    reads, writes = _listed_floats(i, name) if name in FLOAT_LISTS else map(arm_numbers, i.regs_access())
    memory = [o.mem for o in i.operands if o.type == arm.ARM_OP_MEM]
    pointers = tuple(arm_number(r) for m in memory for r in (m.base, m.index) if r)
    return Instruction(
        address=i.address,
        size=i.size,
        name=name,
        condition=i.cc - 1 if arm.ARM_CC_EQ <= i.cc <= arm.ARM_CC_LE else ALWAYS,
        reads=reads,
        writes=writes,
        address_registers=pointers or ((reads[0],) if name in LISTS | FLOAT_LISTS else ()),
        listed=_listed(name, i.operands),
        jumps=name in ARM_JUMPS or PC in writes,
        form=_form(memory),
        updates=pointers[:1] if i.writeback else (),
        target=_immediate(i) if name in ARM_JUMPS else None,
    )


def arm_number(register: int) -> int:
    """0 to 15 for the core registers, 100 and more for any other (flags, floating point)."""
    from capstone import arm

    special = {arm.ARM_REG_SP: 13, arm.ARM_REG_LR: 14, arm.ARM_REG_PC: PC}
    if arm.ARM_REG_R0 <= register <= arm.ARM_REG_R12:
        return int(register - arm.ARM_REG_R0)
    return int(special.get(register, 100 + register))


def arm_numbers(registers: Sequence[int]) -> tuple[int, ...]:
    """Their numbers; a double register of the FPU is the two single ones that it is made of."""
    from capstone import arm

    doubles = range(arm.ARM_REG_D0, arm.ARM_REG_D15 + 1)
    singles = (part for r in registers
               for part in ((arm.ARM_REG_S0 + 2 * (r - doubles[0]) + k for k in (0, 1)) if r in doubles else (r,)))
    return tuple(map(arm_number, singles))


def float_list(i: Any, name: str) -> tuple[int, tuple[int, ...]]:
    """The base of a multiple load or store of the FPU, and the single registers that it moves."""
    registers = [o.reg for o in i.operands]
    base = SP if name in ("vpush", "vpop") else arm_number(registers.pop(0))
    return base, arm_numbers(registers)


def _listed_floats(i: Any, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What it reads, its base first, and what it writes: capstone takes every listed register for both."""
    base, moved = float_list(i, name)
    loads = name.startswith(("vld", "vpop"))
    updates = (base,) if i.writeback or name in ("vpush", "vpop") else ()
    return (base, *(() if loads else moved)), (*updates, *(moved if loads else ()))


def _immediate(i: Any) -> int | None:
    """The last operand, where it is a number."""
    found = [o.imm for o in i.operands[-1:] if o.type == IMMEDIATE]
    return int(found[0]) if found else None


def _listed(name: str, operands: Sequence[Any]) -> int:
    if name in ("ldrd", "strd"):
        return 2
    if name in ("push", "pop"):
        return len(operands)
    if name in FLOAT_LISTS or name in ("vldr", "vstr"):
        return len(arm_numbers([o.reg for o in operands if o.type == REGISTER])) - (name.startswith(("vldm", "vstm")))
    return len(operands) - 1 if name in LISTS else 0


def _form(memory: Sequence[Any]) -> str:
    if not memory:
        return ""
    if memory[0].index:
        return "reg"
    return "literal" if arm_number(memory[0].base) == PC else "imm"


def _riscv(i: Any) -> Instruction:
    from capstone import riscv

    full = i.insn_name()
    name = COMPRESSED.get(full, full.removeprefix("c."))
    registers = tuple(o.reg - riscv.RISCV_REG_X0 for o in i.operands if o.type == riscv.RISCV_OP_REG)
    offset = _immediate(i) if name in RISCV_JUMPS and name != "jalr" else None
    return Instruction(i.address, i.size, name, reads=registers[1:], writes=registers[:1], jumps=name in RISCV_JUMPS,
                       target=None if offset is None else i.address + offset)
