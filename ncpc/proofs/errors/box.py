"""The search for the box of the exact network's states."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64
from ncpc.proofs.errors.facts import Facts

MARGIN = 1e-9
"""Room for the checker's rounding, relative to the hull."""
ROUNDS = 200


def invariant_box(held: Facts) -> F64:
    """(neurons, 2): from the hull of 0, vleak and the reversal potentials, inward while that closes."""
    layer = held.layer
    ends = np.zeros((layer.neurons, 2))
    np.minimum(ends[:, 0], layer.vleak, out=ends[:, 0])
    np.maximum(ends[:, 1], layer.vleak, out=ends[:, 1])
    for s in (layer.sensory, layer.recurrent):
        np.minimum.at(ends[:, 0], s.post, s.erev)
        np.maximum.at(ends[:, 1], s.post, s.erev)
    margin = MARGIN * (1.0 + (ends[:, 1] - ends[:, 0]))
    box = ends + np.stack([-margin, margin], axis=1)
    for _ in range(ROUNDS):
        tighter = _rest_levels(held, box) + np.stack([-margin, margin], axis=1)
        tighter = np.stack([np.maximum(box[:, 0], np.minimum(tighter[:, 0], 0.0)),
                            np.minimum(box[:, 1], np.maximum(tighter[:, 1], 0.0))], axis=1)
        done = np.abs(tighter - box).max() < 1e-7
        box = tighter
        if done:
            break
    return box


def _rest_levels(held: Facts, box: F64) -> F64:
    """The lowest and the highest N/G of each neuron over the activities of a box (Dinkelbach's iteration)."""
    return np.stack([-_highest(held, box, -1.0), _highest(held, box, 1.0)], axis=1)


def _highest(held: Facts, box: F64, sign: float) -> F64:
    layer = held.layer
    u = np.sort(held.x_range * layer.input_w[:, None] + layer.input_b[:, None], axis=1)
    level = sign * box[:, 1 if sign > 0 else 0]
    for _ in range(30):
        num, den = sign * layer.gleak * layer.vleak, layer.gleak + layer.epsilon
        for s, source in ((layer.sensory, u), (layer.recurrent, box)):
            z = s.sigma[:, None] * (source[s.pre] - s.mu[:, None])
            activity = np.sort(0.5 * (1 + np.tanh(z / 2)), axis=1)
            pull = sign * s.erev - level[s.post]
            chosen = s.w * np.where(pull > 0, activity[:, 1], activity[:, 0])
            num = num + np.bincount(s.post, chosen * sign * s.erev, layer.neurons)
            den = den + np.bincount(s.post, chosen, layer.neurons)
        after = num / np.maximum(den, 1e-300)
        if np.abs(after - level).max() < 1e-14:
            break
        level = after
    return level
