"""The sigmoid's table in cells: between two entries, what it returns and how far that is from the sigmoid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.ir.quantized import S_FRAC, Z_HALF
from ncpc.proofs.errors.outward import Bounds, bounds, larger, sigmoid, smaller

BEND = 0.09623
"""More than the largest |sigmoid''|, which is 1/(6*sqrt(3)) = 0.096225..."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cell 0 lies below the table, the last one above it; ``edges`` are the arguments between them.

    ``value`` is what the table returns, exact ends; ``error`` the largest |table - sigmoid|; ``slope`` the range of
    sigmoid', each per cell.
    """

    edges: F64
    value: Bounds
    error: F64
    slope: Bounds

    def over(self, lo: float, hi: float) -> slice:
        """The cells that arguments in [lo, hi] fall into."""
        first, last = np.searchsorted(self.edges, lo, "left"), np.searchsorted(self.edges, hi, "right")
        return slice(int(first), int(last) + 1)


def cells(table: I64) -> Cells:
    """Of a table over [-Z_HALF, Z_HALF] with linear interpolation, rounded to a unit of 2**-S_FRAC."""
    size = len(table) - 1
    edges: F64 = -Z_HALF + np.arange(size + 1).astype(np.float64) * (2.0 * Z_HALF / size)
    real, unit = sigmoid(bounds(edges)), 2.0**-S_FRAC
    held: F64 = table.astype(np.float64) * unit
    left, right = real[:-1], real[1:]
    value = smaller(bounds(held[:-1]), bounds(held[1:])), larger(bounds(held[:-1]), bounds(held[1:]))
    slope = _slope(Bounds(left.lo, right.hi), edges)
    off = (bounds(held) - real).size().hi
    width = 2.0 * Z_HALF / size
    chord = (bounds(np.full(size, BEND)) * (width * width / 8)).hi
    between = (bounds(np.maximum(off[:-1], off[1:])) + chord + unit / 2).hi
    outside = Bounds(np.array([0.0, real.lo[-1]]), np.array([real.hi[0], 1.0]))
    ends = Bounds(held[[0, -2]], held[[0, -1]])
    ends = Bounds(np.minimum(ends.lo, ends.hi), np.maximum(ends.lo, ends.hi))
    beyond = np.maximum((ends - outside.lo).size().hi, (ends - outside.hi).size().hi)
    flat = Bounds(np.zeros(2), (outside * (bounds(1.0) - outside)).hi)
    flat = Bounds(flat.lo, np.minimum(flat.hi, np.array([outside.hi[0], (bounds(1.0) - outside.lo).hi[1]])))
    return Cells(edges, _framed(Bounds(value[0].lo, value[1].hi), ends), np.concatenate(
        [beyond[:1], between, beyond[1:]]), _framed(slope, flat))


def _slope(s: Bounds, edges: F64) -> Bounds:
    """s*(1 - s) between the edges: monotone on either side of 0, 1/4 at it."""
    low, high = bounds(s.lo) * (bounds(1.0) - s.lo), bounds(s.hi) * (bounds(1.0) - s.hi)
    top = np.where((edges[:-1] < 0) & (edges[1:] > 0), 0.25, np.maximum(low.hi, high.hi))
    return Bounds(np.maximum(np.minimum(low.lo, high.lo), 0.0), np.minimum(top, 0.25))


def _framed(inner: Bounds, ends: Bounds) -> Bounds:
    return Bounds(np.concatenate([ends.lo[:1], inner.lo, ends.lo[1:]]),
                  np.concatenate([ends.hi[:1], inner.hi, ends.hi[1:]]))
