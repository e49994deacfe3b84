"""The exact error of the integer reciprocal, by enumeration of every normalized divisor."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from ncpc.semantics import fixed


@cache
def excess() -> Fraction:
    """The least e with ``inverse(d, k) <= (1 + e) * 2**(46 + k) / d`` for every d.

    A divisor d with exponent x has ``d * 2**x / 2**15`` in [m, m + 1), m the normalized divisor; r/2**31 stands for
    1/m.
    """
    m, r = _all()
    worst = int(np.argmax(r * (m + 1)))
    return max(Fraction(int(r[worst]) * (int(m[worst]) + 1), 1 << 31) - 1, Fraction(0))


@cache
def shortfall() -> Fraction:
    """The least e with ``inverse(d, k) >= (1 - e) * 2**(46 + k) / d`` for every d."""
    m, r = _all()
    worst = int(np.argmin(r * m))
    return max(1 - Fraction(int(r[worst]) * int(m[worst]), 1 << 31), Fraction(0))


@cache
def _all() -> tuple[np.ndarray, np.ndarray]:
    m = np.arange(1 << 15, 1 << 16, dtype=np.int64)
    return m, fixed.recip(m << 15, np.zeros(len(m), np.int64))
