"""The fixed-point roundings of TFLite's reference kernels, in NumPy (gemmlowp's and TFLite's common.h define them)."""

from __future__ import annotations

from math import frexp

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


def quantize_multiplier(real: float) -> tuple[int, int]:
    """``real`` as ``m * 2**(shift - 31)`` with m in [2**30, 2**31), rounded half away from zero; 0 when it is tiny."""
    fraction, shift = frexp(real)
    scaled = fraction * 2.0**31
    m = int(np.floor(scaled + 0.5))
    if m == 1 << 31:
        m, shift = m // 2, shift + 1
    return (0, 0) if shift < -31 else (m, shift)


def doubling_high(a: I64, m: I64 | int) -> I64:
    """``a*m / 2**31`` to nearest, halves up, for ``m`` in [0, 2**31)."""
    # gemmlowp nudges by the sign and cuts towards zero, which is the same number.
    rounded: I64 = (a * m + (1 << 30)) >> 31
    return rounded


def rounding_shift(a: I64, k: I64 | int) -> I64:
    """``a / 2**k`` to nearest, halves away from zero, ``k >= 0``."""
    some = np.asarray(k) > 0
    half = (np.int64(1) << np.asarray(k, np.int64)) >> 1
    rounded: I64 = (a + half - ((a < 0) & some)) >> k
    return rounded


def rescale(a: I64, m: I64 | int, shift: I64 | int) -> I64:
    """A 32-bit number times a quantized multiplier: two roundings, one in the product and one in the shift."""
    left, right = np.maximum(shift, 0), np.maximum(-np.asarray(shift, np.int64), 0)
    return rounding_shift(doubling_high(a << left, m), right)


def rescale_wide(a: I64, m: I64, shift: I64) -> I64:
    """A 48-bit accumulator times a quantized multiplier cut to 16 bits: one rounding, half up."""
    reduced = np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF)
    total = 15 - shift
    rounded: I64 = (a * reduced + (np.int64(1) << (total - 1))) >> total
    return rounded
