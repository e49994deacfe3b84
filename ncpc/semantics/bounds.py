"""Interval arithmetic over the reals in float64: from the ranges of an op's arguments that of its result.

An op that rises or falls with each argument is taken at the arguments' ends, by the function that defines it
(``ncpc.semantics.ops``). A range so holds what float64 computes, up to the last bits of sums, whose order may differ:
who needs them adds room. An infinite end says that nothing is known beyond; no end is NaN, and 0 times anything is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Op
from ncpc.ir.windows import windows_of
from ncpc.semantics import windows
from ncpc.semantics.ops import implementation

F64 = NDArray[np.float64]
Constants = Mapping[str, NDArray[Any]]
LARGEST = float(np.finfo(np.float64).max)


class Range(NamedTuple):
    """Elementwise bounds in physical units, float64 arrays of one shape."""

    lo: F64
    hi: F64

    @property
    def most(self) -> float:
        """The largest magnitude."""
        return float(max(np.abs(self.lo).max(initial=0.0), np.abs(self.hi).max(initial=0.0)))

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest number of all elements."""
        return float(self.lo.min()), float(self.hi.max())

    def clip(self, lo: F64 | float, hi: F64 | float) -> Range:
        """The range of the numbers limited to [lo, hi]."""
        return Range(np.clip(self.lo, lo, hi), np.clip(self.hi, lo, hi))

    def within(self, other: Range) -> bool:
        """Whether every element's range lies in the other's."""
        return bool((self.lo >= other.lo).all() and (self.hi <= other.hi).all())


def exactly(data: NDArray[Any]) -> Range:
    """The range of a constant."""
    return Range(data, data)


def hull(a: Range, b: Range) -> Range:
    """The smallest range that holds both."""
    return Range(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def meet(known: Range, seen: Range) -> Range:
    """What both allow; where they do not meet, what is known."""
    lo, hi = np.maximum(known.lo, seen.lo), np.minimum(known.hi, seen.hi)
    apart = lo > hi
    return Range(np.where(apart, known.lo, lo), np.where(apart, known.hi, hi))


def over(r: Range, shape: tuple[int, ...]) -> Range:
    """The range for all of ``shape``, unbounded where an end is no number: a sum of both infinities."""
    lo, hi = np.where(np.isnan(r.lo), -np.inf, r.lo), np.where(np.isnan(r.hi), np.inf, r.hi)
    return Range(np.broadcast_to(lo, shape), np.broadcast_to(hi, shape))


def corners(a: Sequence[Range], falling: Collection[int] = ()) -> tuple[list[F64], list[F64]]:
    """Arguments at which a function is least, and at which it is largest, that falls with those at the places
    ``falling`` and rises with all others.
    """
    least = [r.hi if k in falling else r.lo for k, r in enumerate(a)]
    return least, [r.lo if k in falling else r.hi for k, r in enumerate(a)]


def size(a: Range) -> Range:
    """The range of absolute values."""
    return Range(np.maximum(np.maximum(a.lo, -a.hi), 0.0), np.maximum(-a.lo, a.hi))


def square(a: Range) -> Range:
    """The range of products of a value with itself."""
    least, most = size(a)
    return Range(least * least, most * most)


@np.errstate(all="ignore")
def product(a: Range, b: Range) -> Range:
    """The range of products of independent factors."""
    ends = [np.where((u == 0) | (v == 0), 0.0, u * v) for u in a for v in b]
    return Range(np.minimum.reduce(ends), np.maximum.reduce(ends))


@np.errstate(all="ignore")
def quotient(a: Range, b: Range) -> Range:
    """The range of quotients, unbounded where the divisor may be 0."""
    safe = (b.lo > 0) | (b.hi < 0)
    ends = [np.where(np.isinf(v), 0.0, u / np.where(safe, v, 1.0)) for u in a for v in b]
    lo, hi = np.minimum.reduce(ends), np.maximum.reduce(ends)
    return Range(np.where(safe, lo, -np.inf), np.where(safe, hi, np.inf))


def weighted(apply: Callable[[F64, F64], F64], weight: F64, x: Range) -> Range:
    """The range of ``apply(weight, x)``, linear in both: a positive weight takes an end as it is, a negative one the
    other.
    """
    mirrored = _least(apply, weight, Range(-x.hi, -x.lo))
    return Range(_least(apply, weight, x), -mirrored)


def _least(apply: Callable[[F64, F64], F64], weight: F64, x: Range) -> F64:
    """Without the products with infinite ends: where a weight meets one, nothing is known."""
    up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
    total = apply(up, x.lo.clip(-LARGEST, LARGEST)) + apply(down, x.hi.clip(-LARGEST, LARGEST))
    open_lo, open_hi = np.isneginf(x.lo), np.isposinf(x.hi)
    if not (open_lo.any() or open_hi.any()):
        return total
    ones = [part.astype(np.float64) for part in (up > 0, open_lo, down < 0, open_hi)]
    met = apply(ones[0], ones[1]) + apply(ones[2], ones[3])
    return np.where(met > 0, -np.inf, total)


@np.errstate(all="ignore")
def image(op: Op, a: Sequence[Range], constants: Constants) -> Range:
    """The range of an op's result over the reals; ``op.kind`` is one of ``KINDS``.

    ``a`` are the arguments' ranges, an index map or a weight matrix being the range of a constant; ``constants`` holds
    the data of what the op names.
    """
    return over(_RULES.get(op.kind, _monotone)(op, a, constants), op.out.shape)


Rule = Callable[[Op, Sequence[Range], Constants], Range]

FALLS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("add", "min", "max", "exp", "sigmoid", "tanh", "sqrt", "relu", "clamp", "gather", "slice",
                     "concat", "segment_sum", "pool"), ()),
    "sub": (1,), "neg": (0,), "gt": (1,),
}
"""Ops that rise or fall with each argument, and the places of the arguments with which they fall."""


def _monotone(op: Op, a: Sequence[Range], constants: Constants) -> Range:
    compute, env = implementation(op, (), constants), {"flags": np.zeros(1, np.int64)}
    least, most = (compute([end[None] for end in ends], env)[0] for ends in corners(a, FALLS[op.kind]))
    return Range(least, most)


def _mul(op: Op, a: Sequence[Range], constants: Constants) -> Range:
    return square(a[0]) if op.args[0] == op.args[1] else product(a[0], a[1])


def _matmul(op: Op, a: Sequence[Range], constants: Constants) -> Range:
    total = weighted(np.matmul, a[0].lo, a[1])
    return Range(a[2].lo + total.lo, a[2].hi + total.hi) if len(a) > 2 else total


def _conv2d(op: Op, a: Sequence[Range], constants: Constants) -> Range:
    w = windows_of(op.attrs)
    total = weighted(lambda weight, x: windows.products(w, weight, x[None]), a[0].lo, a[1])
    lo, hi = (windows.flat(bias + end, w)[0] for bias, end in zip(a[2], total, strict=True))
    return Range(lo, hi).clip(0.0, np.inf) if op.attrs["relu"] else Range(lo, hi)


_RULES: Mapping[str, Rule] = {
    "mul": _mul,
    "div": lambda op, a, constants: quotient(a[0], a[1]),
    "mix": lambda op, a, constants: hull(a[0], a[1]),
    "matmul": _matmul,
    "conv2d": _conv2d,
}

KINDS = frozenset((*FALLS, *_RULES))
"""The ops that ``image`` knows."""
