"""Interval arithmetic that is never too narrow: arrays of lower and upper bounds, each operation rounded outward.

IEEE 754 rounds sums, differences and products to the nearest double; the neighbour of that one, outward, is a bound.
Exponentials come from ``decimal``, whose ``exp`` is correctly rounded, at 30 digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np

from ncpc.ir.policy import F64

DIGITS = Context(prec=30)
STEEP = 700.0
"""Beyond this, exp leaves double's range: sigmoids are bounded by 0 and 1 there."""
TINY = 2.0**-30
"""Below this, exp(d) - 1 is bounded by d + d*d."""
HUGE = 1e300
"""Stands for any larger number; what it multiplies is then bounded otherwise."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Numbers known to lie in [lo, hi], element by element; a plain array stands for itself."""

    lo: F64
    hi: F64
    __array_ufunc__ = None
    """An array to the left of an operation with bounds is an error, not an array of objects."""

    def __add__(self, other: Bounds | F64 | float) -> Bounds:
        o = bounds(other)
        return Bounds(_down(self.lo + o.lo), _up(self.hi + o.hi))

    def __sub__(self, other: Bounds | F64 | float) -> Bounds:
        return self + -bounds(other)

    def __neg__(self) -> Bounds:
        return Bounds(-self.hi, -self.lo)

    def __mul__(self, other: Bounds | F64 | float) -> Bounds:
        o = bounds(other)
        a, b, c, d = self.lo * o.lo, self.lo * o.hi, self.hi * o.lo, self.hi * o.hi
        least, most = np.minimum(np.minimum(a, b), np.minimum(c, d)), np.maximum(np.maximum(a, b), np.maximum(c, d))
        return Bounds(_down(least), _up(most))

    def __getitem__(self, at: Any) -> Bounds:
        return Bounds(np.asarray(self.lo[at]), np.asarray(self.hi[at]))

    def size(self) -> Bounds:
        """Absolute values."""
        least = np.maximum(np.maximum(self.lo, -self.hi), 0.0)
        return Bounds(least, np.maximum(-self.lo, self.hi))


def bounds(value: Bounds | F64 | float) -> Bounds:
    """A number as bounds: itself."""
    if isinstance(value, Bounds):
        return value
    exact = np.asarray(value, np.float64)
    return Bounds(exact, exact)


def around(radius: float) -> Bounds:
    """Between -radius and radius."""
    return Bounds(np.asarray(-radius, np.float64), np.asarray(radius, np.float64))


def larger(a: Bounds, b: Bounds) -> Bounds:
    """The larger of two, element by element."""
    return Bounds(np.maximum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def smaller(a: Bounds, b: Bounds) -> Bounds:
    """The smaller of two, element by element."""
    return Bounds(np.minimum(a.lo, b.lo), np.minimum(a.hi, b.hi))


def per(value: Bounds, divisor: Bounds) -> Bounds:
    """A quotient; the divisor is positive."""
    if not bool((divisor.lo > 0.0).all()):
        raise ZeroDivisionError("a divisor may be 0")
    inverse = Bounds(_down(1.0 / divisor.hi), _up(1.0 / divisor.lo))
    return value * inverse


def sigmoid(z: Bounds) -> Bounds:
    """1/(1 + exp(-z))."""
    return Bounds(_each(_sigmoid_below, z.lo), _each(_sigmoid_above, z.hi))


def growth(d: Bounds) -> Bounds:
    """exp(d) - 1 for d >= 0; ``HUGE`` where it leaves double's range."""
    return Bounds(np.zeros_like(d.lo), _each(_growth_above, d.hi))


def _each(function: object, values: F64) -> F64:
    assert callable(function)
    flat = [function(float(v)) for v in np.asarray(values).ravel()]
    return np.array(flat, np.float64).reshape(np.shape(values))


@cache
def _sigmoid_below(z: float) -> float:
    return 0.0 if z < -STEEP else max(float(np.nextafter(_sigmoid(min(z, STEEP)), -1.0)), 0.0)


@cache
def _sigmoid_above(z: float) -> float:
    return 1.0 if z > STEEP else min(float(np.nextafter(_sigmoid(max(z, -STEEP)), 2.0)), 1.0)


def _sigmoid(z: float) -> float:
    """To 28 digits, then the nearest double: its neighbours are bounds."""
    return float(DIGITS.divide(Decimal(1), DIGITS.add(Decimal(1), DIGITS.exp(Decimal(-z)))))


@cache
def _growth_above(d: float) -> float:
    if d > STEEP:
        return HUGE
    least = DIGITS.subtract(DIGITS.exp(Decimal(d)), Decimal(1)) if d > TINY else Decimal(d * (1.0 + 2.0 * TINY))
    return float(np.nextafter(float(least), np.inf))


def _down(value: F64) -> F64:
    bound: F64 = np.nextafter(value, -np.inf)
    return bound


def _up(value: F64) -> F64:
    bound: F64 = np.nextafter(value, np.inf)
    return bound
