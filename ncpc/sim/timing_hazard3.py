"""Cycle bounds for Hazard3 as its documentation configures it.

Source: Hazard3 documentation, "Instruction Cycle Counts" (doc/sections/instruction_timings.adoc: MULDIV_UNROLL = 2,
MUL_FAST, branch predictor, all else for performance, no waiting for the bus): one cycle, but

- a load takes two if the next instruction needs what it loads (bounds: 1 and 2);
- jumps take 2; branches 1 where they are predicted and 2 where not, and which is the case hangs on the past (bounds);
- a divide takes 18, signed ones 18 or 19;
- a jump to a 32-bit instruction that starts in the middle of a word takes one more, a predicted one may not (bounds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ncpc.errors import Unsupported
from ncpc.sim.timing import NONE, ONE, BlockCost, Cycles, Instruction, passing
from ncpc.sim.timing_ibex import BRANCHES

HAZARD3_CYCLES: Mapping[str, Cycles] = {
    **dict.fromkeys(("lb", "lbu", "lh", "lhu", "lw"), Cycles(1, 2)),
    **dict.fromkeys(("div", "rem"), Cycles(18, 19)),
    **dict.fromkeys(("divu", "remu"), Cycles(18, 18)),
    **dict.fromkeys(("jal", "jalr", "j", "jr", "ret"), Cycles(2, 2)),
    **dict.fromkeys(BRANCHES, Cycles(1, 2)),
}
"""Cycles by instruction; whatever is not listed takes one."""
ATOMIC = ("lr.", "sc.", "amo")


@dataclass(frozen=True)
class Hazard3:
    """The documentation's table."""

    cycles: Mapping[str, Cycles] = field(default_factory=lambda: HAZARD3_CYCLES)
    split_target: Cycles = ONE

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """Bounds of a straight run. Raises Unsupported for atomic instructions, which a step has no use for."""
        atomic = [i for i in block if i.name.startswith(ATOMIC)]
        if atomic:
            raise Unsupported(f"no cycle count for the atomic '{atomic[0].name}' at 0x{atomic[0].address:08x}")
        *body, last = (self.cycles.get(i.name, ONE) for i in block)
        jumped = last if following is None else last + self._entry(following)
        return BlockCost((*body, passing(block[-1], last, jumped)), last, self._entry(block[0]))

    def _entry(self, first: Instruction) -> Cycles:
        split = first.size == 4 and first.address % 4 == 2
        return Cycles(0, self.split_target.upper) if split else NONE


HAZARD3 = Hazard3()
