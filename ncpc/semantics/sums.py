"""Whether sums fit the totals in which the C forms them (``ncpc.ir.formed.Sum``), in whatever order terms come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.cwords import Word
from ncpc.ir.formed import block_sum, mean_sum, plain_sum, product_sum
from ncpc.ir.program import Op, Value
from ncpc.ir.types import Fixed
from ncpc.ir.windows import windows_of
from ncpc.semantics import windows

I64 = NDArray[np.int64]
Watch = Callable[[Sequence[NDArray[Any]]], None]
"""Raises ``OverflowError`` where a sum of these arguments may leave its total."""


def watch(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Watch | None:
    """The check of an integer op that adds up; None for others, and where the types alone hold all it can add up."""
    return _WATCHES[op.kind](op, args, constants) if op.kind in _WATCHES else None


def spread(start: I64, total: I64, magnitudes: I64) -> tuple[I64, I64]:
    """The least and the largest that any order of the terms comes by; ``magnitudes`` is the sum of their sizes."""
    return start + (total - magnitudes) // 2, start + (total + magnitudes) // 2


def _require(op: Op, word: Word, low: Any, high: Any) -> None:
    if np.min(low, initial=0) < word.lo or np.max(high, initial=0) > word.hi:
        found = f"{int(np.min(low))}..{int(np.max(high))}"
        raise OverflowError(f"{op.out.name} = {op.kind} adds up to {found}, outside {word.name}")


def _peak(a: NDArray[Any]) -> int:
    return max(-int(a.min(initial=0)), int(a.max(initial=0)))


def _segment_sum(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Watch:
    """Asked of the largest term first, and only if that says too little of each segment."""
    post, word = np.asarray(constants[op.args[1]], np.int64), plain_sum().word
    longest = int(np.bincount(post, minlength=1).max())
    first = np.flatnonzero(np.diff(post, prepend=-1))

    def check(a: Sequence[NDArray[Any]]) -> None:
        start = a[2] if len(a) > 2 else np.zeros(1, np.int64)
        if _peak(a[0]) * longest + _peak(start) <= word.hi:
            return
        at = post[first]
        sums, sizes = (np.add.reduceat(part, first, axis=-1) for part in (a[0], np.abs(a[0])))
        begin = start[..., at] if len(a) > 2 else start
        _require(op, word, *spread(begin, sums, sizes))

    return check


def _matmul(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Watch:
    weight, word = np.asarray(constants[op.args[0]], np.int64), product_sum().word
    widest = int(np.abs(weight).sum(1).max(initial=0))

    def check(a: Sequence[NDArray[Any]]) -> None:
        start = a[2] if len(a) > 2 else np.zeros(1, np.int64)
        if _peak(a[1]) * widest + _peak(start) > word.hi:
            _require(op, word, *spread(start, a[1] @ weight.T, np.abs(a[1]) @ np.abs(weight).T))

    return check


def _matmulshr(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Watch:
    """Each block from its half on, then the blocks' rounded sums."""
    weight, k = np.asarray(constants[op.args[0]], np.int64), int(op.attrs["k"] or 0)
    size, found = int(op.attrs["block"] or 1), block_sum(k)
    blocks = [slice(at, at + size) for at in range(0, weight.shape[1], size)]
    half = np.asarray(found.start or 0, np.int64)

    def check(a: Sequence[NDArray[Any]]) -> None:
        low = high = np.zeros((1, len(weight)), np.int64) + (a[2] if len(a) > 2 else 0)
        for x, w in ((a[1][:, block], weight[:, block].T) for block in blocks):
            total = x @ w
            _require(op, found.word, *spread(half, total, np.abs(x) @ np.abs(w)))
            part = (half + total) >> k
            low, high = low + np.minimum(part, 0), high + np.maximum(part, 0)
        _require(op, product_sum().word, low, high)

    return check


def _conv2d(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Watch | None:
    """Its total is chosen so that it holds any input; beyond 64 bits there is none."""
    kind = args[1].type
    assert isinstance(kind, Fixed)
    weight, bias = (np.asarray(constants[name], np.int64) for name in (op.args[0], op.args[2]))
    found = windows.sum_of(weight, bias, kind)
    reach = np.abs(weight).astype(np.float64).sum(1) * max(-kind.lo, kind.hi) + np.abs(bias)
    if float(reach.max(initial=0.0)) < 2.0 ** (found.word.bits - 1) * (1 - 2.0**-40):
        return None
    return lambda a: _require(op, found.word, 0, 1 << (found.word.bits - 1))


def _pool(op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Watch | None:
    kind, w, word = args[0].type, windows_of(op.attrs), mean_sum().word
    assert isinstance(kind, Fixed)
    if op.attrs["function"] == "max" or max(-kind.lo, kind.hi) * w.kernel_h * w.kernel_w <= word.hi:
        return None
    return lambda a: _require(op, word, 0, windows.total(np.abs(a[0]), w))


_WATCHES: Mapping[str, Callable[[Op, Sequence[Value], Mapping[str, NDArray[Any]]], Watch | None]] = {
    "segment_sum": _segment_sum, "matmul": _matmul, "matmulshr": _matmulshr, "conv2d": _conv2d, "pool": _pool,
}
