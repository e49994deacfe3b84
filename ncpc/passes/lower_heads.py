"""Layers that are no cells over the reals."""

from __future__ import annotations

import numpy as np

from ncpc.ir.heads import Combine, Conv2d, History, Pool, Scale, Select, Softmax
from ncpc.ir.policy import F64, Activation, Dense
from ncpc.ir.program import Origin, State, Value
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


def lower_scale(layer: Scale, ctx: Lowering) -> Value:
    """``y = weight*x + bias``."""
    b, x = ctx.builder, ctx.x
    b.origin = Origin("scale", "y = weight*x + bias", x.axes[0].name)
    scaled = b.op("mul", "scaled", x, b.const("scale_w", layer.weight, x.axes))
    return b.op("add", "scale_y", scaled, b.const("scale_b", layer.bias, x.axes))


def lower_combine(layer: Combine, ctx: Lowering) -> Value:
    """Both halves of the input, then the function of them."""
    b, out = ctx.builder, Axis(ctx.builder.unique("combined"), layer.width)
    b.origin = Origin("combine", f"y = {layer.function}(left, right)", out.name)
    left = b.op("slice", "left", ctx.x, axes=[out], start=0)
    right = b.op("slice", "right", ctx.x, axes=[out], start=layer.width)
    return b.op(layer.function, "combine_y", left, right)


def lower_select(layer: Select, ctx: Lowering) -> Value:
    """``y = x[index]``; consecutive elements are a slice."""
    b, first = ctx.builder, int(layer.index[0])
    out = Axis(b.unique("selected"), layer.outputs)
    b.origin = Origin("select", "y = x[index]", out.name)
    if np.array_equal(layer.index, first + np.arange(layer.outputs)):
        return b.op("slice", "select_y", ctx.x, axes=[out], start=first)
    return b.op("gather", "select_y", ctx.x, b.const("select_of", layer.index, [out], Index(ctx.x.axes[0].name)))


def lower_history(layer: History, ctx: Lowering) -> Value:
    """``y = x`` of some steps before; what is kept moves on by one step."""
    b, width, depth = ctx.builder, layer.width, int(layer.delays[0])
    b.origin = Origin("history", "y = x of some steps ago", ctx.x.axes[0].name)
    past = b.value("past", [Axis(b.unique("kept"), width * depth)])

    def kept(since: int, until: int) -> Value:
        """What the values were from ``since`` to ``until`` steps ago."""
        count = since - until + 1
        if count == depth:
            return past
        return b.op("slice", f"since_{since}", past, axes=[Axis(b.unique("earlier"), width * count)],
                    start=(depth - since) * width)

    earlier = layer.delays[layer.delays > 0]
    runs = np.split(earlier, np.flatnonzero(np.diff(earlier) != -1) + 1)
    parts = [*(kept(int(run[0]), int(run[-1])) for run in runs), *([ctx.x] if layer.delays[-1] == 0 else [])]
    y = b.op("concat", "history_y", *parts, axes=[Axis(b.unique("history"), layer.outputs)])
    after = b.op("concat", "past_next", *([kept(depth - 1, 1)] if depth > 1 else []), ctx.x, axes=past.axes)
    ctx.states.append(State(past, after.name, np.zeros(width * depth)))
    return y
