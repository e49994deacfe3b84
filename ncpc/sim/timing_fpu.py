"""Cycle bounds for the single-precision FPU of the Cortex-M4.

Source: Arm Cortex-M4 Technical Reference Manual (DDI 0439), section 7.2.3, table 7-1 "FPU instruction set", and the
notes below it. Two of them make bounds of what the table says:

- the result of an arithmetic instruction or a conversion that the very next instruction reads costs that one a cycle,
  unless it is the addend of a multiply-accumulate (upper bound);
- a divide or square root is finished beside integer instructions, so that it takes one cycle where nothing waits for
  it, and what is left of its 14 where something does (lower bound).

The table gives a multiply-accumulate 3 cycles; as chains of them are reported to be faster, the lower bound is 1. A
load or store next to another one may overlap with it as those of the integer core do (lower bound).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ncpc.errors import Unsupported
from ncpc.sim.timing import ALWAYS, ONE, Cycles, Instruction, is_floating

CORE_REGISTERS = 16
"""Registers of the integer core have lower numbers."""
ACCUMULATES = ("vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnma", "vfnms")
QUIET = ("vmov", "vmrs", "vmsr")
"""They move numbers and make none: nothing waits for them."""

FPU_M4: Mapping[str, Cycles] = {
    **dict.fromkeys(("vabs", "vadd", "vcmp", "vcmpe", "vcvt", "vcvtb", "vcvtr", "vcvtt", "vmul", "vneg", "vnmul",
                     "vsub"), ONE),
    **dict.fromkeys(QUIET, ONE),
    **dict.fromkeys(ACCUMULATES, Cycles(1, 3)),
    **dict.fromkeys(("vdiv", "vsqrt"), Cycles(14, 14)),
}
"""Of table 7-1 all but loads and stores."""


@dataclass(frozen=True)
class Fpu:
    """An FPU beside the integer pipeline: cycles by instruction, and which of them end beside it."""

    table: Mapping[str, Cycles]
    beside: tuple[str, ...] = ("vdiv", "vsqrt")

    def cycles(self, i: Instruction, before: Instruction | None) -> Cycles:
        """Of an instruction that is no load or store, without waiting for ``before``. Raises Unsupported."""
        if i.name not in self.table:
            raise Unsupported(f"no cycle count for '{i.name}' at 0x{i.address:08x}: this timing table's FPU has none")
        pair = sum(r < CORE_REGISTERS for r in (*i.reads, *i.writes)) == 2
        return (Cycles(2, 2) if i.name == "vmov" and pair else self.table[i.name]) + waiting(i, before)

    def ended(self, block: Sequence[Instruction], body: Sequence[Cycles]) -> list[Cycles]:
        """``body`` with the least that a divide takes: it ends beside what follows up to the first that reads it."""
        return [Cycles(max(1, c.lower - _meanwhile(block[k:], body[k:])), c.upper) if i.name in self.beside else c
                for k, (i, c) in enumerate(zip(block, body, strict=True))]


def waiting(i: Instruction, before: Instruction | None) -> Cycles:
    """What it costs ``i`` that it reads what the FPU has made in the instruction before."""
    makes = before is not None and is_floating(before) and before.name not in QUIET and not before.listed
    return Cycles(0, int(makes and before is not None and any(r in before.writes for r in i.reads)))


def _meanwhile(block: Sequence[Instruction], body: Sequence[Cycles]) -> int:
    """Least cycles between the first instruction and the first that surely waits for it; endless where none does."""
    made, between = block[0].writes, 0
    for i, cycles in zip(block[1:], body[1:], strict=True):
        if i.condition == ALWAYS and any(r in made for r in i.reads):
            return between
        between += cycles.lower
    return body[0].lower
