"""Where windows stand, in TFLite's words: padding SAME, or VALID on a frame that is padded before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.program import Op
from ncpc.ir.windows import Windows, windows_of
from ncpc.targets.graph.nodes import Attribute
from ncpc.targets.tflite import dilated
from ncpc.targets.tflite.graph import GraphBuilder, Tensor
from ncpc.targets.tflite.tensors import Tensors

SAME, VALID = 0, 1
"""Padding of the schema."""
OPERATORS = {"conv2d": "CONV_2D", "max": "MAX_POOL_2D", "avg": "AVERAGE_POOL_2D", "avg_inside": "AVERAGE_POOL_2D"}
BY_SAME = ("conv2d", "max", "avg_inside")
"""What SAME means to the operator: zeros to a convolution, nothing at all to pooling."""


@dataclass(frozen=True)
class Placing:
    """``padding`` is SAME or VALID; ``pads`` are the rows and columns (top, bottom, left, right) added before it."""

    padding: int
    pads: tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """An operator over windows: its name, the frame it reads, its options, how many rows and columns of windows."""

    operator: str
    source: str
    options: dict[str, Attribute]
    rows: int
    cols: int

    def shape(self, size: int) -> tuple[int, int, int, int]:
        """The shape of a result of ``size`` numbers."""
        return 1, self.rows, self.cols, size // (self.rows * self.cols)


def place(b: GraphBuilder, tensors: Tensors, value: str, op: Op) -> Placed:
    """The operator of ``op`` over the frame ``value``, which is padded first if it must be."""
    w, kind = windows_of(op.attrs), str(op.attrs.get("function", op.kind))
    if op.kind == "pool" and (w.dilation_h, w.dilation_w) != (1, 1):
        return _place_apart(b, tensors, value, op)
    placed = placing(w, kind, op.out.name)
    source = tensors.shaped(value, (1, w.height, w.width, w.channels))
    options: dict[str, Attribute] = {"padding": placed.padding, "strideW": w.stride_w, "strideH": w.stride_h}
    if op.kind == "conv2d":
        options.update(dilationWFactor=w.dilation_w, dilationHFactor=w.dilation_h)
    else:
        options.update(filterHeight=w.kernel_h, filterWidth=w.kernel_w)
    if any(placed.pads):
        source = _padded(b, b.tensors[source], placed.pads, kind == "max", op.out.name)
    return Placed(OPERATORS[kind], source, options, w.rows, w.cols)


def _place_apart(b: GraphBuilder, tensors: Tensors, value: str, op: Op) -> Placed:
    """A max-pool with dilation: the largest at every place, and of those the ones that the strides meet."""
    w, name = windows_of(op.attrs), op.out.name
    if op.attrs["function"] != "max":
        raise Unsupported(f"target tflite: '{name}' is a mean of elements that are {w.dilation_h} rows and "
                          f"{w.dilation_w} columns apart, TFLite's pooling has no dilation; use dilation 1, or target "
                          "'c'")
    source, pads = tensors.shaped(value, (1, w.height, w.width, w.channels)), dilated.pads(w)
    if any(pads):
        source = _padded(b, b.tensors[source], pads, True, name)
    options: dict[str, Attribute] = {"padding": VALID, "strideW": w.stride_w, "strideH": w.stride_h, "filterHeight": 1,
                                  "filterWidth": 1}
    return Placed(OPERATORS["max"], dilated.everywhere(b, source, w, name), options, w.rows, w.cols)


def placing(w: Windows, kind: str, name: str) -> Placing:
    """VALID where every window lies in the frame, SAME where it means the same, else VALID after padding.

    Raises Unsupported where neither does: TFLite would place more windows, or take a mean of other elements.
    """
    rows = _around(w.height, w.span_h, w.stride_h, w.top, w.rows)
    cols = _around(w.width, w.span_w, w.stride_w, w.left, w.cols)
    if rows is None or cols is None:
        raise Unsupported(f"target tflite: '{name}' stops short of the end of its frame of {w.height} x {w.width} "
                          f"after {w.rows} x {w.cols} windows, TFLite places them up to the end; use target 'c', or "
                          "a smaller frame")
    pads = (*rows, *cols)
    if not any(pads):
        return Placing(VALID, pads)
    same = _same(w.height, w.span_h, w.stride_h, w.rows) == rows and \
        _same(w.width, w.span_w, w.stride_w, w.cols) == cols
    if same and kind in BY_SAME:
        return Placing(SAME, (0, 0, 0, 0))
    if kind == "avg_inside":
        raise Unsupported(f"target tflite: '{name}' is the mean of what lies in the frame, padded by {pads} (top, "
                          "bottom, left, right), which TFLite has for Keras' 'same' only; use that, a mean that counts "
                          "the zeros, or target 'c'")
    return Placing(VALID, pads)


def _around(length: int, span: int, stride: int, before: int, count: int) -> tuple[int, int] | None:
    """What must be added before and behind; None where more windows would fit."""
    behind = max(0, (count - 1) * stride - before + span - length)
    fits = (before + length + behind - span) // stride + 1
    return (before, behind) if fits == count else None


def _same(length: int, span: int, stride: int, count: int) -> tuple[int, int] | None:
    """What SAME adds before and behind, the odd one behind; None where it places another number of windows."""
    total = max(0, (count - 1) * stride + span - length)
    return (total // 2, total - total // 2) if count == -(-length // stride) else None


def _padded(b: GraphBuilder, source: Tensor, pads: tuple[int, int, int, int], lowest: bool, name: str) -> str:
    """The frame with zeros around it, or with the lowest number of its type, which no maximum takes."""
    top, bottom, left, right = pads
    _, height, width, channels = source.shape
    around = b.constant(f"{name}/pads", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    shape = (1, height + top + bottom, width + left + right, channels)
    padded = b.tensor(f"{name}/padded", shape, source.dtype, source.quant)
    if not lowest:
        return b.node("PAD", [source.name, around], padded)
    limits = np.finfo(np.float32) if source.dtype == "float32" else np.iinfo(source.dtype)
    least = b.constant(f"{name}/least", np.array([limits.min], source.dtype), source.quant)
    return b.node("PADV2", [source.name, around, least], padded)
