"""What a timing model is: the cost of a straight run of instructions, and of the ways to leave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ncpc.errors import Unsupported

ALWAYS = 14
"""Condition of an unconditional instruction (Arm numbers conditions from 0, EQ, to 13, LE)."""

TESTING_JUMPS = frozenset(("cbz", "cbnz", "beq", "bne", "blt", "bge", "bltu", "bgeu"))
"""Jumps that look at registers, and may not be taken."""


@dataclass(frozen=True)
class Instruction:
    """A decoded instruction.

    ``name`` is the mnemonic without condition and width (``ldr``, ``c.lw`` becomes ``lw``); ``reads`` and ``writes``
    are register numbers, ``address_registers`` those that form a memory address; ``listed`` how many registers a
    multiple load or store moves; ``jumps`` whether it can continue elsewhere than at the next instruction;
    ``form`` refines memory accesses: ``imm``, ``reg`` or ``literal``; ``updates`` are address registers written back;
    ``target`` is where a jump goes that holds its own target.
    """

    address: int
    size: int
    name: str
    condition: int = ALWAYS
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    address_registers: tuple[int, ...] = ()
    listed: int = 0
    jumps: bool = False
    form: str = ""
    updates: tuple[int, ...] = ()
    target: int | None = None

    @property
    def end(self) -> int:
        """The address behind it."""
        return self.address + self.size

    @property
    def always_jumps(self) -> bool:
        """Whether what follows it in time is the target of a jump, wherever that lies."""
        return self.jumps and self.condition == ALWAYS and self.name not in TESTING_JUMPS


@dataclass(frozen=True)
class Cycles:
    """Cycles, at least and at most; equal where the model is exact."""

    lower: int
    upper: int

    def __add__(self, other: Cycles) -> Cycles:
        return Cycles(self.lower + other.lower, self.upper + other.upper)

    def __sub__(self, other: Cycles) -> Cycles:
        return Cycles(self.lower - other.lower, self.upper - other.upper)


def is_floating(i: Instruction) -> bool:
    """Whether an FPU executes it, on either architecture."""
    return i.name.startswith(("v", "f")) and not i.name.startswith("fence")


NONE = Cycles(0, 0)
ONE = Cycles(1, 1)


def either(a: Cycles, b: Cycles) -> Cycles:
    """What holds whichever of the two it was."""
    return Cycles(min(a.lower, b.lower), max(a.upper, b.upper))


def passing(last: Instruction, straight: Cycles, jumped: Cycles) -> Cycles:
    """The cost of ``last`` where the instruction behind it is executed next: ``straight``, or ``jumped``, by a jump.

    A jump may go to the very next address: ``j 1f; 1: ...`` jumps always, and ``beqz a0, 1f; 1: ...`` does so or not.
    """
    if last.always_jumps:
        return jumped
    return either(straight, jumped) if last.target == last.end else straight


def total(costs: Sequence[Cycles]) -> Cycles:
    """The sum of ``costs``."""
    return Cycles(sum(c.lower for c in costs), sum(c.upper for c in costs))


@dataclass(frozen=True)
class Correction:
    """Cycles to add to the instruction at ``address`` by its operands.

    ``kind``: ``zero-divisor`` (register_b holds 0), ``signs-differ`` (bit 31 of the two registers), ``executed``
    (always); each only if the instruction's condition holds.
    """

    address: int
    kind: str
    cycles: Cycles
    condition: int = ALWAYS
    register_a: int = 0
    register_b: int = 0


@dataclass(frozen=True)
class BlockCost:
    """The cost of a block of instructions.

    ``body`` holds each instruction's cost if the next address is executed after the block; ``taken`` replaces the last
    one if another one is; ``entry`` is added to what comes then.
    """

    body: tuple[Cycles, ...]
    taken: Cycles
    entry: Cycles = NONE
    corrections: tuple[Correction, ...] = ()


class TimingModel(Protocol):
    """A core's cycle counts."""

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """The cost of ``block``. ``following`` is the next instruction in memory if the block may run into it, or jump
        there.
        """
        ...


@dataclass(frozen=True)
class CountOnly:
    """Every instruction counts one: no cycle figures. Without ``floats`` those of an FPU are refused."""

    floats: bool = True

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """One per instruction. Raises Unsupported."""
        foreign = () if self.floats else [i for i in block if is_floating(i)]
        if foreign:
            raise Unsupported(f"'{foreign[0].name}' at 0x{foreign[0].address:08x}: the core has no FPU")
        return BlockCost(tuple(ONE for _ in block), ONE)
