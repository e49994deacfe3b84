"""Convolution and pooling in integers: a scale per filter, 16-bit results, exact sums shifted once."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.ir.program import Attr, Op, Value
from ncpc.ir.types import Fixed
from ncpc.passes.fixed_scope import NARROW, WIDE, FixedScope, axes_of, frac_of, fraction, narrow

FINEST = 30
"""The largest fraction of a weight."""
MOST_SHIFT = 30
"""The largest shift of a sum whose every fraction is kept: its rounding half and the bias fit 32 bits together."""


def emit_conv2d(scope: FixedScope, op: Op) -> Value:
    """Each filter's weights at the finest fraction that its largest one and its bias allow."""
    b, x = scope.builder, narrow(scope, op.args[1])
    weight, bias = (np.asarray(scope.q.real.constants[op.args[i]][1], np.float64) for i in (0, 2))
    y = scope.q.y if op.out.name == scope.q.real.y.value.name else Fixed(NARROW, fraction(scope.q, op.out.name, NARROW))
    fracs = _fractions(weight, bias, scope.q.bits, frac_of(x))
    out = min(y.frac, int(fracs.min()) + frac_of(x))
    fracs = np.minimum(fracs, MOST_SHIFT + out - frac_of(x))
    attrs = {**op.attrs, **_limits(op, y, out)}
    axes = axes_of(scope, scope.q.real.constants[op.args[0]][0])
    scale = np.exp2(fracs.astype(np.float64))
    raw_w = b.const(op.args[0], _rounded(weight * scale[:, None]), axes, Fixed(scope.q.bits, int(fracs.min())))
    shift = fracs + frac_of(x) - out
    half = (1 << shift) >> 1
    raw_b = b.const(op.args[2], _rounded(bias * scale * 2.0 ** frac_of(x)) + half, axes[:1], Fixed(WIDE, 0))
    shifts = b.const(f"{op.args[0]}_shift", shift, axes[:1], Fixed(WIDE, 0))
    return b.op("conv2d", op.out.name, raw_w, x, raw_b, shifts, axes=axes_of(scope, op.out),
                type_=Fixed(y.bits, out), **attrs)


def _limits(op: Op, y: Fixed, frac: int) -> dict[str, Attr]:
    """What the format ``y`` holds, chosen with room around what was observed, at a fraction no finer than its own.

    Beyond it a result is limited and flagged.
    """
    k = y.frac - frac
    return {"lo": 0 if op.attrs["relu"] else y.lo >> k, "hi": y.hi >> k, "flag": "activation_limited"}


def _fractions(weight: F64, bias: F64, bits: int, x_frac: int) -> I64:
    """Per filter: weights within ``bits`` bits, and the bias, at the sum's fraction, within 31."""
    most = np.maximum(np.abs(weight).max(axis=1), 2.0**-FINEST)
    by_weight = np.floor(np.log2((2.0 ** (bits - 1) - 1) / most))
    by_bias = np.floor(30 - np.log2(np.maximum(np.abs(bias), 2.0**-FINEST))) - x_frac
    fracs: I64 = np.minimum(np.minimum(by_weight, by_bias), FINEST).astype(np.int64)
    return fracs


def _rounded(numbers: F64) -> I64:
    raw: I64 = np.floor(numbers + 0.5).astype(np.int64)
    return raw


def emit_pool(scope: FixedScope, op: Op) -> Value:
    """In the format of its input."""
    x = narrow(scope, op.args[0])
    return scope.builder.op("pool", op.out.name, x, axes=axes_of(scope, op.out), type_=x.type, **op.attrs)
