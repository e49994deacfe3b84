"""What convolution and pooling mean: sums in order of row, column, channel (or channel, row, column) of a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Op, Value
from ncpc.ir.types import Fixed, Float32
from ncpc.ir.windows import Windows, windows_of
from ncpc.semantics import fixed

Arr = NDArray[Any]
Compute = Callable[[Sequence[Arr], dict[str, Arr]], Arr]

EXACT = 2**53
"""Integers below it are exact in float64, so that sums of them may be computed by its fast matrix product."""


def frames(x: Arr, w: Windows) -> Arr:
    """Flat frames (B, inputs) as (B, height, width, channels)."""
    if w.layout == "hwc":
        return x.reshape(-1, w.height, w.width, w.channels)
    return x.reshape(-1, w.channels, w.height, w.width).transpose(0, 2, 3, 1)


def flat(y: Arr, w: Windows) -> Arr:
    """Results (B, rows, cols, filters) as flat ones in the windows' layout."""
    ordered = y if w.layout == "hwc" else y.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(ordered).reshape(len(y), -1)


def taps(x: Arr, w: Windows) -> Iterator[Arr]:
    """For each row and column of a window, what all windows hold there: (B, rows, cols, channels)."""
    bottom = max(0, (w.rows - 1) * w.stride_h - w.top + w.kernel_h - w.height)
    right = max(0, (w.cols - 1) * w.stride_w - w.left + w.kernel_w - w.width)
    padded = np.pad(frames(x, w), ((0, 0), (w.top, bottom), (w.left, right), (0, 0)))
    for i in range(w.kernel_h):
        for j in range(w.kernel_w):
            rows = slice(i, i + (w.rows - 1) * w.stride_h + 1, w.stride_h)
            yield padded[:, rows, j : j + (w.cols - 1) * w.stride_w + 1 : w.stride_w]


def patches(x: Arr, w: Windows) -> Arr:
    """All windows, flat in the order of the weights: (B, rows, cols, kernel_h*kernel_w*channels)."""
    stacked = np.stack(list(taps(x, w)), axis=-2)
    ordered = stacked if w.layout == "hwc" else stacked.swapaxes(-1, -2)
    return ordered.reshape(*ordered.shape[:3], -1)


def conv2d(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    """In binary32 tap by tap, rounding as a loop does; in integers exactly, then shifted per filter."""
    w, relu = windows_of(op.attrs), bool(op.attrs["relu"])
    run = _conv_by_type(op)

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        y = run(w, *a)
        return flat(limited(op, np.where(y > 0, y, y.dtype.type(0)) if relu else y), w)

    return compute


def limited(op: Op, y: Arr) -> Arr:
    """Within the op's limits, where it has any."""
    lo, hi = op.attrs["lo"], op.attrs["hi"]
    return y if lo is None or hi is None else np.clip(y, int(lo), int(hi))


def _conv_by_type(op: Op) -> Callable[..., Arr]:
    if isinstance(op.out.type, Fixed):
        return _fixed
    return _in_order if isinstance(op.out.type, Float32) else _real


def _real(w: Windows, weight: Arr, x: Arr, bias: Arr) -> Arr:
    result: Arr = patches(x, w) @ weight.T + bias
    return result


def _in_order(w: Windows, weight: Arr, x: Arr, bias: Arr) -> Arr:
    columns = patches(x, w)
    total = np.broadcast_to(bias, (*columns.shape[:3], len(bias))).copy()
    for t in range(weight.shape[1]):
        total += columns[..., t : t + 1] * weight[:, t]
    return total


def _fixed(w: Windows, weight: Arr, x: Arr, bias: Arr, shift: Arr) -> Arr:
    return fixed.shr(exact_sums(w, weight, x) + bias, shift)


def exact_sums(w: Windows, weight: Arr, x: Arr) -> Arr:
    """Integer sums of all windows, (B, rows, cols, filters), by float64 where that is exact."""
    columns = patches(x, w)
    most = float(np.abs(columns).max(initial=0)) * float(np.abs(weight).sum(1).max(initial=0))
    if most < EXACT:
        return (columns.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
    result: Arr = columns @ weight.T
    return result


def pool(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    """The largest element, or the sum in order times the reciprocal of their number."""
    w = windows_of(op.attrs)
    reduce = _largest if op.attrs["function"] == "max" else _mean_by_type(op)
    return lambda a, env: flat(reduce(list(taps(a[0], w))), w)


def _largest(found: list[Arr]) -> Arr:
    best = found[0]
    for part in found[1:]:
        best = np.where(best < part, part, best)
    return best


MEAN_BITS = 24
"""Fraction bits of the reciprocal by which an integer mean multiplies its sum."""


def mean_factor(count: int) -> int:
    """``2**24 / count``, rounded."""
    return int(np.floor(2.0**MEAN_BITS / count + 0.5))


def _mean_by_type(op: Op) -> Callable[[list[Arr]], Arr]:
    if isinstance(op.out.type, Fixed):
        return lambda found: fixed.shr(sum(found[1:], found[0]) * mean_factor(len(found)), MEAN_BITS)
    return _mean


def _mean(found: list[Arr]) -> Arr:
    total = found[0]
    for part in found[1:]:
        total = total + part
    mean: Arr = total * total.dtype.type(1.0 / len(found))
    return mean
