"""Values as sums of matrices times atoms: the form in which integer graphs scale, select and add without rounding.

``value = sum_k A_k atom_k + b``. An atom is a value that exists as a tensor: an input, a state, the result of a
nonlinear op. ``A_k`` is a vector where it acts element by element, else a matrix (out, in).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Value
from ncpc.ir.types import Axis

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AffineTerm:
    """``factor`` times ``atom``: elementwise for a vector, a product for a matrix."""

    atom: Value
    factor: F64

    @property
    def diagonal(self) -> bool:
        return self.factor.ndim == 1

    def matrix(self) -> F64:
        return np.diag(self.factor) if self.diagonal else self.factor

    def scaled(self, c: F64) -> AffineTerm:
        return AffineTerm(self.atom, self.factor * (c if self.diagonal else c[:, None]))

    def plus(self, other: AffineTerm) -> AffineTerm:
        """The sum of two terms of one atom."""
        if self.diagonal and other.diagonal:
            return AffineTerm(self.atom, self.factor + other.factor)
        return AffineTerm(self.atom, self.matrix() + other.matrix())


@dataclass(frozen=True, eq=False)
class Affine:
    """``sum of terms + bias`` over ``axes`` (at most one); ``bias`` is (n,)."""

    axes: tuple[Axis, ...]
    terms: tuple[AffineTerm, ...]
    bias: F64

    @property
    def size(self) -> int:
        return int(self.bias.shape[0])

    @property
    def constant(self) -> bool:
        return not self.terms

    @property
    def atom(self) -> Value | None:
        """The atom this is, unchanged, or None."""
        if len(self.terms) != 1 or np.any(self.bias) or not self.terms[0].diagonal:
            return None
        return self.terms[0].atom if np.all(self.terms[0].factor == 1.0) else None

    @property
    def selects(self) -> bool:
        """Every element is one element of one atom, or 0: a matrix may be multiplied through exactly."""
        rows = sum((np.count_nonzero(t.matrix(), axis=1) for t in self.terms), np.zeros(self.size, np.int64))
        whole = all(np.all((t.factor == 0) | (t.factor == 1)) for t in self.terms)
        return bool(whole and np.all(rows <= 1) and not np.any(self.bias))


def of_atom(value: Value) -> Affine:
    """The value itself."""
    size = int(np.prod(value.shape, dtype=np.int64))
    return Affine(value.axes, (AffineTerm(value, np.ones(size)),), np.zeros(size))


def of_constant(data: NDArray[np.float64] | NDArray[np.int64], axes: tuple[Axis, ...]) -> Affine:
    """A constant vector or number."""
    return Affine(axes, (), np.asarray(data, np.float64).reshape(-1))


def scale(a: Affine, c: F64, axes: tuple[Axis, ...]) -> Affine:
    """``a * c`` element by element; either may be a single number."""
    wide = widen(a, axes, max(a.size, c.shape[0]))
    factor = np.broadcast_to(c, (wide.size,))
    return _without_zeros(Affine(axes, tuple(t.scaled(factor) for t in wide.terms), wide.bias * factor))


def add(a: Affine, b: Affine, axes: tuple[Axis, ...]) -> Affine:
    """``a + b``; terms of one atom are joined."""
    size = max(a.size, b.size)
    a, b = widen(a, axes, size), widen(b, axes, size)
    joined: dict[str, AffineTerm] = {}
    for term in (*a.terms, *b.terms):
        name = term.atom.name
        joined[name] = joined[name].plus(term) if name in joined else term
    return _without_zeros(Affine(axes, tuple(joined.values()), a.bias + b.bias))


def select(a: Affine, index: NDArray[np.int64], axes: tuple[Axis, ...]) -> Affine:
    """``a[index]``."""
    terms = tuple(AffineTerm(t.atom, t.matrix()[index]) for t in a.terms)
    return _without_zeros(Affine(axes, terms, a.bias[index]))


def product(matrix: F64, a: Affine, axes: tuple[Axis, ...]) -> Affine:
    """``matrix @ a``, multiplied through."""
    terms = tuple(AffineTerm(t.atom, matrix @ t.matrix()) for t in a.terms)
    return _without_zeros(Affine(axes, terms, matrix @ a.bias))


def concatenate(parts: Iterable[Affine], axes: tuple[Axis, ...]) -> Affine:
    """The parts one after another."""
    held = list(parts)
    total, start, whole = sum(p.size for p in held), 0, Affine(axes, (), np.zeros(axes[0].size))
    for part in held:
        place = np.eye(total)[:, start : start + part.size]
        whole, start = add(whole, product(place, part, axes), axes), start + part.size
    return whole


def widen(a: Affine, axes: tuple[Axis, ...], size: int) -> Affine:
    """A single number as ``size`` equal elements."""
    return a if a.size == size else product(np.ones((size, 1)), a, axes)


def _without_zeros(a: Affine) -> Affine:
    return Affine(a.axes, tuple(t for t in a.terms if np.any(t.factor)), a.bias)
