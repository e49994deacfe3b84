"""The integer form of each op over the reals: sums align, products are exact and rounded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.program import Op, Value
from ncpc.ir.types import Fixed
from ncpc.passes.fixed_centres import centred, start_of_sums
from ncpc.passes.fixed_roots import emit_sqrt
from ncpc.passes.fixed_rows import emit_matrix, emit_sums, emit_terms
from ncpc.passes.fixed_scope import (
    FINEST,
    NARROW,
    TRUTH,
    WIDE,
    FixedScope,
    aligned,
    axes_of,
    emit,
    frac_of,
    fraction,
    index_map,
    narrow,
    narrowed,
    resized,
    wide,
)
from ncpc.passes.fixed_tables import emit_function
from ncpc.passes.fixed_windows import emit_conv2d, emit_pool

AFFORDED = 1
"""Bits of fraction that weights may lose so that their products can be summed exactly."""
BLOCKS = (8, 16, 32)
"""Products that are summed before their sum is rounded, where all of them do not fit."""


def _common(scope: FixedScope, op: Op, names: tuple[str, ...]) -> tuple[list[Value], int]:
    """Operands at one fraction: the finest of theirs at which all of them and the result fit 32 bits."""
    values = [wide(scope, n) for n in names]
    room = min(fraction(scope.q, n, WIDE - 1) for n in (*names, op.out.name))
    frac = min(max(frac_of(v) for v in values), room)
    return [aligned(scope, v, frac) for v in values], frac


def _each(scope: FixedScope, op: Op) -> Value:
    """Ops on aligned operands: add, sub, min, max, neg, relu."""
    values, frac = _common(scope, op, op.args)
    return emit(scope, op, *values, frac=frac)


def _gt(scope: FixedScope, op: Op) -> Value:
    """A comparison of aligned operands."""
    values, _ = _common(scope, op, op.args)
    return scope.builder.op("gt", op.out.name, *values, axes=axes_of(scope, op.out), type_=TRUTH)


def _mul(scope: FixedScope, op: Op) -> Value:
    """An exact product of narrow operands; a state, dt or rate of change keeps 32 bits, and its product is rounded.

    So does a sum that meets its own gate: in 16 bits it would be coarser than what the function leaves of it.
    """
    a, c = op.args
    if op.out.name in scope.weights:
        return emit_terms(scope, op, scope.weights[op.out.name])
    if {a, c} & scope.fine:
        return _rounded(scope, op, wide(scope, a), wide(scope, c))
    if op.out.name in scope.self_gated:
        return _rounded(scope, op, wide(scope, a), narrow(scope, c))
    if c in scope.precise:
        a, c = c, a
    if a in scope.precise:
        return _rounded(scope, op, wide(scope, a), narrow(scope, c), frac_of(wide(scope, a)))
    left = narrow(scope, a)
    if c in scope.rates:
        return _rounded(scope, op, wide(scope, c), left)
    right = narrow(scope, c)
    return emit(scope, op, left, right, frac=frac_of(left) + frac_of(right))


def _rounded(scope: FixedScope, op: Op, left: Value, right: Value, finest: int = 2 * WIDE) -> Value:
    """The product of 32 and 16 or 32 bits at the fraction that its range allows, at most ``finest``."""
    frac = min(fraction(scope.q, op.out.name, WIDE - 1), finest, frac_of(left) + frac_of(right) - 1)
    return emit(scope, op, left, right, frac=frac, kind="mulshr", k=frac_of(left) + frac_of(right) - frac)


def _div(scope: FixedScope, op: Op) -> Value:
    """The dividend times the divisor's inverse; a negative divisor changes both signs."""
    b, (a, c) = scope.builder, op.args
    left, right = wide(scope, a), wide(scope, c)
    if scope.q.ranges[c][1].max() < 0:
        left = b.op("neg", f"{a}_neg", left, type_=left.type)
        right = b.op("neg", f"{c}_neg", right, type_=right.type)
    # The smallest divisor's exponent decides how far the inverse may be shifted up and still fit.
    if c in scope.fine:
        scope.fine.add(op.out.name)
    k = 15 - (30 - _lowest(scope, c, right))
    kind = Fixed(WIDE, 46 + k - frac_of(right))
    inverse = b.op("inverse", f"{op.out.name}_inverse", right, type_=kind, k=k)
    frac = min(fraction(scope.q, op.out.name, WIDE - 1), FINEST, frac_of(left) + kind.frac - 1)
    return emit(scope, op, left, inverse, frac=frac, kind="mulshr", k=frac_of(left) + kind.frac - frac)


