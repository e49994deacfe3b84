"""What a policy does on its calibration data, over the reals: ranges that decide widths, never correctness."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncpc.ir.heads import products
from ncpc.ir.policy import F64, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.quant.intervals import Range
from ncpc.semantics.run import run

FRAME, SHORT = 512, 20
"""Inputs beyond which a policy reads frames, and the steps of generated data for one."""
MOST_PRODUCTS, FEWEST = 10**9, 4
"""Products that observing a layer may take, and the steps it takes at least."""
STEPS = 400
"""Steps of generated data where a policy carries no calibration."""
STILL = 1e-6
"""An output that moves less than this says nothing about the tolerance."""


def output_range(policy: Policy) -> float:
    """The smallest range (max - min) among the outputs that move, in physical units; 1 when none does."""
    y = run(lower(policy), _data(policy)).y
    spread = np.ptp(y.reshape(-1, y.shape[2]), axis=0)
    moving = spread[spread > STILL]
    return float(moving.min()) if moving.size else 1.0


def observed_values(policy: Policy) -> tuple[F64, dict[str, F64], F64]:
    """Inputs, states by name and outputs on the calibration data: (n, inputs), (n, neurons) each, (n, outputs)."""
    real, data = lower(policy), _data(policy)
    trace = run(real, data)
    sizes = np.cumsum([int(np.prod(s.inp.shape)) for s in real.states])[:-1]
    parts = np.split(trace.state, sizes, axis=2) if real.states else []
    states = {s.inp.name: p.reshape(-1, p.shape[2]) for s, p in zip(real.states, parts, strict=True)}
    return data.x.reshape(-1, policy.inputs), states, trace.y.reshape(-1, policy.outputs)


def observed_states(policy: Policy, position: int) -> dict[str, Range]:
    """The ranges of one layer's states, by their names in that layer's own step."""
    layer = policy.layers[position]
    own = lower(Policy(policy.name, (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)), policy.dt))
    if not own.states:
        return {}
    upto = lower(dataclasses.replace(policy, layers=policy.layers[: position + 1], output_names=()))
    state = run(upto, _data(policy)).state
    sizes = [int(np.prod(s.inp.shape)) for s in upto.states]
    parts = np.split(state, np.cumsum(sizes)[:-1], axis=2)[-len(own.states) :]
    return {s.inp.name: Range(_low(p), _high(p)) for s, p in zip(own.states, parts, strict=True)}


def observed_outputs(policy: Policy, position: int) -> Range:
    """The lowest and the highest of one layer's outputs, a single range for all of them.

    Where frames are read, a dark one and a bright one are tried too: few data hold a lens that is covered or blinded.
    """
    upto = lower(dataclasses.replace(policy, layers=policy.layers[: position + 1], output_names=()))
    found = [run(upto, data).y for data in (_few(policy), *_even_frames(policy))]
    return Range(np.asarray(min(y.min() for y in found)), np.asarray(max(y.max() for y in found)))


def _even_frames(policy: Policy) -> list[Sequences]:
    """Steps of frames whose numbers are all at one end of the declared range, if the policy reads frames."""
    if not hasattr(policy.layers[0], "windows"):
        return []
    ends = np.repeat(policy.input_range.T[:, None], FEWEST, axis=1)
    return [Sequences(ends, np.full((2, FEWEST), policy.dt.nominal))]


def _few(policy: Policy) -> Sequences:
    """The calibration's first steps, as many as the products of a step allow."""
    data = _data(policy)
    steps = max(FEWEST, min(data.x.shape[1], int(MOST_PRODUCTS // (max(products(policy.layers), 1) * len(data.x)))))
    return Sequences(data.x[:, :steps], None if data.dt is None else data.dt[:, :steps])


def _low(part: F64) -> F64:
    low: F64 = np.minimum(part.min(axis=(0, 1)), 0.0)
    return low


def _high(part: F64) -> F64:
    high: F64 = np.maximum(part.max(axis=(0, 1)), 0.0)
    return high


def _data(policy: Policy) -> Sequences:
    """The calibration, or uniform noise and held values within the declared ranges."""
    if policy.calibration is not None:
        return policy.calibration
    rng = np.random.default_rng(0)
    lo, hi = policy.input_range.T
    steps = STEPS if policy.inputs <= FRAME else SHORT
    noise = rng.uniform(lo, hi, (2, steps, policy.inputs))
    noise[1] = np.repeat(noise[1, ::20], 20, axis=0)
    return Sequences(noise, np.full((2, steps), policy.dt.nominal))
