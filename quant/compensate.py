"""Rounding to few bits: what one weight's rounding costs, the weights rounded after it make up for.

A sum of weighted signals is off by ``J d`` for errors ``d`` of its weights, so least where ``d' H d`` is least, with
``H = J' J`` over what occurs. Weights are rounded one after another, and each error is spread over those still free,
as the optimal brain surgeon does (Hassibi and Stork 1993) and GPTQ for large matrices (Frantar et al. 2022, arXiv
2210.17323, equations 2 and 3); then single units are moved while that helps.
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64, I64

RIDGE = 0.1
"""Share of its mean that is added to H's diagonal: directions that the data do not show must not be used freely.

Measured on eight kinds of cells: 0.001 follows signals that are nearly alike, as a CT-GRU's memories, too far.
"""
TINY = 2.0**-60
"""Added as well, for signals that are all 0."""
ROUNDS = 20
"""Passes over all weights in which units are moved; it settles in a few."""
GAIN = 1e-9
"""Share of one unit's cost below which moving it is no gain."""


def ridged(hessian: F64) -> F64:
    """``hessian`` (n, n) with a share of its mean added to the diagonal."""
    n = len(hessian)
    return hessian + np.eye(n) * (RIDGE * float(np.trace(hessian)) / max(n, 1) + TINY)


def reduced(hessian: F64, kept: int) -> F64:
    """The costs of the first ``kept`` errors where the others may take whatever value makes up best (Schur)."""
    across = hessian[:kept, kept:]
    less: F64 = hessian[:kept, :kept] - across @ np.linalg.solve(hessian[kept:, kept:], across.T)
    return less


def compensated(weights: F64, ends: tuple[F64, F64], hessian: F64) -> I64:
    """``weights`` (rows, n), in units of their grid, as integers within ``ends``, so that ``d' H d`` is small.

    ``ends`` are (n,) or (rows, n) each. ``hessian`` (n, n), positive definite, is what errors of one unit cost
    together, the same for all rows up to a factor. No row costs more than one whose weights are rounded each by itself,
    and weights that are integers stay what they are. Where it is not finite, as of a network that diverges, or so
    uneven that it has no Cholesky factor in float64, each weight is rounded by itself.
    """
    # Two signals that are always equal, weights 0.4 and 0.4: rounded alone both are 0, and the sum misses 0.8. Here
    # the first becomes 0, its 0.4 goes to the second, and 0.8 becomes 1: the sum misses 0.2.
    nearest = np.clip(np.floor(weights + 0.5), *ends)
    order = np.argsort(-np.diag(hessian), kind="stable")
    lo, hi = (np.broadcast_to(end, weights.shape)[:, order] for end in ends)
    free = weights[:, order].copy()
    h = hessian[np.ix_(order, order)]
    upper = _spread(h)
    if upper is None:
        return nearest.astype(np.int64)
    found = np.empty_like(free)
    for k in range(free.shape[1]):
        found[:, k] = np.clip(np.floor(free[:, k] + 0.5), lo[:, k], hi[:, k])
        free[:, k + 1:] -= np.outer((free[:, k] - found[:, k]) / upper[k, k], upper[k, k + 1:])
    own = weights[:, order]
    settled = np.stack([_settled(start, own, (lo, hi), h) for start in (found, nearest[:, order])])
    costs = np.einsum("sri,ij,srj->sr", settled - own, h, settled - own)
    back = np.empty(weights.shape, np.int64)
    back[:, order] = np.where((costs[1] < costs[0])[:, None], settled[1], settled[0])
    return back


def _spread(h: F64) -> F64 | None:
    """How the error of each weight is spread over those after it; None where that cannot be told."""
    if not np.isfinite(h).all():
        return None
    try:
        upper: F64 = np.linalg.cholesky(np.linalg.inv(h)).T
    except np.linalg.LinAlgError:
        return None
    return upper if np.isfinite(upper).all() else None


def _settled(found: F64, weights: F64, ends: tuple[F64, F64], h: F64) -> F64:
    """Single units moved up or down while ``d' H d`` falls."""
    slope, cost = (found - weights) @ h, np.diag(h)
    for _ in range(ROUNDS):
        moved = False
        for k in range(found.shape[1]):
            unit = np.where(slope[:, k] > 0, -1.0, 1.0)
            after = found[:, k] + unit
            better = 2.0 * unit * slope[:, k] + cost[k] < -GAIN * cost[k]
            unit = np.where(better & (ends[0][:, k] <= after) & (after <= ends[1][:, k]), unit, 0.0)
            if unit.any():
                found[:, k] += unit
                slope += np.outer(unit, h[k])
                moved = True
        if not moved:
            break
    return found
