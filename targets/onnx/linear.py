"""Values as linear forms over tensors: ``sum_k M_k t_k + const``, so that chains of linear ops become one Gemm.

A matrix of one dimension stands for the diagonal of a square one; matrices are (rows, width of the tensor).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Linear:
    """``sum terms[t] @ t + const``; ``const`` is (rows,)."""

    terms: Mapping[str, F64]
    const: F64

    @property
    def rows(self) -> int:
        return int(self.const.shape[0])

    @property
    def constant(self) -> bool:
        return not self.terms


def of_tensor(name: str, width: int) -> Linear:
    """The tensor itself."""
    return Linear({name: np.ones(width)}, np.zeros(width))


def of_constant(data: F64) -> Linear:
    """A constant vector."""
    return Linear({}, np.atleast_1d(data))


def full(matrix: F64) -> F64:
    """The matrix with its zeros written out."""
    return np.diag(matrix) if matrix.ndim == 1 else matrix


def thin(matrix: F64) -> F64:
    """The diagonal, where the matrix is square and has nothing else."""
    if matrix.ndim == 1 or matrix.shape[0] != matrix.shape[1]:
        return matrix
    diagonal = np.diag(matrix)
    return diagonal.copy() if np.count_nonzero(matrix) == np.count_nonzero(diagonal) else matrix


def scale(a: Linear, factor: F64) -> Linear:
    """Row by row times ``factor``, (rows,) or (1,); a form of one row spreads over the factor's."""
    rows = max(a.rows, factor.shape[0])
    a = spread(a, rows)
    factor = np.broadcast_to(factor, (rows,))
    return _without_zeros({t: (m * factor if m.ndim == 1 else m * factor[:, None]) for t, m in a.terms.items()},
                          a.const * factor)


def spread(a: Linear, rows: int) -> Linear:
    """A form of one row, repeated; others as they are."""
    return a if a.rows == rows else select(a, np.zeros(rows, np.int64))


def add(a: Linear, b: Linear) -> Linear:
    """a + b; one row spreads over many."""
    rows = max(a.rows, b.rows)
    a, b = spread(a, rows), spread(b, rows)
    terms = dict(a.terms)
    for tensor, matrix in b.terms.items():
        terms[tensor] = _sum(terms[tensor], matrix) if tensor in terms else matrix
    return _without_zeros(terms, a.const + b.const)


def select(a: Linear, index: I64) -> Linear:
    """The rows ``index``: gather, slice."""
    if index.shape[0] == a.rows and np.array_equal(index, np.arange(a.rows)):
        return a
    return _without_zeros({t: full(m)[index] for t, m in a.terms.items()}, a.const[index])


def segment_sum(a: Linear, index: I64, rows: int) -> Linear:
    """Row i is the sum of the rows whose index is i."""
    def collect(data: F64) -> F64:
        total = np.zeros((rows, *data.shape[1:]))
        np.add.at(total, index, data)
        return total

    return _without_zeros({t: thin(collect(full(m))) for t, m in a.terms.items()}, collect(a.const))


def matmul(weight: F64, a: Linear) -> Linear:
    """``weight @ a``."""
    return _without_zeros({t: thin(weight * m if m.ndim == 1 else weight @ m) for t, m in a.terms.items()},
                          weight @ a.const)


def stack(parts: Sequence[Linear]) -> Linear:
    """The forms' rows one after another: concat."""
    def rows(tensor: str) -> F64:
        width = next(p.terms[tensor].shape[-1] for p in parts if tensor in p.terms)
        return np.vstack([full(p.terms[tensor]) if tensor in p.terms else np.zeros((p.rows, width)) for p in parts])

    tensors = dict.fromkeys(t for p in parts for t in p.terms)
    return Linear({t: thin(rows(t)) for t in tensors}, np.concatenate([p.const for p in parts]))


def sparse_rows(a: Linear) -> bool:
    """Whether no row reads more than one number of each tensor: a selection, a scaling."""
    return all(m.ndim == 1 or int(np.count_nonzero(m, axis=1).max(initial=0)) <= 1 for m in a.terms.values())


def _sum(a: F64, b: F64) -> F64:
    return a + b if a.ndim == b.ndim else thin(full(a) + full(b))


def _without_zeros(terms: Mapping[str, F64], const: F64) -> Linear:
    return Linear({t: m for t, m in terms.items() if m.any()}, const)
