"""Cycle counts for the Arm Cortex-M0 and Cortex-M0+, whose instructions all take what the manual's table says.

Source: Cortex-M0 Technical Reference Manual (DDI 0432, revision r0p0) and Cortex-M0+ Technical Reference Manual
(DDI 0484, revision r0p1), section 3.3, table 3-1, for memories without wait states: 1, but

- loads and stores 2; LDM, STM, PUSH and POP 1 + N registers;
- a taken branch 3 (Cortex-M0+: 2), and so BX, BLX and what writes PC; BL 4 (3); a POP of PC 4 + N (3 + N), N counting
  it (the emulator rp2040js takes one less);
- MUL 1 or 32, as the chip's maker chose; MRS, MSR and barriers 4 (3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncpc.errors import Unsupported
from ncpc.sim.timing import ALWAYS, ONE, BlockCost, Cycles, Instruction, passing
from ncpc.sim.timing_cortex_m import SINGLE_LOADS, SINGLE_STORES

LISTS = ("push", "pop", "ldm", "stm")
SPECIAL = ("mrs", "msr", "dmb", "dsb", "isb")
WIDE = ("bl", *SPECIAL)
"""The 32-bit instructions of Armv6-M."""
FOREIGN = ("it", "cbz", "cbnz")
"""16-bit instructions of Armv7-M that Armv6-M has not."""


@dataclass(frozen=True)
class Armv6M:
    """Cycles of a taken branch, a call, a POP of PC beside its registers, special instructions and a product."""

    branch: int
    call: int
    pop_pc: int
    special: int
    multiply: int = 1

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """Exact cycles of a straight run. Raises Unsupported for what Armv6-M has not."""
        *body, last = (_exact(self._cycles(i)) for i in block)
        straight = ONE if block[-1].condition != ALWAYS else last
        return BlockCost((*body, passing(block[-1], straight, last)), last)

    def _cycles(self, i: Instruction) -> int:
        """Of an instruction; of a branch where it is taken."""
        if i.name in FOREIGN or (i.size == 4 and i.name not in WIDE):
            raise Unsupported(f"no cycle count for '{i.name}' at 0x{i.address:08x}: Armv6-M has no such instruction")
        if i.name in LISTS:
            return i.listed + (self.pop_pc if i.jumps else 1)
        if i.jumps:
            return self.call if i.name == "bl" else self.branch
        if i.name in SINGLE_LOADS or i.name in SINGLE_STORES:
            return 2
        return self.multiply if i.name == "mul" else self.special if i.name in SPECIAL else 1


def _exact(cycles: int) -> Cycles:
    return Cycles(cycles, cycles)


CORTEX_M0 = Armv6M(branch=3, call=4, pop_pc=4, special=4)
CORTEX_M0PLUS = Armv6M(branch=2, call=3, pop_pc=3, special=3)
SLOW = 32
"""Cycles of a product by the small multiplier."""
