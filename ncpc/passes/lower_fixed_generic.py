"""Any layer's step over the reals, written down in integers; states are 32 bits wide, so slow ones do not stall."""

from __future__ import annotations

import numpy as np

from ncpc.ir.build import Loop
from ncpc.ir.policy import Layer
from ncpc.ir.program import Origin, Program, Repeat, State, Stmt, Value, compared, statements
from ncpc.ir.quantized import QuantizedGeneric
from ncpc.ir.rewrite import only_moves
from ncpc.ir.types import Fixed
from ncpc.passes.context import FixedLowering
from ncpc.passes.fixed_ops import EMITTERS
from ncpc.passes.fixed_scope import (
    FINEST,
    NARROW,
    TRUTH,
    WIDE,
    FixedScope,
    aligned,
    axes_of,
    frac_of,
    fraction,
    narrow,
    resized,
)
from ncpc.passes.functions import self_gated
from ncpc.passes.weight_rows import row_weights


def lower_fixed_generic(layer: Layer, q: QuantizedGeneric, ctx: FixedLowering) -> Value:
    """The layer in integers; its states are added to the context."""
    b, real = ctx.builder, q.real
    scope = FixedScope(b, q, compared=compared(real.body))
    _enter(scope, ctx)
    kept = narrow(scope, real.x.value.name).type if only_moves(real) and real.states else None
    for state in real.states:
        kind = kept or state_type(q, state.inp.name)
        scope.wide[state.inp.name] = b.value(state.inp.name, axes_of(scope, state.inp), kind)
        scope.precise.add(state.inp.name)
        scope.peaks[state.inp.name] = int(np.abs(_raw_box(q, state.inp.name, scope.wide[state.inp.name])).max())
    inputs = {state.inp.name: scope.wide[state.inp.name] for state in real.states}
    scope.rates |= _rates(real)
    scope.fine |= _below_roots(real)
    if q.together:
        scope.weights |= {name: of for of in row_weights(real) for name in of.ops}
    scope.self_gated |= set(self_gated(real))
    emit_body(scope, real.body)
    for state in real.states:
        ctx.states.append(_state(scope, state, inputs[state.inp.name]))
        labels = real.labels.get(state.inp.axes[-1].name)
        if labels:
            ctx.labels[inputs[state.inp.name].axes[-1].name] = labels
    return resized(scope, f"{real.y.value.name}_out", scope.wide[real.y.value.name], q.y)


def _rates(real: Program) -> set[str]:
    """What, times a step's length, is added to a state: rounded to 16 bits it would decide how exact the result is."""
    made = {op.out.name: op for op in statements(real.body) if op.kind == "mul"}
    kept = {s.inp.name for s in real.states}
    kept |= {c.inner.name for stmt in real.body if isinstance(stmt, Repeat) for c in stmt.carried}
    sums = [op.args for op in statements(real.body) if op.kind == "add" and op.args[0] in kept]
    return {made[change].args[1] for _, change in sums if change in made} - set(real.constants)


def _below_roots(real: Program) -> set[str]:
    """What square roots are taken of, and what that is made of but for inputs and constants."""
    made = {op.out.name: op for op in statements(real.body)}
    found: set[str] = set()
    left = [name for op in made.values() if op.kind == "sqrt" for name in op.args]
    while left:
        name = left.pop()
        if name in made and name not in found:
            found.add(name)
            left += made[name].args
    return found


def state_type(q: QuantizedGeneric, name: str) -> Fixed:
    """32 bits; one of headroom, so that a difference of two states fits. What is 0 or 1 stays so."""
    after = {s.out for s in q.real.states if s.inp.name == name}
    if any(op.kind == "gt" and op.out.name in after for op in statements(q.real.body)):
        return TRUTH
    return Fixed(WIDE, min(FINEST + 1, fraction(q, name, WIDE) - 1))


