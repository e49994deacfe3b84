"""The proof of multistability: two rest points of the exact network under one constant input, in disjoint boxes.

At rest ``f(v) = N(v) - G(v)*v = 0`` (cm and dt drop out). Krawczyk's test (1969) in outward-rounded arithmetic: with a
matrix Y and m in a box X, ``m - Y*f(m) + (I - Y*F(X))*(X - m)`` strictly inside X, F an enclosure of the Jacobian on X,
proves that X holds exactly one zero of f.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ncpc.ir.policy import F64, Ltc
from ncpc.proofs.errors.certificate import numbers
from ncpc.proofs.errors.outward import Bounds, around, bounds, sigmoid


@dataclass(frozen=True, eq=False)
class Witness:
    """A constant input ``x`` (inputs,), and two states (2, neurons) with ``radius`` around each: the boxes."""

    x: F64
    states: F64
    radius: float


def as_json(found: Witness) -> dict[str, Any]:
    """JSON, doubles in full."""
    return {"x": found.x.tolist(), "states": found.states.tolist(), "radius": found.radius}


def from_json(data: object, where: str) -> Witness:
    """The witness a JSON object holds; raises BadInput for anything else."""
    record = data if isinstance(data, dict) else {}
    x, states, radius = (numbers(record, name, where) for name in ("x", "states", "radius"))
    return Witness(x, states, float(radius) if radius.ndim == 0 else 0.0)


def proves(layer: Ltc, x_range: F64, found: Witness) -> bool:
    """Whether the input is in range and both boxes, which are disjoint, hold a rest point of the exact network each."""
    if found.x.shape != (layer.inputs,) or found.states.shape != (2, layer.neurons) or not found.radius > 0.0:
        return False
    inside = bool(((found.x >= x_range[:, 0]) & (found.x <= x_range[:, 1])).all())
    apart = (bounds(found.states[0]) - found.states[1]).size()
    disjoint = bool((apart.lo > (bounds(found.radius) * 2.0).hi).any())
    return inside and disjoint and all(_holds_one(layer, found.x, state, found.radius) for state in found.states)


def _holds_one(layer: Ltc, x: F64, middle: F64, radius: float) -> bool:
    box = bounds(middle) + around(radius)
    slope = jacobian(layer, x, box)
    with np.errstate(all="ignore"):
        try:
            y: F64 = np.linalg.inv((slope.lo + slope.hi) / 2).astype(np.float64)
        except np.linalg.LinAlgError:
            return False
    if not np.isfinite(y).all():
        return False
    newton = bounds(middle) - product(bounds(y), flow(layer, x, bounds(middle)))
    rest = bounds(np.eye(len(middle))) - _matrices(bounds(y), slope)
    image = newton + product(rest, Bounds(np.full(len(middle), -radius), np.full(len(middle), radius)) * WIDER)
    return bool(((image.lo > box.lo) & (image.hi < box.hi)).all())


WIDER = 1.0 + 2.0**-20
"""The box is rounded outward: its half width may be a little more than the radius."""


def flow(layer: Ltc, x: F64, v: Bounds) -> Bounds:
    """N - G*v per neuron."""
    total = bounds(layer.gleak) * (bounds(layer.vleak) - v) - v * layer.epsilon
    for s, source in _sources(layer, x, v):
        activity = sigmoid((source - s.mu) * s.sigma)
        current = activity * s.w * (bounds(s.erev) - v[s.post])
        total = _added(total, s.post, current)
    return total


def jacobian(layer: Ltc, x: F64, v: Bounds) -> Bounds:
    """df_i/dv_j as (i, j)."""
    n = layer.neurons
    conductance = bounds(layer.gleak) + layer.epsilon
    feeding = Bounds(np.zeros(n * n), np.zeros(n * n))
    for s, source in _sources(layer, x, v):
        activity = sigmoid((source - s.mu) * s.sigma)
        conductance = _added(conductance, s.post, activity * s.w)
        if s is layer.recurrent:
            steep = activity * (bounds(1.0) - activity) * s.sigma * s.w * (bounds(s.erev) - v[s.post])
            feeding = _added(feeding, s.post * n + s.pre, steep)
    held = _added(feeding, np.arange(n) * (n + 1), -conductance)
    return Bounds(held.lo.reshape(n, n), held.hi.reshape(n, n))


def _sources(layer: Ltc, x: F64, v: Bounds) -> list[tuple[Any, Bounds]]:
    u = bounds(x) * layer.input_w + layer.input_b
    return [(layer.recurrent, v[layer.recurrent.pre]), (layer.sensory, u[layer.sensory.pre])]


def _added(total: Bounds, where: Any, parts: Bounds) -> Bounds:
    """Sums one by one, each rounded outward."""
    lo, hi = total.lo.copy(), total.hi.copy()
    for i, low, high in zip(where, parts.lo, parts.hi, strict=True):
        lo[i], hi[i] = np.nextafter(lo[i] + low, -np.inf), np.nextafter(hi[i] + high, np.inf)
    return Bounds(lo, hi)


def product(a: Bounds, v: Bounds) -> Bounds:
    """A matrix times a vector."""
    total = Bounds(np.zeros(a.lo.shape[0]), np.zeros(a.lo.shape[0]))
    for j in range(a.lo.shape[1]):
        total = total + a[:, j] * v[j]
    return total


def _matrices(a: Bounds, b: Bounds) -> Bounds:
    total = Bounds(np.zeros_like(b.lo), np.zeros_like(b.lo))
    for j in range(a.lo.shape[1]):
        total = total + a[:, j : j + 1] * b[j : j + 1, :]
    return total
