"""How long a step takes on a board, and whether that is short enough for the rate at which it is to run.

Cycles are counted for memories without wait states. ``waiting`` says how many there could be at worst with wait states:
of an in-order core, c cycles hold c instructions at most, of 1.5 words each with a folded IT, three words fetched ahead
and dropped for each of c/2 branches, and c reads of data. A word fetched costs w cycles more, a read w, and one for the
fetch that it may have to wait for: c + 3cw + c(w + 1). That a delay delays what follows by no more than itself is taken
for granted; caches and prefetching, which hide most of it, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import Any, Literal

import numpy as np

from ncpc.cores.boards.clock import Setup
from ncpc.errors import EXIT_DOES_NOT_HOLD
from ncpc.targets.base import CycleCounts
from ncpc.verification.verdict import Verification

DEADLINE = "deadline at "
"""How lines begin that tell what a deadline rests on."""
Deadline = Literal["holds", "holds without wait states", "missed"]


@dataclass(frozen=True)
class StepTime:
    """Cycles of the quickest step that ran (lower bound) and of the slowest (upper bound), or where ``proved``, of the
    slowest that any input, dt and state can make; None where the core has no model of cycles.
    """

    setup: Setup
    least: int | None
    most: int | None
    proved: bool

    @property
    def waiting(self) -> int | None:
        """Cycles that a step could take were every access of flash to wait; None where wait states are not known."""
        waits = self.setup.wait_states
        return None if waits is None or self.most is None else self.most * (2 + 4 * waits if waits else 1)

    @property
    def deadline(self) -> Deadline | None:
        """Whether a step ends before the next begins; None where no rate is asked or no cycles are known."""
        share = self.share(self.most)
        if share is None:
            return None
        waiting = self.share(self.waiting)
        if share > 1:
            return "missed"
        return "holds" if waiting is not None and waiting <= 1 else "holds without wait states"

    def microseconds(self, cycles: int | None) -> float | None:
        """What ``cycles`` take at the clock."""
        return None if cycles is None else float(cycles * 10**6 / self.setup.clock_hz)

    def share(self, cycles: int | None) -> Fraction | None:
        """Of the period between two steps, what ``cycles`` take; None where no rate is asked."""
        rate = self.setup.rate_hz
        return None if cycles is None or rate is None else cycles * rate / self.setup.clock_hz

    def record(self) -> dict[str, Any]:
        """The time as report.json has it."""
        board, rate = self.setup.board, self.setup.rate_hz
        shares = {name: None if (share := self.share(cycles)) is None else float(share)
                  for name, cycles in (("share", self.most), ("waiting_share", self.waiting))}
        return {
            "board": None if board is None else {
                "name": board.name, "title": board.title, "chip": board.chip, "sources": list(board.sources)},
            "clock_hz": float(self.setup.clock_hz), "wait_states": self.setup.wait_states,
            "least_us": self.microseconds(self.least), "most_us": self.microseconds(self.most),
            "most_of": None if self.most is None else "any input" if self.proved else "steps run",
            "waiting_us": self.microseconds(self.waiting),
            "rate_hz": None if rate is None else float(rate), **shares, "deadline": self.deadline,
        }


def step_time(setup: Setup, cycles: CycleCounts | None, wcet: int | None) -> StepTime:
    """The time of a step from the cycles of those that ran, and the worst case where it is proved."""
    if cycles is None or not len(cycles.upper):
        return StepTime(setup, None, None, False)
    return StepTime(setup, int(np.min(cycles.lower)), int(np.max(cycles.upper)) if wcet is None else wcet,
                    wcet is not None)


def timely(found: Verification, time: StepTime | None) -> Verification:
    """The verification with the deadline in its verdict: a reason against it where it is missed, and what was left out
    where it holds.
    """
    if time is None or time.setup.rate_hz is None:
        return found
    verdict = found.verdict
    if time.deadline == "missed":
        verdict = replace(verdict, holds=False, reasons=(*verdict.reasons, missed(time)), exit_code=EXIT_DOES_NOT_HOLD)
    return replace(found, verdict=replace(verdict, not_run=(*verdict.not_run, *left_out(time))))


def missed(time: StepTime) -> str:
    """The reason, and what would hold the deadline."""
    assert time.most is not None
    assert time.setup.rate_hz is not None
    fastest, clock = time.setup.clock_hz / time.most, time.most * time.setup.rate_hz
    return (f"deadline missed: a step takes up to {time.most:,} cycles ({_of(time)}), "
            f"{time.microseconds(time.most):,.4g} us at {megahertz(time.setup.clock_hz)}, and every "
            f"{float(10**6 / time.setup.rate_hz):,.4g} us one is due; --rate-hz {_floor(fastest)} holds at this clock, "
            f"{ceil(clock / 1000) / 1000:,} MHz or more at this rate; else fewer bits (--quant), unfolds or neurons")


def left_out(time: StepTime) -> tuple[str, ...]:
    """What a deadline that is met rests on without having been looked at, a line each."""
    if time.deadline in (None, "missed"):
        return ()
    rate = f"{DEADLINE}{float(time.setup.rate_hz or 0):,.6g} Hz:"
    lines = [] if time.proved else [f"{rate} the worst case was not proved; the time is of the steps run"]
    if time.deadline == "holds without wait states":
        waiting = time.microseconds(time.waiting)
        known = ("and what they cost is not known here" if waiting is None else
                 f"and with {time.setup.wait_states} of them a step could take up to {waiting:,.4g} us")
        lines.append(f"{rate} it holds without wait states of the flash; they were not modelled, {known}")
    return tuple(lines)


def _of(time: StepTime) -> str:
    return "for any input" if time.proved else "of the steps run"


def megahertz(clock: Fraction | float) -> str:
    """A clock in Hz, in words."""
    return f"{float(clock / 10**6):,.6g} MHz"


def _floor(rate: Fraction) -> str:
    """A rate that is no more than ``rate``, of four digits."""
    scale = Fraction(10) ** (4 - len(str(int(rate)))) if rate >= 1 else Fraction(10**4)
    return f"{float(int(rate * scale) / scale):.10g}"
