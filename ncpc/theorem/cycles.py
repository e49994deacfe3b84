"""Cycles of any way through the code, by the timing model of the core that the simulator charges by."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec

from ncpc.cores.core import Core
from ncpc.errors import Unsupported
from ncpc.sim.accounting import WINDOW
from ncpc.sim.decode import decode
from ncpc.sim.timing import ALWAYS, NONE, Correction, Cycles, Instruction, TimingModel, total
from ncpc.sim.timing_tables import timing_model
from ncpc.theorem.flash import Flash
from ncpc.theorem.undecided import Undecided


@dataclass(frozen=True, eq=False)
class Meter:
    """What one instruction costs where a given one is executed next. ``decoded`` and ``costs`` are those met so far."""

    flash: Flash
    arch: str
    model: TimingModel
    decoded: dict[int, Instruction] = field(default_factory=dict)
    costs: dict[tuple[int, int], Cycles] = field(default_factory=dict)

    def between(self, pc: int, following: int) -> Cycles:
        """Of the instruction at ``pc``, executed before the one at ``following``.

        Operands and conditions may be any: what hangs on them widens the interval. So the sum over a way is at least
        and at most what the simulator charges for it. Raises Undecided for an instruction that the model has not.
        """
        if (pc, following) not in self.costs:
            try:
                self.costs[pc, following] = self._between(self._at(pc), following)
            except Unsupported as reason:
                raise Undecided(str(reason)) from None
        return self.costs[pc, following]

    def _between(self, i: Instruction | None, following: int) -> Cycles:
        assert i is not None
        behind = self._at(following)
        if following == i.end:
            found = self.model.cost([i], behind)
            cycles = total(found.body)
        else:
            found = self.model.cost([i], None)
            cycles = found.taken + (NONE if behind is None else self.model.cost([behind], None).entry)
        return total([cycles, *map(_perhaps, found.corrections)])

    def _at(self, pc: int) -> Instruction | None:
        """The instruction at an address; None where there is no code, which is where the step returns to.

        Raises Undecided where the simulator's disassembler reads none.
        """
        if pc not in self.decoded and (piece := self.flash.piece(pc, pc + 2)) is not None:
            read = decode(piece[1][pc - piece[0] :][:WINDOW].tobytes(), pc, self.arch)
            if not read:
                raise Undecided(f"at {pc:#x}: no instruction")
            first, *rest = read
            governed = rest if first.name == "it" else []
            for one in (first, *governed):
                if one is first or one.condition != ALWAYS:
                    self.decoded[one.address] = one
        return self.decoded.get(pc)


def _perhaps(correction: Correction) -> Cycles:
    """Applied or not."""
    return Cycles(min(0, correction.cycles.lower), max(0, correction.cycles.upper))


def meter_of(core: Core, flash: Flash) -> Meter | None:
    """That of a core; None where its instructions alone are counted, or without the simulator's disassembler."""
    counted = core.timing_class == "count" or find_spec("capstone") is None
    return None if counted else Meter(flash, core.arch, timing_model(core.timing_table))
