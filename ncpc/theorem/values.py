"""What each term is worth: one NumPy function per kind of term, on arrays of 32-bit words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]
Parameters = tuple[int, ...]

MASK = 0xFFFFFFFF


def signed(a: Words) -> NDArray[np.int64]:
    """Words as the signed numbers that they stand for."""
    return a.view(np.int32).astype(np.int64)


def words(a: NDArray[np.int64]) -> Words:
    """The low 32 bits of numbers."""
    return a.astype(np.uint64).astype(np.uint32)


def _linear(a: Sequence[Words], p: Parameters) -> Words:
    total = np.full(a[0].shape, p[-1] & MASK, np.uint32)
    for x, k in zip(a, p[:-1], strict=True):
        total = total + (x if k == 1 else x * np.uint32(k & MASK))
    return total


def _wide_sum(a: Sequence[Words], p: Parameters) -> Words:
    """The low word of (a sum in 64 bits) >> k, of signed numbers: coefficients, what is added, k."""
    total = np.full(a[0].shape, p[-2], np.int64)
    for x, k in zip(a, p[:-2], strict=True):
        total += signed(x) * k
    return words(total >> p[-1])


def _shifted_product(a: Sequence[Words], p: Parameters) -> Words:
    """The low word of (a*b + c) >> k, with the signed product and the sum in 64 bits."""
    return words((signed(a[0]) * signed(a[1]) + p[0]) >> p[1])


def _shifted_unsigned_product(a: Sequence[Words], p: Parameters) -> Words:
    return ((a[0].astype(np.uint64) * a[1] + np.uint64(p[0])) >> np.uint64(p[1])).astype(np.uint32)


def _quotient(a: Sequence[Words], p: Parameters) -> Words:
    """Towards 0; the divisor is not 0."""
    n, d = signed(a[0]), signed(a[1])
    return words(np.sign(n) * np.sign(d) * (np.abs(n) // np.abs(d)))


def _leading_zeros(a: Words) -> Words:
    """32 for 0; frexp is exact below 2**53."""
    zeros: NDArray[np.int32] = 32 - np.frexp(a.astype(np.float64))[1]
    return zeros.astype(np.uint32)


def _normal(a: Sequence[Words], p: Parameters) -> Words:
    return a[0] << np.minimum(_leading_zeros(a[0]), np.uint32(31))


def _amount(a: Words) -> Words:
    return a & np.uint32(31)


VALUES: dict[str, Callable[[Sequence[Words], Parameters], Words]] = {
    "lin": _linear,
    "wide": _wide_sum,
    "mul": lambda a, p: a[0] * a[1],
    "mulshr": _shifted_product,
    "umulshr": _shifted_unsigned_product,
    "div": _quotient,
    "rem": lambda a, p: words(np.fmod(signed(a[0]), signed(a[1]))),
    "divu": lambda a, p: a[0] // a[1],
    "remu": lambda a, p: a[0] % a[1],
    "asr": lambda a, p: words(signed(a[0]) >> p[0]),
    "srl": lambda a, p: a[0] >> np.uint32(p[0]),
    "and": lambda a, p: a[0] & a[1],
    "or": lambda a, p: a[0] | a[1],
    "xor": lambda a, p: a[0] ^ a[1],
    "all": lambda a, p: np.bitwise_and.reduce(np.stack(list(a))),
    "slt": lambda a, p: (signed(a[0]) < signed(a[1])).astype(np.uint32),
    "sltu": lambda a, p: (a[0] < a[1]).astype(np.uint32),
    "eq0": lambda a, p: (a[0] == 0).astype(np.uint32),
    "ite": lambda a, p: np.where(a[0] != 0, a[1], a[2]),
    "smin": lambda a, p: np.minimum(a[0].view(np.int32), a[1].view(np.int32)).view(np.uint32),
    "smax": lambda a, p: np.maximum(a[0].view(np.int32), a[1].view(np.int32)).view(np.uint32),
    "sllv": lambda a, p: a[0] << _amount(a[1]),
    "srlv": lambda a, p: a[0] >> _amount(a[1]),
    "srav": lambda a, p: words(signed(a[0]) >> _amount(a[1]).astype(np.int64)),
    "clz": lambda a, p: _leading_zeros(a[0]),
    "norm": _normal,
}
"""By the kind of a term: its words from those of its arguments and parameters; ``BitTerms.evaluate`` adds tables."""