def _lowest(scope: FixedScope, name: str, value: Value) -> int:
    """floor(log2) of the divisor's smallest raw magnitude."""
    lo, hi = scope.q.ranges[name]
    least = float(np.minimum(np.abs(lo), np.abs(hi)).min()) * 2.0 ** frac_of(value)
    return int(np.floor(np.log2(max(least * (1 - 2.0**-8), 1.0))))


def _mix(scope: FixedScope, op: Op) -> Value:
    """Ends at one fraction, the weight as it is."""
    ends, frac = _common(scope, op, op.args[:2])
    return emit(scope, op, *ends, wide(scope, op.args[2]), frac=frac)


def _gather(scope: FixedScope, op: Op) -> Value:
    """16 bits, but where they are compared: what is taken for the largest must not be less than the largest.

    What a square root depends on, or what depends on it, keeps its 32.
    """
    fine = op.args[0] in scope.fine
    source = (wide if fine or op.out.name in scope.compared else narrow)(scope, op.args[0])
    scope.fine |= {op.out.name} if fine else set()
    return scope.builder.op("gather", op.out.name, source, index_map(scope, op.args[1]), type_=source.type)


def _slice(scope: FixedScope, op: Op) -> Value:
    source = wide(scope, op.args[0])
    if op.args[0] in scope.precise:
        scope.precise.add(op.out.name)
    axes = axes_of(scope, op.out)
    return scope.builder.op("slice", op.out.name, source, axes=axes, type_=source.type, start=op.attrs["start"])


def _concat(scope: FixedScope, op: Op) -> Value:
    values = [narrow(scope, a) for a in op.args]
    frac = min(frac_of(v) for v in values)
    parts = [resized(scope, f"{v.name}_q{frac}", v, Fixed(NARROW, frac)) for v in values]
    return scope.builder.op("concat", op.out.name, *parts, axes=axes_of(scope, op.out), type_=Fixed(NARROW, frac))


def _segment_sum(scope: FixedScope, op: Op) -> Value:
    """Terms and start at the finest fraction at which no partial sum overflows."""
    axes_of(scope, op.out)  # the index map names this axis
    if op.out.name in scope.weights:
        return emit_sums(scope, op, scope.weights[op.out.name])
    source = wide(scope, op.args[0])
    reach = _partial(scope, op)
    frac = min(frac_of(source), WIDE - 2 - int(np.ceil(np.log2(reach))))
    start = [aligned(scope, wide(scope, a), frac) for a in op.args[2:]]
    return emit(scope, op, aligned(scope, source, frac), index_map(scope, op.args[1]), *start, frac=frac)


def _partial(scope: FixedScope, op: Op) -> float:
    """The largest magnitude a partial sum can have."""
    def most(name: str) -> F64:
        lo, hi = scope.q.ranges[name]
        return np.maximum(np.abs(lo), np.abs(hi))

    total = np.zeros(op.out.shape) if len(op.args) < 3 else np.broadcast_to(most(op.args[2]), op.out.shape).copy()
    post = scope.q.real.constants[op.args[1]][1].astype(np.int64)
    np.add.at(total, post, np.broadcast_to(most(op.args[0]), post.shape))
    return float(total.max()) * (1 + 2.0**-8) + 2.0**-20


