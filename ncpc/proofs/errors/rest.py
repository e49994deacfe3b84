"""The search for two rest points under one constant input: many inputs, several starts, then Newton's method."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64, Ltc
from ncpc.proofs.errors.outward import bounds
from ncpc.proofs.errors.witness import Witness, flow, jacobian, proves

INPUTS, STARTS, STEPS = 64, 6, 1500
APART = 1e-2
"""States that settle less than this apart may still be on their way to one rest point."""
RADII = (1e-8, 1e-7, 1e-6, 1e-5)


def search_witness(layer: Ltc, x_range: F64) -> Witness | None:
    """Two rest points, proved, or None: none were found, which proves nothing. Deterministic."""
    rng = np.random.default_rng([layer.neurons, layer.inputs])
    x = x_range[:, 0] + (x_range[:, 1] - x_range[:, 0]) * rng.random((INPUTS, layer.inputs))
    states = _settled(layer, x, rng.uniform(-1.0, 1.0, (INPUTS, STARTS, layer.neurons)))
    spread = np.ptp(states, axis=1).max(axis=1)
    for at in np.argsort(-spread)[:8]:
        if spread[at] < APART:
            break
        found = _pair(layer, x_range, x[at], states[at])
        if found is not None:
            return found
    return None


def _pair(layer: Ltc, x_range: F64, x: F64, states: F64) -> Witness | None:
    """The two settled states that are the farthest apart, by Newton's method to the last bits, proved."""
    distance = np.abs(states[:, None] - states[None]).max(axis=2)
    first, second = np.unravel_index(int(distance.argmax()), distance.shape)
    ends = np.stack([_newton(layer, x, states[first]), _newton(layer, x, states[second])])
    for radius in RADII:
        found = Witness(x, ends, radius)
        if np.isfinite(ends).all() and proves(layer, x_range, found):
            return found
    return None


def _newton(layer: Ltc, x: F64, v: F64) -> F64:
    for _ in range(20):
        slope = jacobian(layer, x, bounds(v))
        try:
            v = v - np.linalg.solve((slope.lo + slope.hi) / 2, _middle(layer, x, v))
        except np.linalg.LinAlgError:
            break
    return v


def _middle(layer: Ltc, x: F64, v: F64) -> F64:
    value = flow(layer, x, bounds(v))
    return (value.lo + value.hi) / 2


def _settled(layer: Ltc, x: F64, v: F64) -> F64:
    """States (inputs, starts, neurons) after many updates with a large dt, which has the same rest points."""
    n = layer.neurons
    into = {id(s): np.eye(n)[s.post] for s in (layer.sensory, layer.recurrent)}
    u = x * layer.input_w + layer.input_b
    s = layer.sensory
    activity = s.w / (1.0 + np.exp(-s.sigma * (u[:, s.pre] - s.mu)))
    leak = layer.gleak * layer.vleak
    num_s, den_s = (activity * s.erev) @ into[id(s)] + leak, activity @ into[id(s)] + layer.gleak + layer.epsilon
    r, slow = layer.recurrent, layer.cm * layer.unfolds / float(np.median(layer.cm * layer.unfolds) or 1.0)
    for _ in range(STEPS):
        with np.errstate(over="ignore"):
            activity = r.w / (1.0 + np.exp(-r.sigma * (v[..., r.pre] - r.mu)))
        num = (activity * r.erev) @ into[id(r)] + num_s[:, None]
        den = activity @ into[id(r)] + den_s[:, None]
        v = (slow * v + num) / (slow + den)
    return v
