"""What a policy does on its calibration data, over the reals: ranges that decide widths, never correctness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run

STEPS = 400
"""Steps of generated data where a policy carries no calibration."""


@dataclass(frozen=True)
class Observed:
    """The smallest range (max - min) among the outputs that move, in physical units."""

    output_range: float


def observe(policy: Policy, real: Program, seed: int = 0) -> Observed:
    """Run the calibration, or uniform noise and held values within the declared ranges."""
    data = policy.calibration or _generated(policy, seed)
    y = run(real, data).y
    spread = np.ptp(y.reshape(-1, y.shape[2]), axis=0)
    moving = spread[spread > 1e-6]
    return Observed(float(moving.min()) if moving.size else 1.0)


def _generated(policy: Policy, seed: int) -> Sequences:
    rng = np.random.default_rng(seed)
    lo, hi = policy.input_range.T
    noise = rng.uniform(lo, hi, (2, STEPS, policy.inputs))
    noise[1] = np.repeat(noise[1, ::20], 20, axis=0)
    return Sequences(noise, np.full((2, STEPS), policy.dt.nominal))
