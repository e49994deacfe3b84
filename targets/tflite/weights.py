"""8-bit weights of convolutions: a scale for each row, and what 8 bits leave over."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

BIAS_BITS = 30
"""Biases stay below 2**30: an int32 accumulator (int8), and the 40 bits that NPUs give int16, then hold the sum."""
SMALLEST_RATIO = 2.0**-24
"""Least product of a row's weight scale and its input's, in units of the output's: the kernels' shifts end at 31."""
EXACT = 1e-9
"""How near a weight must be to an integer to be taken for one: binary64's own rounding."""


def row_scales(matrix: F64, offset: F64, source: float, out: float) -> NDArray[np.float32]:
    """Each row's weight scale, never so small that the bias or the shift overflows."""
    floors = np.maximum(np.abs(offset) / (source * 2.0**BIAS_BITS), SMALLEST_RATIO * out / source)
    scales: NDArray[np.float32] = np.maximum(_largest(matrix), floors).astype(np.float32)
    return scales


def _largest(matrix: F64) -> F64:
    """Each row's largest weight at 127, or at 64 where all its weights are powers of two of each other."""
    most = np.abs(matrix).max(axis=1, initial=0.0)
    parts = np.abs(matrix) / np.maximum(most, 1e-300)[:, None] * 64
    exact = np.all(np.abs(parts - np.round(parts)) < EXACT, axis=1)
    largest: F64 = most / np.where(exact, 64, 127)
    return largest


def split(matrix: F64) -> tuple[F64, F64]:
    """What 8 bits hold of a matrix, and the rest, which is 0 where they hold it all."""
    scale = np.maximum(_largest(matrix), 1e-300)[:, None]
    held = np.floor(matrix / scale + 0.5) * scale
    rest = matrix - held
    rest[np.abs(rest) < EXACT * scale] = 0.0
    return held, rest
