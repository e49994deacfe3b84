"""Cycle counts for lowRISC Ibex in the configuration "small": two stages, fast (three-cycle) multiplier.

Source: Ibex Reference Manual, "Pipeline Details" (doc/03_reference/pipeline_details.rst), table of stall cycles: loads
and stores 1, MUL 2, MULH 3, divide and remainder 1 by zero and 37 otherwise, jumps 1, taken branches 2 (no branch
target ALU). Memories answer in the next cycle. For the divide the RTL is followed: rtl/ibex_multdiv_fast.sv passes
through idle, two absolute values, 31 compare steps, last, sign change and finish: 37 cycles in all, 36 of them stalls.

After a jump the first word fetched holds only half of a 32-bit instruction that starts at an odd halfword, so such a
target costs one cycle more ("Instruction Fetch": words are fetched one per cycle into the prefetch buffer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ncpc.sim.timing import NONE, BlockCost, Correction, Cycles, Instruction, passing


def _exact(cycles: int) -> Cycles:
    return Cycles(cycles, cycles)


IBEX_CYCLES: Mapping[str, int] = {
    **dict.fromkeys(("lb", "lbu", "lh", "lhu", "lw", "sb", "sh", "sw"), 2),
    "mul": 3,
    **dict.fromkeys(("mulh", "mulhu", "mulhsu"), 4),
    **dict.fromkeys(("div", "divu", "rem", "remu"), 37),
    **dict.fromkeys(("jal", "jalr", "j", "jr", "ret", "fence.i"), 2),
}
"""Cycles by instruction; whatever is not listed takes one."""

DIVIDES = frozenset(("div", "divu", "rem", "remu"))
BRANCHES = frozenset(("beq", "bne", "blt", "bge", "bltu", "bgeu"))


@dataclass(frozen=True)
class Ibex:
    """The manual's stall table as total cycles per instruction."""

    cycles: Mapping[str, int] = field(default_factory=lambda: IBEX_CYCLES)
    branch_taken: int = 3
    divide_by_zero: int = 2
    split_target: int = 1

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """Exact cycles of a straight run; a divide by zero is a correction."""
        *body, straight = (self._straight(*pair) for pair in zip(block, (*block[1:], following), strict=True))
        taken = _exact(self.branch_taken) if block[-1].name in BRANCHES else straight
        jumped = taken if following is None else taken + self._entry(following)
        body.append(passing(block[-1], straight, jumped))
        divides = tuple(self._divide(i) for i in block if i.name in DIVIDES)
        return BlockCost(tuple(body), taken, self._entry(block[0]), divides)

    def _straight(self, i: Instruction, then: Instruction | None) -> Cycles:
        """Of ``i`` if ``then`` is executed next; fence.i fetches that anew, as a jump does."""
        cycles = _exact(self.cycles.get(i.name, 1))
        return cycles + self._entry(then) if i.name == "fence.i" and then is not None else cycles

    def _entry(self, first: Instruction) -> Cycles:
        split = first.size == 4 and first.address % 4 == 2
        return _exact(self.split_target) if split else NONE

    def _divide(self, i: Instruction) -> Correction:
        saved = _exact(self.divide_by_zero - self.cycles[i.name])
        return Correction(i.address, "zero-divisor", saved, register_b=i.reads[1])


IBEX_SMALL = Ibex()
"""Ibex as lowRISC's configuration "small" builds it."""
