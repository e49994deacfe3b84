"""What is known of a policy before its levels are placed: its cell, its box, what it did and what mattered.

The policy's own calibration counts for three quarters of the evidence, the rest is generated within the declared input
range (held values, jumps between the ends, sinusoids), so that a task's usual states get fine levels and rare ones are
not forgotten. Without calibration all is generated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Policy
from ncpc.targets.nir.box import invariant_box
from ncpc.targets.nir.front import Bools, Cell, cell_of, heard
from ncpc.targets.nir.trajectory import sensitivity, trajectory

F64 = NDArray[np.float64]

ROWS, LENGTH = 12, 200
"""Generated sequences, and steps of each."""
MOST_STEPS = 6000
"""Steps of calibration that are used; more changes nothing and takes time."""
LONGEST_HOLD = 40
OWN = 0.75
"""What the policy's own calibration counts for."""


@dataclass(frozen=True, eq=False)
class Study:
    """``policy`` and ``unheard`` (inputs, 2) are those of ``heard``; ``box`` (neurons, 2).

    For n visits: ``z`` (n, cell inputs) and ``z_weight``; for m visits: ``v`` (m, neurons), ``v_weight``, the mean
    squared effect of an error there on all later outputs; ``z_share`` (n,), ``v_share`` (m,) sum to 1; ``den``
    (neurons,): the mean denominator of the step.
    """

    policy: Policy
    unheard: Bools
    cell: Cell
    box: F64
    z: F64
    z_weight: F64
    z_share: F64
    v: F64
    v_weight: F64
    v_share: F64
    den: F64


def study(policy: Policy) -> Study:
    """Run the calibration and generated sequences in float64. Raises Unsupported for layers that spikes cannot hold.

    The inputs' range is that to which the cell listens: levels beyond would code what changes nothing.
    """
    policy, unheard = heard(policy)
    cell = cell_of(policy)
    parts = [_visits(cell, x) for x in evidence(policy)]
    columns = [np.concatenate([part[k] for part in parts]) for k in range(4)]
    weights = importance(policy)
    shares = [np.concatenate([np.full(len(part[k]), w / len(part[k])) for w, part in zip(weights, parts, strict=True)])
              for k in (0, 2)]
    den = np.average([part[4] for part in parts], axis=0, weights=weights)
    return Study(policy, unheard, cell, invariant_box(cell, policy.input_range), columns[0], columns[1], shares[0],
                 columns[2], columns[3], shares[1], den)


def _visits(cell: Cell, x: F64) -> tuple[F64, F64, F64, F64, F64]:
    run = trajectory(cell, x)
    weight = sensitivity(cell, run)
    flat = [a.reshape(-1, a.shape[2]) for a in (run.z, weight.z, run.v, weight.v)]
    return flat[0], flat[1], flat[2], flat[3], run.den.mean((0, 1))


def evidence(policy: Policy) -> list[F64]:
    """Input sequences (B, T, inputs), one array per kind of evidence."""
    made = generated(policy)
    if policy.calibration is None:
        return [made]
    x = policy.calibration.x
    length = min(x.shape[1], MOST_STEPS)
    return [x[: max(1, MOST_STEPS // length), :length], made]


def importance(policy: Policy) -> tuple[float, ...]:
    """What each kind of ``evidence`` counts for; the sum is 1."""
    return (1.0,) if policy.calibration is None else (OWN, 1.0 - OWN)


def generated(policy: Policy, seed: int = 0) -> F64:
    """(ROWS, LENGTH, inputs) within the declared range: sinusoids, held values, jumps between the ends."""
    rng = np.random.default_rng(seed)
    lo, hi = policy.input_range.T
    shape = (LENGTH, policy.inputs)
    parts = []
    for row in range(ROWS):
        if row % 3 == 0:
            parts.append(_waves(rng, shape))
        else:
            parts.append(_held(rng, rng.random(shape) if row % 3 == 1 else rng.choice([0.0, 1.0], shape)))
    return np.asarray(lo + (hi - lo) * np.stack(parts))


def _waves(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
    t = np.arange(shape[0])[:, None, None]
    turns = np.exp(rng.uniform(np.log(0.002), np.log(0.2), (shape[1], 3)))
    waves = np.sin(2.0 * np.pi * (turns * t + rng.random((shape[1], 3))))
    return np.asarray(0.5 + 0.5 * (waves * rng.dirichlet(np.ones(3), shape[1])).sum(axis=2))


def _held(rng: np.random.Generator, x: F64) -> F64:
    for channel in range(x.shape[1]):
        starts = np.cumsum(rng.integers(1, LONGEST_HOLD + 1, x.shape[0]))
        x[:, channel] = x[np.searchsorted(starts, np.arange(x.shape[0]), side="right"), channel]
    return x