def _matmul(scope: FixedScope, op: Op) -> Value:
    """Products summed in 32 bits, exactly where the weights can afford it, else block by block.

    What a block's sum is short of is taken from inputs and weights alike: their roundings weigh about the same.
    """
    if op.out.name in scope.weights:
        return emit_matrix(scope, op, scope.weights[op.out.name])
    name = centred(scope, op.args[1])
    x, bits = narrow(scope, name), scope.q.bits
    data = np.asarray(scope.q.real.constants[op.args[0]][1], np.float64)
    terms, whole = (np.abs(data) * np.broadcast_to(_magnitude(scope, one), x.shape) for one in (name, op.args[1]))
    start = _magnitude(scope, op.args[2]) if len(op.args) > 2 else 0.0
    # What a centre adds to the start, it takes from the terms.
    wanted, room = scope.q.scales[op.args[0]], _room(whole.sum(axis=1) + start)
    if wanted + frac_of(x) - room <= AFFORDED:
        return _products(scope, op, x, Fixed(bits, min(wanted, room - frac_of(x))), data, scope.centres.get(name))
    size, inside = max(((n, _room(_block_sums(terms, n))) for n in BLOCKS),
                       key=lambda b: (min(b[1], wanted + frac_of(x) - AFFORDED), b[0]))
    x = narrowed(scope, name, frac_of(x) - max(wanted + frac_of(x) - inside, 0) // 2)
    frac = min(wanted, inside - frac_of(x))
    return _products(scope, op, x, Fixed(bits, frac), data, scope.centres.get(name), k=frac + frac_of(x) - room,
                     block=size)


def _room(reach: F64) -> int:
    """The finest fraction at which sums of these magnitudes fit 32 bits, begun with half a unit of a shift."""
    return WIDE - 1 - int(np.ceil(np.log2(float(reach.max()) * (1 + 2.0**-7) + 2.0**-20)))


def _block_sums(terms: F64, size: int) -> F64:
    sums: F64 = np.add.reduceat(terms, np.arange(0, terms.shape[1], size), axis=1)
    return sums


def _products(scope: FixedScope, op: Op, x: Value, kind: Fixed, data: F64, centre: F64 | None, k: int = 0,
              block: int = 0) -> Value:
    """The op with its weights in ``kind``; its start value comes at the fraction of its result."""
    raw = np.clip(np.floor(data * 2.0**kind.frac + 0.5), kind.lo, kind.hi)  # the scale may round one up out
    weight = scope.builder.const(op.args[0], raw.astype(np.int64), (*axes_of(scope, op.out), *x.axes), kind)
    frac = kind.frac + frac_of(x) - k
    start = start_of_sums(scope, op, centre, raw * kind.lsb, frac)
    how: dict[str, Any] = {"k": k, "block": block} if k else {}
    return scope.builder.op("matmulshr" if k else "matmul", op.out.name, weight, x, *start, type_=Fixed(WIDE, frac),
                            **how)


def _magnitude(scope: FixedScope, name: str) -> F64:
    lo, hi = scope.q.ranges[name]
    return np.maximum(np.abs(lo), np.abs(hi))


def _clamp(scope: FixedScope, op: Op) -> Value:
    """Limits that are numbers."""
    source = wide(scope, op.args[0])
    limits: dict[str, Any] = {}
    for end in ("lo", "hi"):
        number = op.attrs[end]
        assert isinstance(number, int | float)
        limits[end] = int(np.floor(np.clip(number * 2.0 ** frac_of(source), -(2.0**31), 2.0**31 - 1) + 0.5))
    return scope.builder.op("clamp", op.out.name, source, type_=source.type, flag=op.attrs["flag"], **limits)


EMITTERS: Mapping[str, Callable[[FixedScope, Op], Value]] = {
    **dict.fromkeys(("add", "sub", "min", "max", "neg", "relu"), _each),
    **dict.fromkeys(("sigmoid", "tanh", "exp"), emit_function),
    "gt": _gt, "mul": _mul, "div": _div, "mix": _mix, "gather": _gather, "slice": _slice, "concat": _concat,
    "segment_sum": _segment_sum, "matmul": _matmul, "clamp": _clamp, "conv2d": emit_conv2d, "pool": emit_pool,
    "sqrt": emit_sqrt,
}


