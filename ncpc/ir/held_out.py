"""The calibration data of a policy in two: what quantization may look at, what is held out for the finished build.

So a verdict is not about data that the number formats were fitted to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences

EACH = 5
"""One sequence, or step, of so many is held out."""
FEW = 10
"""Steps below which a data set is not divided, and has no output range of its own."""


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
