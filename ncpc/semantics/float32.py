"""exp, sigmoid and tanh in binary32, as the exact sequence of operations that generated C performs.

NumPy's own functions differ between machines; these use only +, -, *, / and bit operations, each correctly rounded,
so a target that performs the same operations without contraction agrees bit for bit.
exp: x = n ln 2 + r with |r| <= ln(2)/2 (Cody and Waite's two-part ln 2), a polynomial of degree 6 in r (Taylor
coefficients; the remainder is below 2e-8 relative), times 2**n through the exponent field.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

EXP_LO = np.float32(-87.0)
"""Below this, exp is taken at -87: 2**n stays a normal number."""
EXP_HI = np.float32(88.0)
LOG2E = np.float32(1.44269504)
LN2_HI = np.float32(0.693359375)
LN2_LO = np.float32(-2.12194440e-4)
HALF = np.float32(0.5)
ONE = np.float32(1.0)
TWO = np.float32(2.0)
EXP_POLY = tuple(np.float32(c) for c in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 0.5, 1.0, 1.0))
"""Coefficients of r**6 ... r**0, for Horner's rule."""


def exp(x: F32) -> F32:
    """e**x, for x limited to [-87, 88]; NaN counts as -87, so that no NaN enters a state through a sigmoid."""
    x = np.fmin(np.fmax(x, EXP_LO), EXP_HI)
    n = np.floor(x * LOG2E + HALF)
    r = (x - n * LN2_HI) - n * LN2_LO
    p = np.full_like(r, EXP_POLY[0])
    for coefficient in EXP_POLY[1:]:
        p = p * r + coefficient
    scale: F32 = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    product: F32 = p * scale
    return product


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x))."""
    value: F32 = ONE / (ONE + exp(-x))
    return value


def tanh(x: F32) -> F32:
    """1 - 2 / (exp(2x) + 1)."""
    value: F32 = ONE - TWO / (exp(TWO * x) + ONE)
    return value
