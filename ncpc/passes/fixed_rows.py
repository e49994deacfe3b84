"""Weighted sums whose weights have few bits: exact at a scale for each row, then brought to one fraction."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.ir.program import Op, Value
from ncpc.ir.types import Fixed
from ncpc.passes.fixed_scope import (
    WIDE,
    FixedScope,
    aligned,
    axes_of,
    frac_of,
    fraction,
    index_map,
    narrow,
    narrowed,
    wide,
)
from ncpc.passes.weight_rows import FINEST, RowWeights, row_fractions

ROOM = 30
"""Bits that a sum of raw products may take: one of headroom."""


def emit_matrix(scope: FixedScope, op: Op, of: RowWeights) -> Value:
    """``weight @ x + start``."""
    fracs = row_fractions(of.data, of.rows, scope.q.bits)
    raw = _raw(of.data, fracs)
    x = _short(scope, of.source, np.abs(raw).sum(axis=1).max(initial=0))
    least = int(fracs.min(initial=FINEST))
    weight = scope.builder.const(of.name, raw, (*axes_of(scope, op.out), *x.axes), Fixed(scope.q.bits, least))
    total = scope.builder.op("matmul", f"{op.out.name}_rows", weight, x, type_=Fixed(WIDE, least + frac_of(x)))
    return _brought(scope, op, total, fracs[:, 0] - least, op.args[2:])


def emit_terms(scope: FixedScope, op: Op, of: RowWeights) -> Value:
    """The products of a list of synapses, each at its row's scale; their sums are brought to one."""
    fracs = row_fractions(of.data, of.rows, scope.q.bits)
    raw, least = _raw(of.data, fracs), int(fracs.min(initial=FINEST))
    total = np.zeros(int(of.rows.max(initial=-1)) + 1, np.int64)
    np.add.at(total, of.rows, np.abs(raw))
    x = _short(scope, of.source, total.max(initial=0))
    weight = scope.builder.const(of.name, raw, axes_of(scope, op.out), Fixed(scope.q.bits, least))
    return scope.builder.op("mul", op.out.name, weight, x, type_=Fixed(WIDE, least + frac_of(x)))


def emit_sums(scope: FixedScope, op: Op, of: RowWeights) -> Value:
    """The sums of ``emit_terms`` per row, and their start."""
    fracs = row_fractions(of.data, of.rows, scope.q.bits)
    spread = np.zeros(op.out.shape, np.int64)
    spread[of.rows] = fracs - fracs.min(initial=FINEST)
    terms = wide(scope, op.args[0])
    axes = axes_of(scope, op.out)  # before the index map, which names this axis
    total = scope.builder.op("segment_sum", f"{op.out.name}_rows", terms, index_map(scope, op.args[1]), axes=axes,
                             type_=terms.type)
    return _brought(scope, op, total, spread, op.args[2:])


def _raw(data: F64, fracs: I64) -> I64:
    raw: I64 = np.floor(data * np.exp2(fracs.astype(np.float64)) + 0.5).astype(np.int64)
    return raw


def _short(scope: FixedScope, name: str, weights: float) -> Value:
    """What is weighted, in 16 bits, or in as many fewer as sums of all its products need to fit."""
    x = narrow(scope, name)
    lo, hi = scope.q.ranges[name]
    most = float(np.maximum(np.abs(lo), np.abs(hi)).max(initial=0.0)) * 2.0 ** frac_of(x) + 1.0
    excess = int(np.ceil(np.log2(max(float(weights) * most, 1.0)))) - ROOM
    return x if excess <= 0 else narrowed(scope, name, frac_of(x) - excess)


def _brought(scope: FixedScope, op: Op, total: Value, spread: I64, start: tuple[str, ...]) -> Value:
    """Sums whose rows are ``spread`` bits finer than their type says, as one value, with their start added."""
    b, axes = scope.builder, axes_of(scope, op.out)
    names = [op.out.name, *start]
    frac = min(frac_of(total), *(fraction(scope.q, name, WIDE - 1) for name in names))
    lost, most = frac_of(total) - frac, int(spread.max(initial=0))
    name = op.out.name if not start else f"{op.out.name}_sum"
    if most:
        gain = b.const(f"{op.out.name}_gain", np.int64(1) << (most - spread), axes, Fixed(WIDE, most))
        total = b.op("mulshr", name, total, gain, axes=axes, type_=Fixed(WIDE, frac), k=most + lost)
    else:
        total = aligned(scope, total, frac)
    for begin in start:
        total = b.op("add", op.out.name, total, aligned(scope, wide(scope, begin), frac), axes=axes,
                     type_=Fixed(WIDE, frac))
    return total
