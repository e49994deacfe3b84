"""The fixed-point roundings of TFLite's reference kernels, in NumPy (gemmlowp's and TFLite's common.h define them)."""

from __future__ import annotations

from collections.abc import Callable
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


def multipliers(a: float, b: float, out: float) -> tuple[float, float]:
    """What LiteRT and what TFLite Micro multiply a product of integers by: s_a*s_b/s_out in binary32 and binary64."""
    return float(np.float32(a) * np.float32(b) / np.float32(out)), a * b / out


def rescaler(m: I64 | int, shift: I64 | int) -> Callable[[I64], I64]:
    """A 32-bit number times a quantized multiplier: halves go up in the product, then away from zero in the shift.

    gemmlowp's product nudges by the sign and cuts towards zero, which is the same number as rounding halves up.
    """
    left, right = np.maximum(shift, 0), np.maximum(-np.asarray(shift, np.int64), 0)
    half, some = (np.int64(1) << right) >> 1, right > 0

    def rescale(a: I64) -> I64:
        product = ((a << left) * m + (1 << 30)) >> 31
        below = ((product < 0) & some).astype(np.int64)
        shifted: I64 = (product + half - below) >> right
        return shifted

    return rescale


def wide_rescaler(m: I64, shift: I64) -> Callable[[I64], I64]:
    """A 48-bit accumulator times a quantized multiplier cut to 16 bits: one rounding, halves up."""
    reduced = np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF)
    total = 15 - shift
    half = np.int64(1) << (total - 1)
    return lambda a: (a * reduced + half) >> total
