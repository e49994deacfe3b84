"""Thermometer codes: where their levels stand, how many each number gets, and what each cell stands for.

The levels of all codes are drawn from one density, so that an error of quantization costs the same everywhere. With
``p(v)`` how often a number is visited and ``m(v)`` how much an error there shows in the outputs (it holds the slopes
of the sigmoids that read it), the mean square error of a code of density ``d`` is ``sum p m / (12 d^2)``, least for
``d ~ (p m)^(1/3)`` (Panter and Dite 1951). A small uniform part covers the whole range, so that no state is without a
level. Errors of quantization are not quite noise; how many levels each code gets can therefore be given (see
``trial``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

GRID = 4096
"""Points at which densities are held."""
POWER = 1.0 / 3.0
DITHER = (-3, 1, -1, 3)
"""Shifts of the levels in eighths of a cell, one per phase of the ring; they cancel."""
PHASES = len(DITHER)
FLOOR = 1e-3
"""Share of a density that is spread evenly over the range."""
SMOOTHING = 0.2
"""Width of the kernel over the samples, in their standard deviations."""
FEWEST = 4
"""Levels that even a number without influence gets."""


@dataclass(frozen=True, eq=False)
class Number:
    """A number to be coded: its range, the grid ``origin + step*n`` that its levels stand on, its resting value, and
    what it did: ``values`` (n,), the ``share`` (n,) of each in the evidence, and the ``weight`` (n,) of an error there.
    """

    lo: float
    hi: float
    origin: float
    step: float
    rest: float
    values: F64
    share: F64
    weight: F64


@dataclass(frozen=True, eq=False)
class Code:
    """``index`` (K,) ascending: the levels on the number's grid; ``centres`` (K+1,): what each cell stands for;
    ``below`` (K,): levels at or under the resting value, whose units fire when the number is *less*, so that at rest
    all are silent. ``reach`` (K,) is the distance of the centres on both sides of a level, ``lean`` (K,) how far it
    stands above their middle, in grid steps.
    """

    index: I64
    centres: F64
    below: NDArray[np.bool_]
    lean: F64
    reach: F64

    def shifts(self, rank: int) -> F64:
        """(K, PHASES): what is added to the number before it meets each level, in grid steps.

        Over the phases a level stands at 1/8, 3/8, 5/8 and 7/8 of the way between the centres of the two cells it
        parts. So a number between two centres is, on average, said as what it is, and none lingers in a cell for want
        of a level within reach. ``rank`` rotates the phases, that numbers do not move together.
        """
        return np.asarray(self.lean[:, None] + self.reach[:, None] * np.roll(DITHER, -rank) / 8.0)

    @property
    def resting_cell(self) -> int:
        """The cell of silence."""
        return int(self.below.sum())

    def weights(self, values: I64) -> I64:
        """Weights per unit (K,) so that ``values[resting_cell] + spikes @ weights = values[cell]``."""
        # Levels -3, 1, 4 and a resting value of 0: only the first unit is "below". Cells worth 50, 70, 80, 95 give
        # weights -20, 10, 15: silence is 70; at -5 the first fires, 70 - 20; at 2 the second, 70 + 10; at 5 both
        # others, 95.
        steps = np.diff(values)
        return np.where(self.below, -steps, steps)


def uniform_codes(numbers: Sequence[Number], units: int) -> tuple[Code, ...]:
    """The same number of evenly spaced levels for every number: the baseline."""
    each = units // len(numbers)
    steps = np.arange(1, each + 1) / (each + 1)
    return tuple(_code(n, n.lo + (n.hi - n.lo) * steps, middles=True) for n in numbers)


def placed_codes(numbers: Sequence[Number], units: int, shares: F64 | None = None) -> tuple[Code, ...]:
    """Levels placed by visits and influence; together at most ``units``, which must be enough for ``FEWEST`` each.

    Each number gets levels in proportion to its ``shares`` (numbers,), else to the size of its density.
    """
    densities = [_density(n) for n in numbers]
    counts = _counts(np.array([d.sum() for d in densities]) if shares is None else shares, units)
    return tuple(_code(n, _drawn(n, d, int(k))) for n, d, k in zip(numbers, densities, counts, strict=True))


def _counts(sizes: F64, units: int) -> I64:
    """Shares of ``units`` in proportion to ``sizes``; who would get less than ``FEWEST`` gets them first."""
    few = np.zeros(len(sizes), np.bool_)
    while True:
        share = (units - FEWEST * int(few.sum())) / max(float(sizes[~few].sum()), 1e-300)
        more = ~few & (sizes * share < FEWEST)
        if not more.any():
            return np.where(few, FEWEST, sizes * share).astype(np.int64)
        few |= more


def _density(n: Number) -> F64:
    """Levels per grid cell, up to a factor common to all codes."""
    width = (n.hi - n.lo) / GRID
    return np.asarray((_smoothed(n, n.share * n.weight) / width) ** POWER * width)


def _smoothed(n: Number, weight: F64) -> F64:
    """The sum of ``weight`` over the samples in each grid cell, smoothed, with its even share, (GRID,)."""
    counts, _ = np.histogram(np.clip(n.values, n.lo, n.hi), GRID, (n.lo, n.hi), weights=weight)
    smooth = np.convolve(counts, _kernel(n), "same")
    return np.asarray((1.0 - FLOOR) * smooth + FLOOR * max(float(smooth.sum()), 1e-30) / GRID)


def _kernel(n: Number) -> F64:
    cell = (n.hi - n.lo) / GRID
    width = max(SMOOTHING * float(n.values.std()) / cell, 2.0)
    reach = int(min(4.0 * width + 1.0, GRID // 2 - 1))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    return np.asarray(kernel / kernel.sum())


def _drawn(n: Number, density: F64, count: int) -> F64:
    """``count`` levels at equal shares of the density."""
    share = np.concatenate([[0.0], np.cumsum(density)]) / density.sum()
    return np.asarray(np.interp((np.arange(count) + 0.5) / count, share, np.linspace(n.lo, n.hi, GRID + 1)))


def _code(n: Number, wanted: F64, middles: bool = False) -> Code:
    """The code whose levels are the grid points nearest to ``wanted``; levels that fall together are one."""
    index = np.unique(np.floor((wanted - n.origin) / n.step + 0.5).astype(np.int64))
    levels = n.origin + n.step * index
    edges = np.concatenate([[min(n.lo, levels[0])], levels, [max(n.hi, levels[-1])]])
    centres = (edges[1:] + edges[:-1]) / 2.0 if middles else _means(n, edges)
    on_grid = (centres - n.origin) / n.step
    return Code(index, centres, levels <= n.rest, index - (on_grid[1:] + on_grid[:-1]) / 2.0, np.diff(on_grid))


def _means(n: Number, edges: F64) -> F64:
    """The mean of what visits each cell."""
    grid = np.linspace(n.lo, n.hi, GRID + 1)
    visits = _smoothed(n, n.share)
    share = np.diff(np.interp(edges, grid, np.concatenate([[0.0], np.cumsum(visits)])))
    moment = np.cumsum(visits * (grid[1:] + grid[:-1]) / 2.0)
    sums = np.diff(np.interp(edges, grid, np.concatenate([[0.0], moment])))
    means = np.where(share > 0.0, sums / np.maximum(share, 1e-300), (edges[1:] + edges[:-1]) / 2.0)
    return np.asarray(np.clip(means, edges[:-1], edges[1:]))
