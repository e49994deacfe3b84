"""Exact integer arithmetic of the fixed-point ops, on int64 arrays. Rounding is floor(x + 1/2) everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.formed import RECIP_BITS

I64 = NDArray[np.int64]

def shr(a: I64, k: int | I64) -> I64:
    """floor(a / 2**k + 1/2); ``k`` may be an array."""
    half = (np.int64(1) << np.asarray(k, np.int64)) >> 1
    rounded: I64 = (a + half) >> k
    return rounded


def mulshr(a: I64, b: I64, k: int) -> I64:
    """floor(a*b / 2**k + 1/2); both arguments are 32-bit, so the product is exact."""
    return shr(a * b, k)


def norm(a: I64) -> I64:
    """e with 2**30 <= a * 2**e < 2**31; ``a`` outside [1, 2**31) raises ``ZeroDivisionError``."""
    if a.size and (a.min() < 1 or a.max() >= 1 << 31):
        raise ZeroDivisionError(f"norm of {a.min()}..{a.max()}: needs 1 <= a < 2**31")
    # frexp is exact here: a < 2**53
    return 31 - np.frexp(a.astype(np.float64))[1].astype(np.int64)


def recip_table() -> I64:
    """Seeds: entry i is 2**31 over the middle of [2**15 + i*2**8, 2**15 + (i+1)*2**8), rounded."""
    middle = (1 << 15) + (np.arange(1 << RECIP_BITS, dtype=np.int64) << (15 - RECIP_BITS)) + (1 << (14 - RECIP_BITS))
    return ((np.int64(1) << 32) // middle + 1) >> 1


SEEDS = recip_table()


def recip(a: I64, e: I64) -> I64:
    """r close to 2**31/m, with m = (a << e) >> 15 in [2**15, 2**16): the seed and one Newton step in 32 bits."""
    m = (a << e) >> 15
    seed = SEEDS[(m >> (15 - RECIP_BITS)) - (1 << RECIP_BITS)]
    residual = ((np.int64(1) << 31) - m * seed) >> 8
    refined: I64 = seed + ((seed * residual + (1 << 22)) >> 23)
    return refined


def inverse(a: I64, k: int) -> I64:
    """recip(a) * 2**(norm(a) + k), close to 2**(46 + k) / a; ``norm(a) + k`` must not be negative."""
    e = norm(a)
    if e.size and e.min() + k < 0:
        raise OverflowError(f"inverse shifts by {e.min() + k}: k={k} is too small for {a.max()}")
    shifted: I64 = recip(a, e) << (e + k)
    return shifted


def lut(a: I64, table: I64, k: int) -> I64:
    """The table at ``a`` with linear interpolation over the low ``k`` bits; ``a`` beyond the table takes its end."""
    t = np.clip(a, 0, ((table.shape[0] - 1) << k) - 1)
    i, f = t >> k, t & ((1 << k) - 1)
    value: I64 = table[i] + shr((table[i + 1] - table[i]) * f, k)
    return value
