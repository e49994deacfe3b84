"""The range of inputs where none was declared: guessed from the calibration, and how little that may say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.wires import frames_in

MARGIN = 0.1
"""Share of a channel's width by which its range is widened at either end, unless ``save`` is told another."""
UNSEEN = 0.1
"""Share of new steps that may lie beyond what the calibration saw before that counts as short."""


def guessed(data: Sequences, policy: Policy, margin: float = MARGIN) -> NDArray[np.float64]:
    """The range of each input, (inputs, 2), that ``data`` suggests; one range for all numbers of a frame."""
    bounds = widened(data, margin)
    for frame in frames_in(policy):
        bounds[frame] = of_frames(bounds[frame])
    return bounds


def widened(data: Sequences, margin: float) -> NDArray[np.float64]:
    """Each channel's range in ``data``, (inputs, 2), wider by ``margin`` of its width at either end.

    A channel that never changes says nothing of its width: it gets its value plus and minus max(|value|, 1).
    """
    if not 0 <= margin < np.inf:
        raise BadInput(f"margin is {margin:g}; give a fraction of each channel's width, 0 or more")
    lo, hi = data.x.min(axis=(0, 1)), data.x.max(axis=(0, 1))
    extra = np.where(hi > lo, margin * (hi - lo), np.maximum(np.abs(lo), 1.0))
    return np.stack([lo - extra, hi + extra], axis=1)


def of_frames(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """One range for all numbers of a frame: a pixel that was dark in every frame may be bright in the next."""
    return np.tile([bounds[:, 0].min(), bounds[:, 1].max()], (len(bounds), 1))


def looks_guessed(policy: Policy) -> bool:
    """Whether a range of which nobody recorded where it came from is the one the calibration suggests."""
    if policy.calibration is None:
        return False
    suggested = guessed(policy.calibration, policy)
    return suggested.shape == policy.input_range.shape and bool(np.allclose(suggested, policy.input_range, 1e-9, 1e-12))


def short_calibration(policy: Policy) -> str:
    """One line where a range was guessed from too few steps for so many inputs, else ''.

    Of steps that are drawn alike, the chance that a new one exceeds all n seen ones in a given input is 2/(n + 1): at
    its upper or its lower end. The numbers of a frame share one range, so each frame brings as many samples of it.
    """
    if not policy.range_guessed or policy.calibration is None or frames_in(policy):
        return ""
    steps, inputs = policy.calibration.steps, policy.inputs
    share = min(1.0, 2.0 * inputs / (steps + 1))
    if share <= UNSEEN:
        return ""
    return (f"the input range is guessed from {steps:,} calibration steps of {inputs:,} inputs, which is short: up to "
            f"{share:.0%} of new steps may hold an input beyond all of them; give more data, or declare input_range")
