"""C types and literals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.types import Fixed, Float32, Index, Type


@dataclass(frozen=True)
class CType:
    """A C arithmetic type: its name and size. ``narrow`` ones are promoted to int before they are computed with."""

    name: str
    bytes: int

    @property
    def narrow(self) -> bool:
        return self.name != "float" and self.bytes < 4


FLOAT = CType("float", 4)
INT32 = CType("int32_t", 4)
UINT32 = CType("uint32_t", 4)
UINT16, UINT8 = CType("uint16_t", 2), CType("uint8_t", 1)
NIBBLE = 4
"""Bits of the numbers of which a byte holds two."""
_INTEGERS = tuple(
    (CType(f"{sign}int{bits}_t", bits // 8), lo, hi)
    for bits in (8, 16, 32)
    for sign, lo, hi in (("", -(1 << (bits - 1)), (1 << (bits - 1)) - 1), ("u", 0, (1 << bits) - 1))
)


def stored(type_: Type) -> CType:
    """The type of an array element, a port or a state."""
    if isinstance(type_, Float32):
        return FLOAT
    if isinstance(type_, Fixed):
        return holding(type_.lo, type_.hi)
    raise Unsupported(f"C target: values of type {type_} cannot be stored; lower to float32 or integers first")


def scalar(type_: Type) -> CType:
    """The type of a local number: 32 bits wide."""
    if isinstance(type_, Fixed):
        return UINT32 if holding(type_.lo, type_.hi) == UINT32 else INT32
    return stored(type_)


def constant(type_: Type, data: NDArray[Any]) -> CType:
    """The smallest type that holds ``data``."""
    if isinstance(type_, Fixed | Index):
        return holding(int(data.min(initial=0)), int(data.max(initial=0)))
    return stored(type_)


def halves_byte(type_: Type) -> bool:
    """Whether constants of a type are so narrow that C stores two to a byte."""
    return isinstance(type_, Fixed) and type_.bits <= NIBBLE


def nibble_word(count: int) -> CType:
    """What holds so many numbers of 4 bits, four at most."""
    return UINT8 if count <= 2 else UINT16


def holding(lo: int, hi: int) -> CType:
    """The smallest integer type for ``lo..hi``, signed if both do."""
    for ctype, least, most in _INTEGERS:
        if least <= lo and hi <= most:
            return ctype
    raise Unsupported(f"C target: {lo}..{hi} needs more than 32 bits; choose a narrower format")


def literal(value: float | int, ctype: CType) -> str:
    """``value`` as C text: the shortest decimal that reads back as the same number."""
    if ctype == FLOAT:
        return float_literal(value)
    if int(value) == -(1 << 31):
        return "(-2147483647 - 1)"
    return f"{int(value)}u" if ctype == UINT32 else str(int(value))


def float_literal(value: float | np.floating[Any]) -> str:
    """A binary32 constant; infinities and NaN have no literal and never occur in constants."""
    single = np.float32(value)
    if not np.isfinite(single):
        raise Unsupported(f"C target: the constant {value} is no finite binary32 number")
    text = str(single)
    return f"{text}f" if "." in text or "e" in text else f"{text}.0f"
