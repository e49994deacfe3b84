"""What convolution and pooling mean: sums in order of row, column, channel (or channel, row, column) of a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.formed import MEAN_BITS, Sum, window_sum
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
    around = ((0, 0), (w.top, max(0, w.bottom)), (w.left, max(0, w.right)), (0, 0))
    padded = np.pad(frames(x, w), around)
    for i in range(0, w.span_h, w.dilation_h):
        for j in range(0, w.span_w, w.dilation_w):
            rows = slice(i, i + (w.rows - 1) * w.stride_h + 1, w.stride_h)
            yield padded[:, rows, j : j + (w.cols - 1) * w.stride_w + 1 : w.stride_w]


def patches(x: Arr, w: Windows, groups: int = 1) -> Arr:
    """All windows, flat in the order of the weights: (B, rows, cols, groups, kernel_h*kernel_w*channels/groups)."""
    stacked = np.stack(list(taps(x, w)), axis=-2)
    split = stacked.reshape(*stacked.shape[:-1], groups, -1).swapaxes(-2, -3)
    ordered = split if w.layout == "hwc" else split.swapaxes(-1, -2)
    return ordered.reshape(*ordered.shape[:4], -1)


def groups_of(w: Windows, weight: Arr) -> int:
    """Into how many groups weights (filters, taps) divide the channels."""
    return w.channels * w.kernel_h * w.kernel_w // int(weight.shape[1])


def conv2d(op: Op) -> Callable[[Sequence[Arr]], tuple[Arr, Arr]]:
    """The results, and before that what they were before they were limited.

    In binary32 tap by tap, rounding as a loop does; in integers exactly, then shifted per filter.
    """
    w, relu = windows_of(op.attrs), bool(op.attrs["relu"])
    run = _conv_by_type(op)

    def compute(a: Sequence[Arr]) -> tuple[Arr, Arr]:
        y = run(w, *a)
        y = np.where(y > 0, y, y.dtype.type(0)) if relu else y
        return flat(y, w), flat(limited(op, y), w)

    return compute


def limited(op: Op, y: Arr) -> Arr:
    """Within the op's limits, where it has any."""
    lo, hi = op.attrs["lo"], op.attrs["hi"]
    return y if lo is None or hi is None else np.clip(y, int(lo), int(hi))


def _conv_by_type(op: Op) -> Callable[..., Arr]:
    if isinstance(op.out.type, Fixed):
        return _fixed
    return _in_order if isinstance(op.out.type, Float32) else _real


def products(w: Windows, weight: Arr, x: Arr) -> Arr:
    """Sums of all windows by the matrix product of their type: (B, rows, cols, filters)."""
    groups = groups_of(w, weight)
    columns, parts = patches(x, w, groups), np.split(weight, groups)
    return np.concatenate([columns[..., g, :] @ part.T for g, part in enumerate(parts)], axis=-1)


def _real(w: Windows, weight: Arr, x: Arr, bias: Arr) -> Arr:
    return products(w, weight, x) + bias


def _in_order(w: Windows, weight: Arr, x: Arr, bias: Arr) -> Arr:
    groups = groups_of(w, weight)
    columns = np.repeat(patches(x, w, groups), len(bias) // groups if groups > 1 else 1, axis=3)
    total = np.broadcast_to(bias, (*columns.shape[:3], len(bias))).copy()
    for t in range(weight.shape[1]):
        total += columns[..., t] * weight[:, t]
    return total


def _fixed(w: Windows, weight: Arr, x: Arr, bias: Arr, shift: Arr) -> Arr:
    return (exact_sums(w, weight, x) + bias) >> shift


def exact_sums(w: Windows, weight: Arr, x: Arr) -> Arr:
    """Integer sums of all windows, (B, rows, cols, filters), by float64 where that is exact."""
    most = float(np.abs(x).max(initial=0)) * float(np.abs(weight).sum(1).max(initial=0))
    if most < EXACT:
        return products(w, weight.astype(np.float64), x.astype(np.float64)).astype(np.int64)
    return products(w, weight, x)


def sum_of(weight: Arr, bias: Arr, kind: Fixed) -> Sum:
    """What a convolution adds up, its inputs being anything of type ``kind``: the narrowest total that holds it."""
    reach = np.abs(weight.astype(np.float64)).sum(1) * max(-kind.lo, kind.hi) + np.abs(bias)
    narrow = kind.bits <= HALF and max(-int(weight.min(initial=0)) - 1, int(weight.max(initial=0))) < 1 << (HALF - 1)
    return window_sum(float(reach.max(initial=0.0)), narrow)


HALF = 16
"""Two numbers of so many bits have a product of 32."""


def pool(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    """The largest element, or the sum in order times the reciprocal of their number."""
    w = windows_of(op.attrs)
    if op.attrs["function"] == "max":
        return lambda a, env: flat(largest(a[0], w), w)
    count = elements(w, str(op.attrs["function"]))[..., None]
    mean = _mean_fixed if isinstance(op.out.type, Fixed) else _mean
    return lambda a, env: flat(mean(total(a[0], w), count), w)


def largest(x: Arr, w: Windows) -> Arr:
    """Of each window the largest element in the frame, beginning with the first."""
    one = replace(w, channels=1)
    inside = taps(np.ones((1, one.inputs), np.bool_), one)
    best = np.zeros((len(x), w.rows, w.cols, w.channels), x.dtype)
    seen = np.zeros((1, w.rows, w.cols, 1), np.bool_)
    for part, here in zip(taps(x, w), inside, strict=True):
        best = np.where(here & (~seen | (best < part)), part, best)
        seen |= here
    return best


def total(x: Arr, w: Windows) -> Arr:
    """The sum of each window, in order from 0."""
    result = np.zeros((len(x), w.rows, w.cols, w.channels), x.dtype)
    for part in taps(x, w):
        result = result + part
    return result


def elements(w: Windows, function: str) -> NDArray[np.int64]:
    """By what a mean divides, (rows, cols): the window's elements, or those of them that lie in the frame."""
    if function == "avg":
        return np.full((w.rows, w.cols), w.kernel_h * w.kernel_w)
    one = replace(w, channels=1)
    return total(np.ones((1, one.inputs), np.int64), one)[0, ..., 0]


def mean_factor(count: Arr) -> NDArray[np.int64]:
    """``2**24 / count``, rounded."""
    return np.floor(2.0**MEAN_BITS / count + 0.5).astype(np.int64)


def _mean_fixed(sums: Arr, count: Arr) -> Arr:
    return fixed.shr(sums * mean_factor(count), MEAN_BITS)


def _mean(sums: Arr, count: Arr) -> Arr:
    mean: Arr = sums * (1.0 / count).astype(sums.dtype)
    return mean
