"""A box of states that no input within the declared range can leave, over the reals, for every dt and for all time.

``v' <= H`` whenever ``v <= H`` if ``gleak (vleak - H) - epsilon H + sum_j max_s w_j s_j (erev_j - H) <= 0``, each
synapse at the worse end of what its sigmoid can return while its source stays in its own range. The left side falls
with H, so the least H is found by bisection; starting from the hull of vleak, the reversal potentials and 0, which is
invariant, boxes that use each other's ranges stay invariant as they shrink.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Ltc, Synapses
from ncpc.semantics.bounds import Range, weighted
from ncpc.targets.nir.front import Cell, logistic

F64 = NDArray[np.float64]

ROUNDS = 8
HALVINGS = 40
MARGIN = 1e-6
"""Share of its width by which a box is widened, against rounding in this search."""


def invariant_box(cell: Cell, input_range: F64) -> F64:
    """(neurons, 2): lower and upper bounds that contain the reset state 0."""
    ltc, sensed = cell.ltc, sensed_range(cell, input_range)
    box = _hull(ltc)
    sensory = _activity(ltc.sensory, sensed)
    for _ in range(ROUNDS):
        recurrent = _activity(ltc.recurrent, _widened(box))
        upper = _bound(ltc, sensory, recurrent, box[:, 1], 1.0)
        lower = -_bound(ltc, sensory, recurrent, -box[:, 0], -1.0)
        box = np.stack([np.maximum(lower, box[:, 0]), np.minimum(upper, box[:, 1])], axis=1)
    return _widened(box)


def _widened(box: F64) -> F64:
    """Sources are let to roam the widened box, so that it is the widened box which is invariant."""
    return np.asarray(box + MARGIN * (box[:, 1:] - box[:, :1]) * np.array([-1.0, 1.0]))


def _hull(ltc: Ltc) -> F64:
    lo, hi = np.minimum(ltc.vleak, 0.0), np.maximum(ltc.vleak, 0.0)
    for s in (ltc.sensory, ltc.recurrent):
        np.minimum.at(lo, s.post, s.erev)
        np.maximum.at(hi, s.post, s.erev)
    return np.stack([lo, hi], axis=1)


def sensed_range(cell: Cell, input_range: F64) -> F64:
    """(cell inputs, 2): every activation is monotone, so the ends are at the ends."""
    sums = weighted(np.matmul, cell.weight, Range(*input_range.T))
    return np.sort(cell.sensed(np.stack(sums) + cell.bias), axis=0).T


def _activity(s: Synapses, source: F64) -> F64:
    """(2, S): least and largest value of each sigmoid while its source stays in ``source`` (n, 2)."""
    return np.sort(logistic(s.sigma[:, None] * (source[s.pre] - s.mu[:, None])), axis=1).T


def _bound(ltc: Ltc, sensory: F64, recurrent: F64, most: F64, sign: float) -> F64:
    """The least H >= 0 that holds, mirrored by ``sign``; ``most`` is one that does."""
    low, high = np.zeros_like(most), most.copy()
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        holds = _push(ltc, sensory, recurrent, middle, sign) <= 0.0
        low, high = np.where(holds, low, middle), np.where(holds, middle, high)
    return high


def _push(ltc: Ltc, sensory: F64, recurrent: F64, at: F64, sign: float) -> F64:
    """Largest ``sign * (N - D v) `` at ``v = sign * at`` but for the self term, which cancels."""
    total = ltc.gleak * (sign * ltc.vleak - at) - ltc.epsilon * at
    for s, activity in ((ltc.sensory, sensory), (ltc.recurrent, recurrent)):
        pull = s.w * (sign * s.erev - at[s.post])
        total = total + np.bincount(s.post, (pull * activity).max(axis=0), ltc.neurons)
    return np.asarray(total)
