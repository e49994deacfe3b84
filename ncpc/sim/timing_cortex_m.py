"""Cycle bounds for the Arm Cortex-M3 and Cortex-M4.

Source: Arm Cortex-M4 Technical Reference Manual (DDI 0439; in revision r0p1 100166_0001_00), section 3.3: table 3-1,
"instruction set summary", table 3-2 of DSP instructions (one cycle each), and section "Load/store timings". P, the
refill after a jump, is 1 to 3 cycles; a divide takes 2 to 12 by its operands; all for memories without wait states and
aligned accesses (code is compiled under strict_align, or -mno-unaligned-access).

Where the manual says that a cycle may be saved or added, the lower bound saves and the upper bound adds it:

- a load or store right behind a load or store overlaps with it (lower bound: one cycle less);
- an address formed from the result of the data-processing instruction just before costs a cycle (upper bound);
- a load from the literal pool may collide with the fetch (upper bound: one cycle more);
- IT may be folded into the instruction before it (lower bound 0).

Cortex-M3: Technical Reference Manual (DDI 0337, revision r2p1), section 3.3, table 3-1. The same rules; what multiplies
and adds takes 2 cycles, long products 3 to 7, as they end early by their operands; there are no DSP instructions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ncpc.errors import Unsupported
from ncpc.sim.timing import ALWAYS, NONE, ONE, BlockCost, Correction, Cycles, Instruction, is_floating, passing
from ncpc.sim.timing_fpu import FPU_M4, Fpu, waiting

SINGLE_LOADS = frozenset(("ldr", "ldrb", "ldrh", "ldrsb", "ldrsh", "ldrex", "ldrexb", "ldrexh"))
SINGLE_STORES = frozenset(("str", "strb", "strh", "strex", "strexb", "strexh"))
PAIRS = frozenset(("ldrd", "strd"))
MULTIPLES = frozenset(("ldm", "ldmdb", "stm", "stmdb", "push", "pop", "ldmia", "stmia"))
FLOAT_SINGLES = frozenset(("vldr", "vstr"))
FLOAT_MULTIPLES = frozenset(("vldmia", "vldmdb", "vstmia", "vstmdb", "vpush", "vpop"))
DIVIDES = frozenset(("sdiv", "udiv"))

VARIABLE: Mapping[str, Cycles] = {
    "it": Cycles(0, 1),
    "tbb": Cycles(2, 2),
    "tbh": Cycles(2, 2),
    "cps": Cycles(1, 2),
    "mrs": Cycles(1, 2),
    "msr": Cycles(1, 2),
    "dmb": Cycles(1, 4),
    "dsb": Cycles(1, 4),
    "isb": Cycles(2, 4),
}
"""Instructions of table 3-1 that take neither one cycle nor one of the rules below; refill not included."""

EARLY: Mapping[str, Cycles] = {
    **dict.fromkeys(("mla", "mls"), Cycles(2, 2)),
    **dict.fromkeys(("smull", "umull"), Cycles(3, 5)),
    **dict.fromkeys(("smlal", "umlal"), Cycles(4, 7)),
}
"""The Cortex-M3's products that take more than one cycle."""

DSP = re.compile(
    r"(q|s|sh|u|uh|uq)((add|sub)(8|16)|asx|sax)|qd?(add|sub)|sel|usada?8|[su]xta?b16|[su]xta[bh]|pkh(bt|tb)|[su]sat16"
    r"|sml[as]l?dx?|smu[as]dx?|smm(la|ls|ul)r?|sml(al?|aw)[bt]{1,2}|smul(w[bt]|[bt][bt])|umaal"
)
"""What Armv7E-M has beyond Armv7-M (Armv7-M Architecture Reference Manual, DDI 0403E, A1.2 and A4.4)."""


