"""Normalization by mean and variance over the reals."""

from __future__ import annotations

import numpy as np

from ncpc.ir.heads import Norm
from ncpc.ir.program import Origin, Value
from ncpc.ir.types import Axis, Index
from ncpc.passes.context import Lowering


def lower_norm(layer: Norm, ctx: Lowering) -> Value:
    """``n = (x - mean) * (sqrt(m) / sqrt(S + m*epsilon))``, S the sum of squares about the mean of a part's m elements.

    So a part takes one root and one quotient, and S is not rounded on its way to them. No element of n is larger than
    ``sqrt(m - 1)``; that it is limited to ``sqrt(m)`` changes no value and tells integers so.
    """
    b, x, size = ctx.builder, ctx.x, layer.inputs // layer.groups
    b.origin = Origin("norm", "y = weight*(x - mean)/sqrt(variance + epsilon) + bias", x.axes[0].name)
    part = Axis(b.unique("parts"), layer.groups)
    member = b.const("part_of", np.repeat(np.arange(layer.groups), size), x.axes, Index(part.name))
    total = b.op("segment_sum", "part_sum", x, member, axes=[part])
    mean = b.op("mul", "part_mean", total, b.const("part_share", 1.0 / size))
    off = b.op("sub", "off_mean", x, b.op("gather", "mean_of", mean, member))
    squares = b.op("segment_sum", "squares", b.op("mul", "square", off, off), member, axes=[part])
    least = b.const("spread_least", size * layer.epsilon)
    spread = b.op("max", "spread_held", b.op("add", "spread", squares, least), least)  # in interval arithmetic too
    root = b.op("sqrt", "deviation", spread)
    gain = b.op("div", "part_gain", b.const("root_size", np.sqrt(size)), root)
    steep = b.op("mul", "standing", off, b.op("gather", "gain_of", gain, member))
    n = b.op("clamp", "standing_held", steep, lo=-float(np.sqrt(size)), hi=float(np.sqrt(size)), flag=None)
    scaled = b.op("mul", "norm_scaled", n, b.const("norm_w", layer.weight, x.axes))
    return b.op("add", "norm_y", scaled, b.const("norm_b", layer.bias, x.axes))
