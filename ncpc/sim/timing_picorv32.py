"""Cycle counts for PicoRV32 as RV32IM with fast multiplier, divider, barrel shifter and two-port registers.

Source: README of PicoRV32, "Cycles per Instruction Performance" (ENABLE_REGS_DUALPORT, ENABLE_FAST_MUL, ENABLE_DIV,
BARREL_SHIFTER, a memory that answers within the cycle): 3 cycles, loads, stores and taken branches 5, indirect jumps 6,
divides 40. The table leaves the fast multiplier out; picorv32.v is followed: a product passes through fetch, two cycles
in which its operands are handed over, two in ``picorv32_pcpi_fast_mul``, and fetches what follows only then: 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ncpc.errors import Unsupported
from ncpc.sim.timing import BlockCost, Cycles, Instruction, passing
from ncpc.sim.timing_ibex import BRANCHES, DIVIDES

PICORV32_CYCLES: Mapping[str, int] = {
    **dict.fromkeys(("lb", "lbu", "lh", "lhu", "lw", "sb", "sh", "sw"), 5),
    **dict.fromkeys(("mul", "mulh", "mulhu", "mulhsu"), 6),
    **dict.fromkeys(DIVIDES, 40),
    **dict.fromkeys(("jalr", "jr", "ret"), 6),
}
"""Cycles by instruction; whatever is not listed takes three."""


@dataclass(frozen=True)
class PicoRV32:
    """The README's table."""

    cycles: Mapping[str, int] = field(default_factory=lambda: PICORV32_CYCLES)
    plain: int = 3
    branch_taken: int = 5

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """Exact cycles of a straight run. Raises Unsupported for compressed instructions."""
        short = [i for i in block if i.size == 2]
        if short:
            raise Unsupported(f"no cycle count for the compressed '{short[0].name}' at 0x{short[0].address:08x}: "
                              "this timing table is for RV32IM")
        *body, straight = (self._exact(i) for i in block)
        taken = Cycles(self.branch_taken, self.branch_taken) if block[-1].name in BRANCHES else straight
        return BlockCost((*body, passing(block[-1], straight, taken)), taken)

    def _exact(self, i: Instruction) -> Cycles:
        cycles = self.cycles.get(i.name, self.plain)
        return Cycles(cycles, cycles)


PICORV32 = PicoRV32()
