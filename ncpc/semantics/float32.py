"""exp, sigmoid and tanh in binary32, as the exact sequence of operations that generated C performs.

NumPy's own functions differ between machines; these use only +, -, *, / and bit operations, each correctly rounded,
so a target that performs the same operations without contraction agrees bit for bit.
exp: x = n ln 2 + r with |r| <= ln(2)/2 (Cody and Waite's two-part ln 2); 1 + r + r**2 * (a polynomial of degree 3 in
r), times 2**n through the exponent field. The polynomial's coefficients minimize the largest relative error on the
range, 1.1e-7, by iterated weighted least squares (Lawson 1961); pairs of its terms are summed first, which shortens
the chain of dependent operations.
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
ONE = np.float32(1.0)
TWO = np.float32(2.0)
ROUND = np.float32(1.5 * 2**23)
"""Added to a small number and taken off again, it rounds to the nearest integer, whose bits end the sum's."""
EXP_POLY = tuple(np.float32(c) for c in (0.49999231, 0.166671142, 0.0418901853, 0.00831251778))
"""Coefficients of r**2 ... r**5; those of 1 and r are 1."""


def exp(x: F32) -> F32:
    """e**x, for x limited to [-87, 88]; NaN counts as -87, so that no NaN enters a state through a sigmoid."""
    x = np.fmin(np.fmax(x, EXP_LO), EXP_HI)
    shifted = x * LOG2E + ROUND
    n = shifted - ROUND
    r = (x - n * LN2_HI) - n * LN2_LO
    square = r * r
    c2, c3, c4, c5 = EXP_POLY
    p = (ONE + r) + square * ((c2 + c3 * r) + square * (c4 + c5 * r))
    scale: F32 = ((shifted.view(np.int32) << 23) + (127 << 23)).view(np.float32)
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
