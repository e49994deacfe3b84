"""Dense layers, functions, convolution, pooling and softmax over the reals."""

from __future__ import annotations

import numpy as np

from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import F64, Activation, Dense
from ncpc.ir.program import Origin, Value
from ncpc.ir.types import Axis, Index
from ncpc.ir.windows import Windows
from ncpc.passes.context import Lowering
from ncpc.passes.functions import elementwise

WIDE = 512
"""Inputs from which on a dense layer is lowered as a convolution."""
NEGLIGIBLE = -16.0
"""Below it a softmax's exponential is less than the last place of a 16-bit weight."""


def lower_dense(layer: Dense, ctx: Lowering) -> Value:
    """``y = W x + b``."""
    if layer.inputs >= ctx.wide:
        return lower_wide_dense(layer, ctx)
    b = ctx.builder
    out = Axis(b.unique("dense_outputs"), layer.outputs)
    b.origin = Origin("dense", "y = W x + b", out.name)
    weight = b.const("dense_w", layer.weight, [out, *ctx.x.axes])
    return b.op("matmul", "dense_y", weight, ctx.x, b.const("dense_b", layer.bias, [out]))


def lower_activation(layer: Activation, ctx: Lowering) -> Value:
    """An elementwise function."""
    ctx.builder.origin = Origin("activation", f"y = {layer.function}(x)", ctx.x.axes[0].name)
    return elementwise(ctx.builder, layer.function, ctx.x, layer.parameters)


def lower_conv2d(layer: Conv2d, ctx: Lowering, kind: str = "conv2d") -> Value:
    """``y = bias + weight * window``; the weights as one row per filter. ``kind`` is that of the policy's layer."""
    b, name = ctx.builder, kind.removesuffix("2d")
    b.origin = Origin(kind, "y = bias + weight * window" + (", at least 0" if layer.relu else ""), "features")
    filters, window = Axis(b.unique("filters"), layer.filters), Axis(b.unique("taps"), layer.weight[0].size)
    weight = b.const(f"{name}_w", flat_weight(layer), [filters, window])
    out = Axis(b.unique("features"), layer.outputs)
    bias = b.const(f"{name}_b", layer.bias + 0.0, [filters])
    return b.op("conv2d", f"{name}_y", weight, ctx.x, bias, axes=[out], type_=None, relu=int(layer.relu), lo=None,
                hi=None, flag=None, **layer.windows.attrs())


def lower_wide_dense(layer: Dense, ctx: Lowering) -> Value:
    """As a convolution of one place, so that in integers each row has a scale of its own and sums of any length fit."""
    frame = Windows(1, 1, layer.inputs, 1, 1, 1, 1, 0, 0, 1, 1, "hwc")
    return lower_conv2d(Conv2d(frame, layer.weight[:, None, None, :], layer.bias), ctx, "dense")


def flat_weight(layer: Conv2d) -> F64:
    """(filters, taps), the taps in the order in which a window is summed."""
    weight = layer.weight if layer.windows.layout == "hwc" else layer.weight.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(weight).reshape(layer.filters, -1)


def lower_pool(layer: Pool, ctx: Lowering) -> Value:
    """The largest or the mean of each window."""
    b = ctx.builder
    b.origin = Origin("pool", f"y = {layer.function} of a window", "features")
    out = Axis(b.unique("features"), layer.outputs)
    return b.op("pool", "pool_y", ctx.x, axes=[out], type_=None, function=layer.function, **layer.windows.attrs())


def lower_softmax(layer: Softmax, ctx: Lowering) -> Value:
    """The largest value is subtracted first, so that no exponential exceeds 1 and their sum is at least 1."""
    b, x = ctx.builder, ctx.x
    b.origin = Origin("softmax", "y = exp(x - max x) / sum", x.axes[0].name)
    one = Axis(b.unique("all"), 1)
    largest = b.op("slice", "x_0", x, axes=[one], start=0)
    for i in range(1, layer.width):
        largest = b.op("max", f"most_{i}", largest, b.op("slice", f"x_{i}", x, axes=[one], start=i))
    everyone = b.const("all_of", np.zeros(layer.width, np.int64), x.axes, Index(one.name))
    below = b.op("sub", "below", x, b.op("gather", "most_of", largest, everyone))
    weight = b.op("exp", "weight", b.op("clamp", "held", below, lo=NEGLIGIBLE, hi=0.0, flag=None))
    total = b.op("segment_sum", "total", weight, everyone, axes=[one])
    least = b.op("max", "total_1", total, b.const("one", 1.0))
    return b.op("div", "softmax", weight, b.op("gather", "total_of", least, everyone))