@dataclass(frozen=True)
class CortexM:
    """The rules of table 3-1 with their figures. ``table`` holds plain instructions that do not take one cycle; ``fpu``
    is None where there is none, ``dsp`` says whether there are the instructions of Armv7E-M.
    """

    refill: Cycles
    divide: Cycles
    load: Cycles
    store: Cycles
    store_register_offset: Cycles
    address_stall: Cycles
    literal_stall: Cycles
    table: Mapping[str, Cycles]
    fpu: Fpu | None = None
    dsp: bool = True

    def cost(self, block: Sequence[Instruction], following: Instruction | None) -> BlockCost:
        """Bounds for a straight run, by the rules above."""
        body = [self._cycles(i, before) for i, before in zip(block, [None, *block], strict=False)]
        body = body if self.fpu is None else self.fpu.ended(block, body)
        last = block[-1]
        taken = body[-1]
        if last.jumps:
            taken = body[-1] + self.refill
            body[-1] = passing(last, ONE, taken)
        elif following is not None:
            body[-1] += self._cycles(following, last) - self._cycles(following, None)
        skipped = tuple(ONE if _is_skippable(i) else cycles for i, cycles in zip(block, body, strict=True))
        executed = tuple(
            _executed(i, cycles) for i, cycles in zip(block, body, strict=True) if _is_skippable(i) and cycles != ONE
        )
        return BlockCost(skipped, taken, corrections=executed)

    def _cycles(self, i: Instruction, before: Instruction | None) -> Cycles:
        """Cycles of ``i``, executed, without refill. ``before`` is None behind a jump."""
        if i.name in SINGLE_LOADS or i.name in SINGLE_STORES:
            return self._single(i, before)
        if i.name in PAIRS or i.name in MULTIPLES:
            return Cycles(1 + i.listed, 1 + i.listed) + self._stall(i, before)
        if is_floating(i):
            return self._floating(i, before)
        if not self.dsp and DSP.fullmatch(i.name):
            raise Unsupported(f"no cycle count for '{i.name}' at 0x{i.address:08x}: this timing table has no DSP")
        return self.divide if i.name in DIVIDES else self.table.get(i.name, ONE)

    def _floating(self, i: Instruction, before: Instruction | None) -> Cycles:
        """An instruction of the FPU; it moves one word in each cycle but the first."""
        if self.fpu is None:
            raise Unsupported(f"no cycle count for '{i.name}' at 0x{i.address:08x}: this timing table has no FPU")
        moved = Cycles(1 + i.listed, 1 + i.listed)
        if i.name in FLOAT_SINGLES:
            return self._overlapping(i, before, moved + waiting(i, before))
        if i.name in FLOAT_MULTIPLES:
            return moved + waiting(i, before) + self._stall(i, before)
        return self.fpu.cycles(i, before)

    def _single(self, i: Instruction, before: Instruction | None) -> Cycles:
        stored = self.store_register_offset if i.form == "reg" else self.store
        return self._overlapping(i, before, stored if i.name in SINGLE_STORES else self.load)

    def _overlapping(self, i: Instruction, before: Instruction | None, own: Cycles) -> Cycles:
        """A load or store that takes ``own`` cycles by itself."""
        cycles = own + self._stall(i, before)
        if i.form == "literal":
            cycles += self.literal_stall
        if before is not None and _is_single(before) and not _uses_loaded(i, before):
            return Cycles(max(1, i.listed), cycles.upper)
        return cycles

    def _stall(self, i: Instruction, before: Instruction | None) -> Cycles:
        computed = before is not None and not _is_memory(before) and _depends(i, before)
        return self.address_stall if computed else NONE


def _is_skippable(i: Instruction) -> bool:
    """Whether ``i`` is under an IT instruction: it takes one cycle if its condition fails, whatever it is."""
    return i.condition != ALWAYS and i.name != "it" and not i.jumps


def _executed(i: Instruction, cycles: Cycles) -> Correction:
    return Correction(i.address, "executed", cycles - ONE, condition=i.condition)


def _is_single(i: Instruction) -> bool:
    return i.name in SINGLE_LOADS or i.name in SINGLE_STORES or i.name in FLOAT_SINGLES


def _is_memory(i: Instruction) -> bool:
    return _is_single(i) or i.name in PAIRS or i.name in MULTIPLES or i.name in FLOAT_MULTIPLES


def _depends(i: Instruction, before: Instruction) -> bool:
    """Whether the address of ``i`` needs what ``before`` writes."""
    return any(register in before.writes for register in i.address_registers)


def _uses_loaded(i: Instruction, before: Instruction) -> bool:
    """Whether the address of ``i`` needs what the load ``before`` loads; an address it wrote back is no obstacle."""
    return any(r in before.writes and r not in before.updates for r in i.address_registers)


CORTEX_M4 = CortexM(
    refill=Cycles(1, 3),
    divide=Cycles(2, 12),
    load=Cycles(2, 2),
    store=Cycles(1, 1),
    store_register_offset=Cycles(1, 2),
    address_stall=Cycles(0, 1),
    literal_stall=Cycles(0, 1),
    table=VARIABLE,
)
"""The Cortex-M4 without FPU."""

CORTEX_M3 = replace(CORTEX_M4, table={**VARIABLE, **EARLY}, dsp=False)
"""The Cortex-M3."""

CORTEX_M4F = replace(CORTEX_M4, fpu=Fpu(FPU_M4))
"""The Cortex-M4 with its FPU."""
