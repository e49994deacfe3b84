"""The exact error of the integer reciprocal, by enumeration of every normalized divisor."""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.formed import INVERSE
from ncpc.ir.quantized import I64
from ncpc.semantics import fixed
from ncpc.semantics.formed import Intervals, TermRange, operations, value


@cache
def excess() -> Fraction:
    """The least e with ``inverse(d, k) <= (1 + e) * 2**(46 + k) / d`` for every d.

    A divisor d with exponent x has ``d * 2**x / 2**15`` in [m, m + 1), m the normalized divisor; r/2**31 stands for
    1/m.
    """
    m, r = _all()
    worst = int(np.argmax(r * (m + 1)))
    return Fraction(int(r[worst]) * (int(m[worst]) + 1), 1 << 31) - 1


@cache
def shortfall() -> Fraction:
    """The least e with ``inverse(d, k) >= (1 - e) * 2**(46 + k) / d`` for every d."""
    m, r = _all()
    worst = int(np.argmin(r * m))
    return 1 - Fraction(int(r[worst]) * int(m[worst]), 1 << 31)


@cache
def formed() -> tuple[TermRange, ...]:
    """Every number that C forms of a normalized divisor (``formed.INVERSE``); all of them fit, or ``ProofFailed``.

    m stands for all divisors that it leads, shifted up; the last shift, by as much as m was shifted, is not here.
    """
    m, _ = _all()
    ends = Intervals({})
    numbers = {"a": m << 16, "zeros": np.zeros(1, np.int64)}
    for name, part in INVERSE.lets[1:]:
        for node in operations(part):
            got = value(node, numbers)
            ends.note(node, (got, got))
        numbers[name] = value(part, numbers)
    if not all(node.fits for node in ends.nodes):
        raise ProofFailed("inverse: its Newton step may leave 32 bits")
    return tuple(ends.nodes)


def reciprocals() -> tuple[I64, I64]:
    """The least and the largest r."""
    _, r = _all()
    return r.min(), r.max()


@cache
def _all() -> tuple[np.ndarray, np.ndarray]:
    m = np.arange(1 << 15, 1 << 16, dtype=np.int64)
    return m, fixed.recip(m << 15, np.zeros(len(m), np.int64))
