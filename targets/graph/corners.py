"""Starts at the corners of the states' box, for targets that take the state as an input.

Nothing keeps such a state in its box: what is known of a graph holds for states within it, and a run from the box's
ends is where it is seen to hold there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.ir.state import split
from ncpc.semantics.run import Executor

F64 = NDArray[np.float64]

STARTS = 8


def corners(box: F64) -> F64:
    """All lower ends of a box (S, 2), all upper ends, then corners at random: (STARTS, S)."""
    upper = np.random.default_rng(0).integers(0, 2, (STARTS, box.shape[0]))
    upper[0], upper[1] = 0, 1
    return np.where(upper, box[:, 1], box[:, 0])


def held_inputs(real: Program, steps: int) -> Sequences:
    """Inputs at the ends of their range, held for a few steps: STARTS sequences."""
    lo, hi = real.x.range.T
    ends = np.random.default_rng(1).integers(0, 2, (STARTS, -(-steps // 5), lo.shape[0]))
    return Sequences(np.repeat(lo + (hi - lo) * ends, 5, axis=1)[:, :steps])


def exact_outputs(real: Program, data: Sequences, starts: F64, dt: float | None) -> F64:
    """What the program over the reals gives from ``starts`` (STARTS, S): (STARTS, T, outputs)."""
    executor = Executor(real)
    executor.reset(STARTS)
    executor.load(split(real.states, starts))
    spans = None if dt is None else np.full(STARTS, dt)
    return np.stack([executor.step(data.x[:, t], spans)[0] for t in range(data.x.shape[1])], axis=1)
