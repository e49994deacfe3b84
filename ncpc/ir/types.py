"""Types of values: what a number is, and the named axes it runs over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A named dimension: ``neurons``, ``synapses``, ``inputs``, ..."""

    name: str
    size: int


@dataclass(frozen=True)
class Real:
    """A number as mathematics means it; evaluated in float64."""

    def __str__(self) -> str:
        return "real"


@dataclass(frozen=True)
class Float32:
    """IEEE 754 binary32, every operation rounded to nearest even, nothing contracted."""

    def __str__(self) -> str:
        return "f32"


@dataclass(frozen=True)
class Fixed:
    """An integer ``raw`` of ``bits`` bits that stands for ``raw * 2**-frac``.

    Overflow is not a behaviour of the type: a value outside ``[lo, hi]`` is an error in the semantics, and the range
    proof shows that none occurs. Rounding happens only in ops that name it, always ``floor(x + 1/2)``.
    """

    bits: int
    frac: int
    signed: bool = True

    @property
    def lo(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def lsb(self) -> float:
        return float(2.0**-self.frac)

    def __str__(self) -> str:
        """Qm.n, with m counted without the sign bit: ``Q1.14``, ``UQ16.16``."""
        whole = self.bits - self.frac - (1 if self.signed else 0)
        return f"{'' if self.signed else 'U'}Q{whole}.{self.frac}"


@dataclass(frozen=True)
class Index:
    """A position on another axis: an index map such as ``pre``."""

    axis: str

    def __str__(self) -> str:
        return f"index({self.axis})"


Type = Real | Float32 | Fixed | Index
