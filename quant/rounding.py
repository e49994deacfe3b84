"""Powers of two that hold a range, and numbers as raw integers."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.types import Fixed


def to_raw(x: NDArray[np.float64] | float, frac: int) -> NDArray[np.int64]:
    """floor(x * 2**frac + 1/2)."""
    raw: NDArray[np.int64] = np.floor(np.asarray(x, np.float64) * 2.0**frac + 0.5).astype(np.int64)
    return raw


def from_raw(raw: NDArray[np.int64], frac: int) -> NDArray[np.float64]:
    """The numbers that raw integers stand for."""
    return raw.astype(np.float64) * 2.0**-frac


def fraction_for(magnitude: float, bits: int, most: int = 31) -> int:
    """The largest fraction at which ``magnitude`` rounds into a signed integer of ``bits`` bits, at most ``most``."""
    if magnitude <= 0.0:
        return min(bits - 1, most)
    frac = min(bits - 1 - math.frexp(magnitude)[1], most)
    limit = (1 << (bits - 1)) - 1
    return frac if math.floor(magnitude * 2.0**frac + 0.5) <= limit else frac - 1


def fits(raw: NDArray[np.int64], kind: Fixed) -> bool:
    """Whether every integer is of the type."""
    return raw.size == 0 or bool(kind.lo <= raw.min() and raw.max() <= kind.hi)