def _enter(scope: FixedScope, ctx: FixedLowering) -> None:
    """The layer's input at one fraction for all channels, and dt."""
    real, b, x = scope.q.real, scope.builder, ctx.x
    assert isinstance(x.type, Fixed)
    scope.renamed[real.x.value.axes[0]] = x.axes[0]
    b.origin = Origin(next(op.origin.layer for op in statements(real.body) if op.origin),
                      "inputs at one fraction", x.axes[0].name)
    name = real.x.value.name
    frac = min(max(fraction(scope.q, name, NARROW), min(scope.q.x_fracs)), max(scope.q.x_fracs))
    if set(scope.q.x_fracs) == {x.type.frac}:
        scope.wide[name] = x
    else:
        gain = b.const(f"{name}_align", np.exp2(frac - np.array(scope.q.x_fracs) + 14.0).astype(np.int64), x.axes,
                       Fixed(WIDE, 14 + frac - x.type.frac))
        scope.wide[name] = b.op("mulshr", f"{name}_aligned", x, gain, type_=Fixed(WIDE, frac), k=14)
        lo, hi = (np.floor(end * 2.0**frac + 0.5) for end in scope.q.ranges[name])
        scope.peaks[name] = int(max(hi.max(), -1 - lo.min()))
    if real.dt is not None and ctx.dt is not None:
        scope.wide[real.dt.value.name] = ctx.dt
        scope.precise.add(real.dt.value.name)


def _state(scope: FixedScope, state: State, inp: Value) -> State:
    """The new state, limited to its box."""
    box = _raw_box(scope.q, state.inp.name, inp)
    kept = only_moves(scope.q.real)
    out = scope.wide[state.out] if kept else limited(scope, state.out, state.inp.name, inp)
    assert isinstance(inp.type, Fixed)
    start = np.floor(np.asarray(state.init, np.float64) * 2.0**inp.type.frac + 0.5).astype(np.int64)
    return State(inp, out.name, start, box.reshape(-1, 2))


def limited(scope: FixedScope, name: str, box_of: str, like: Value) -> Value:
    """A value in the type of ``like``, limited to the box of ``box_of``; flagged where that box is only observed.

    A coarser one is limited before it is shifted up: beyond the box it may not fit ``like``.
    """
    b, kind, value = scope.builder, like.type, scope.wide[name]
    assert isinstance(kind, Fixed)
    box, k = _raw_box(scope.q, box_of, like), kind.frac - frac_of(value)
    at = value if k > 0 else aligned(scope, value, kind.frac)
    if k > 0:
        box = np.stack([-(-box[..., 0] >> k), box[..., 1] >> k], axis=-1)
    lo = b.const(f"{box_of}_lo", box[..., 0], like.axes, at.type)
    hi = b.const(f"{box_of}_hi", box[..., 1], like.axes, at.type)
    flag = "state_clamped" if scope.q.limits.get(box_of) else None
    inside = b.op("clamp", f"{box_of}_limited", at, type_=at.type, lo=lo.name, hi=hi.name, flag=flag)
    return resized(scope, f"{box_of}_after", inside, kind)


def _raw_box(q: QuantizedGeneric, name: str, like: Value) -> np.ndarray:
    assert isinstance(like.type, Fixed)
    lo, hi = q.ranges[name]
    scaled = np.stack([np.broadcast_to(lo, like.shape), np.broadcast_to(hi, like.shape)], axis=-1) * 2.0**like.type.frac
    return np.floor(scaled + 0.5).astype(np.int64)


def emit_body(scope: FixedScope, body: tuple[Stmt, ...]) -> None:
    """Every statement in order."""
    for stmt in body:
        if isinstance(stmt, Repeat):
            _emit_repeat(scope, stmt)
        else:
            scope.builder.origin = stmt.origin
            scope.wide[stmt.out.name] = EMITTERS[stmt.kind](scope, stmt)


def _emit_repeat(scope: FixedScope, stmt: Repeat) -> None:
    """Carried values keep a state's type; each is limited to its box at the end of a pass."""
    b = scope.builder
    starts = {c.inner.name: _start(scope, c.init, c.inner.name) for c in stmt.carried}
    with b.repeat(stmt.count, **{name: (value, None) for name, value in starts.items()}) as loop:
        for carry in stmt.carried:
            scope.wide[carry.inner.name] = loop[carry.inner.name]
            scope.precise.add(carry.inner.name)
        emit_body(scope, stmt.body)
        _close(scope, stmt, loop)
    for carry in stmt.carried:
        scope.wide[carry.out.name] = loop[carry.inner.name]
        scope.precise.add(carry.out.name)


def _close(scope: FixedScope, stmt: Repeat, loop: Loop) -> None:
    for carry in stmt.carried:
        loop.set(carry.inner.name, limited(scope, carry.result, carry.inner.name, loop[carry.inner.name]))


def _start(scope: FixedScope, init: str, inner: str) -> Value:
    return resized(scope, f"{inner}_start", scope.wide[init], state_type(scope.q, inner))
