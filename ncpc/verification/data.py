"""What a verdict is measured on: named data sets, the user's own and generated ones, and what each is for.

The calibration data a policy carries is split. One part is what quantization may look at; the other is held out and
meets the finished build only, so that the verdict is not about data the number formats were fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.verification.sequences import prefix

Purpose = Literal["data", "generated", "bitwise"]
"""``data`` is the user's own, ``generated`` covers the declared ranges, ``bitwise`` is for bitwise links alone: no
error is measured on it (what lies outside the declared ranges has none that means anything)."""
Counting = Literal["data", "data+generated", "all"]
"""What counts towards the verdict: the user's data, those and generated sequences, the search for the worst input too.
Where there is no data of the user's, generated sequences count alone."""

EACH = 5
"""One sequence, or step, of so many is held out."""
FEW = 10
"""Steps below which a data set is not divided, and has no output range of its own."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Sequences with a name, a line of words about them, and what they are for.

    ``sequences`` are as the deployed policy sees them (within the declared ranges, unless they are ``bitwise``; a
    guessed input range limits nothing). ``whole``: every link runs all of them, instead of as many steps as it asks
    for. ``beyond`` are the same with their inputs as they were given, where a declared range limits any of those.
    """

    name: str
    words: str
    purpose: Purpose
    sequences: Sequences
    whole: bool = False
    beyond: Sequences | None = None

    def for_link(self, steps: int) -> Sequences:
        """What a link that asks for ``steps`` runs: of each of the user's data sets at most half as many."""
        return self.sequences if self.whole else prefix(self.sequences, steps // 2 if self.purpose == "data" else steps)

    def counts(self, counting: Counting) -> bool:
        """Whether the error on it decides."""
        return self.purpose == "data" or (self.purpose == "generated" and counting != "data")


@dataclass(frozen=True, eq=False)
class Split:
    """Calibration data in two: what quantization sees, what it does not (None: too little to divide), and the rule."""

    seen: Sequences
    held_out: Sequences | None
    rule: str


def split(calibration: Sequences) -> Split:
    """Of several sequences every fifth is held out (of fewer than five the last one), of a single one its last fifth.

    The end of a single sequence becomes a sequence of its own, which starts from the reset state. Nothing is held out
    where that would be fewer than ``FEW`` steps.
    """
    rows, length = calibration.x.shape[:2]
    at = length - length // EACH
    held = np.arange(rows) % EACH == EACH - 1 if rows >= EACH else np.arange(rows) == rows - 1
    if (int(held.sum()) * length if rows > 1 else length - at) < FEW:
        return Split(calibration, None, f"{rows * length} steps are too few to hold some out")
    if rows == 1:
        before, after = (calibration.part(slice(None), steps) for steps in (slice(at), slice(at, length)))
        return Split(before, after, f"the last {length - at} of {length} steps, from the reset state")
    which = f"every {EACH}th of {rows} sequences" if rows >= EACH else f"the last of {rows} sequences"
    return Split(calibration.part(~held), calibration.part(held), which)


def calibrating(policy: Policy) -> Policy:
    """The policy with that part of its calibration data which quantization may look at."""
    return policy if policy.calibration is None else replace(policy, calibration=split(policy.calibration).seen)

