"""No overflow: the interval of every value of an integer program, element by element, in exact integers.

Inputs are anything their storage holds, states anything in their box. Every op's result, every partial sum and every
intermediate of the emitted arithmetic must fit; a carried state must come back into its box. What plain intervals
cannot see (the LTC update pulls its state towards a weighted mean) comes as lemmas from ``ncpc.proofs.invariance``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.program import Op, Program, Repeat, Stmt, Value, values
from ncpc.ir.quantized import I64
from ncpc.ir.types import Fixed
from ncpc.proofs import division, windows
from ncpc.semantics import fixed


@dataclass(frozen=True, eq=False)
class Interval:
    """Elementwise raw bounds, int64 arrays of the value's shape."""

    lo: I64
    hi: I64


Lemmas = Mapping[str, Interval]
INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass
class Analysis:
    """The program under analysis and the intervals found so far."""

    program: Program
    table: Mapping[str, Value]
    lemmas: Lemmas
    found: dict[str, Interval] = field(default_factory=dict)


def analyse(program: Program, lemmas: Lemmas) -> dict[str, Interval]:
    """The interval of every value; raises ``ProofFailed`` naming op and element where one may leave its type."""
    analysis = Analysis(program, values(program), lemmas)
    for value, data in program.constants.values():
        if isinstance(value.type, Fixed):
            analysis.found[value.name] = Interval(data.astype(np.int64), data.astype(np.int64))
    for port in filter(None, (program.x, program.dt)):
        analysis.found[port.value.name] = _storage(port.value)
    for state in program.states:
        if state.box is None:
            raise ProofFailed(f"state {state.inp.name}: no range is known, so no overflow proof is possible")
        analysis.found[state.inp.name] = _box(state.box.astype(np.int64), state.inp.shape)
    _body(analysis, program.body)
    for state in program.states:
        _inside(analysis, state.out, analysis.found[state.inp.name])
    return analysis.found


def _storage(value: Value) -> Interval:
    assert isinstance(value.type, Fixed)
    return Interval(np.full(value.shape, value.type.lo, np.int64), np.full(value.shape, value.type.hi, np.int64))


def _box(box: I64, shape: tuple[int, ...]) -> Interval:
    return Interval(box[:, 0].reshape(shape), box[:, 1].reshape(shape))


def _body(a: Analysis, body: tuple[Stmt, ...]) -> None:
    for stmt in body:
        if isinstance(stmt, Repeat):
            _repeat(a, stmt)
        else:
            a.found[stmt.out.name] = _op(a, stmt)


def _repeat(a: Analysis, stmt: Repeat) -> None:
    """A carried value has one interval in every pass: its initial one, or that and all the body can return.

    The body must return into it.
    """
    _passes(a, stmt, {c.inner.name: a.found[c.init] for c in stmt.carried})
    wider = {c.inner.name: _hull(a.found[c.init], _reach(a, stmt, c.result)) for c in stmt.carried}
    if any(not _holds(a.found[c.init], wider[c.inner.name]) for c in stmt.carried):
        _passes(a, stmt, wider)
    for carry in stmt.carried:
        _inside(a, carry.result, a.found[carry.inner.name])
        a.found[carry.out.name] = a.found[carry.inner.name]


def _passes(a: Analysis, stmt: Repeat, carried: Mapping[str, Interval]) -> None:
    a.found.update(carried)
    _body(a, stmt.body)


def _reach(a: Analysis, stmt: Repeat, name: str) -> Interval:
    """What a clamp in the body limits its result to; for any other op what the last pass gave."""
    clamps = (op for op in stmt.body if isinstance(op, Op) and op.out.name == name and op.kind == "clamp")
    return next((_clamp(a, op, [_storage(op.out)]) for op in clamps), a.found[name])


def _hull(a: Interval, b: Interval) -> Interval:
    return Interval(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def _holds(outer: Interval, inner: Interval) -> bool:
    return bool((outer.lo <= inner.lo).all() and (inner.hi <= outer.hi).all())


def _inside(a: Analysis, name: str, box: Interval) -> None:
    got = a.found[name]
    outside = np.flatnonzero(((got.lo < box.lo) | (got.hi > box.hi)).reshape(-1))
    if outside.size:
        where = f"{name}[{_element(a, a.table[name], int(outside[0]))}]"
        raise ProofFailed(f"{where} may leave its box: the range proof does not close")


def _op(a: Analysis, op: Op) -> Interval:
    if op.out.name in a.lemmas:
        return _checked(a, op, a.lemmas[op.out.name])
    args = [a.found[name] for name in op.args if name in a.found]
    if op.kind in _SPECIAL:
        return _checked(a, op, _SPECIAL[op.kind](a, op, args))
    corners = _MONOTONE[op.kind](op, args)
    lo, hi = np.minimum.reduce(corners), np.maximum.reduce(corners)
    return _checked(a, op, Interval(np.broadcast_to(lo, op.out.shape), np.broadcast_to(hi, op.out.shape)))


def _checked(a: Analysis, op: Op, got: Interval) -> Interval:
    kind = op.out.type
    assert isinstance(kind, Fixed)
    outside = np.flatnonzero(((got.lo < kind.lo) | (got.hi > kind.hi)).reshape(-1))
    if outside.size:
        raise ProofFailed(_leaves(a, op, got, int(outside[0])))
    return got


def _leaves(a: Analysis, op: Op, got: Interval, index: int) -> str:
    where = f"{op.out.name}[{_element(a, op.out, index)}]"
    return (f"{where} = {op.kind} may reach {int(got.lo.reshape(-1)[index])}..{int(got.hi.reshape(-1)[index])}, "
            f"outside {op.out.type}: the range proof does not close")


def _element(a: Analysis, value: Value, index: int) -> str:
    """The name of an element where its axis has names: a neuron."""
    names = a.program.labels.get(value.axes[-1].name) if value.axes else None
    return names[index] if names and index < len(names) else str(index)


def _products(op: Op, args: list[Interval]) -> list[I64]:
    x, y = args
    return [x.lo * y.lo, x.lo * y.hi, x.hi * y.lo, x.hi * y.hi]


def _ends(function: Callable[[I64, int], I64]) -> Callable[[Op, list[Interval]], list[I64]]:
    return lambda op, args: [function(end, int(op.attrs["k"] or 0)) for end in (args[0].lo, args[0].hi)]


_MONOTONE: dict[str, Callable[[Op, list[Interval]], list[I64]]] = {
    "add": lambda op, a: [a[0].lo + a[1].lo, a[0].hi + a[1].hi],
    "sub": lambda op, a: [a[0].lo - a[1].hi, a[0].hi - a[1].lo],
    "mul": _products,
    "neg": lambda op, a: [-a[0].hi, -a[0].lo],
    "min": lambda op, a: [np.minimum(a[0].lo, a[1].lo), np.minimum(a[0].hi, a[1].hi)],
    "max": lambda op, a: [np.maximum(a[0].lo, a[1].lo), np.maximum(a[0].hi, a[1].hi)],
    "relu": lambda op, a: [np.maximum(a[0].lo, 0), np.maximum(a[0].hi, 0)],
    "cast": lambda op, a: [a[0].lo, a[0].hi],
    "shr": _ends(fixed.shr),
    "asr": _ends(lambda x, k: x >> k),
    "shl": _ends(lambda x, k: x << k),
    "mulshr": lambda op, a: [fixed.shr(p, int(op.attrs["k"] or 0)) for p in _products(op, a)],
}


def _clamp(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    lo, hi = (a.found[v].lo if isinstance(v, str) else np.int64(v or 0) for v in (op.attrs["lo"], op.attrs["hi"]))
    return Interval(np.clip(args[0].lo, lo, hi), np.clip(args[0].hi, lo, hi))


def _gather(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    index = a.program.constants[op.args[1]][1].astype(np.int64)
    return Interval(args[0].lo[..., index], args[0].hi[..., index])


def _slice(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    start = int(op.attrs["start"] or 0)
    part = slice(start, start + op.out.axes[-1].size)
    return Interval(args[0].lo[..., part], args[0].hi[..., part])


def _concat(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    return Interval(np.concatenate([x.lo for x in args], -1), np.concatenate([x.hi for x in args], -1))


def _segment_sum(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """Sums in order: every partial sum lies between the sum of the negative parts and that of the positive ones."""
    post = a.program.constants[op.args[1]][1].astype(np.int64)
    start = args[1] if len(args) > 1 else Interval(np.zeros(op.out.shape, np.int64), np.zeros(op.out.shape, np.int64))
    ends = [base.copy() for base in (start.lo, start.hi, start.lo, start.hi)]
    parts = (args[0].lo, args[0].hi, np.minimum(args[0].lo, 0), np.maximum(args[0].hi, 0))
    for total, part in zip(ends, parts, strict=True):
        np.add.at(total, post, part)
    _checked(a, op, Interval(ends[2], ends[3]))
    return Interval(ends[0], ends[1])


def _matmul(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    weight, x = args[0].lo, args[1]
    ends = [np.minimum(weight * x.lo, weight * x.hi), np.maximum(weight * x.lo, weight * x.hi)]
    zero = np.zeros(op.out.shape, np.int64)
    start = args[2] if len(args) > 2 else Interval(zero, zero)
    partial = Interval(start.lo + np.minimum(ends[0], 0).sum(-1), start.hi + np.maximum(ends[1], 0).sum(-1))
    _checked(a, op, partial)
    return Interval(start.lo + ends[0].sum(-1), start.hi + ends[1].sum(-1))


def _matmulshr(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """The sum within a block must fit from its start, half a unit of the shift, on; then those of the blocks."""
    k, block = int(op.attrs["k"] or 0), int(op.attrs["block"] or 1)
    weight, x = args[0].lo, args[1]
    starts, half = np.arange(0, weight.shape[1], block), np.int64(1) << (k - 1)
    low, high = np.minimum(weight * x.lo, weight * x.hi), np.maximum(weight * x.lo, weight * x.hi)
    least, most = (np.add.reduceat(end, starts, axis=1) for end in (np.minimum(low, 0), np.maximum(high, 0)))
    _checked(a, op, Interval(half + least.min(axis=1), half + most.max(axis=1)))
    zero = np.zeros(op.out.shape, np.int64)
    start = args[2] if len(args) > 2 else Interval(zero, zero)
    parts = [fixed.shr(np.add.reduceat(end, starts, axis=1), k) for end in (low, high)]
    _checked(a, op, Interval(start.lo + np.minimum(parts[0], 0).sum(-1), start.hi + np.maximum(parts[1], 0).sum(-1)))
    return Interval(start.lo + parts[0].sum(-1), start.hi + parts[1].sum(-1))


def _mix(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """Between the first two arguments, given that the third lies in [0, 1]; the product must fit 64 bits."""
    kind = a.table[op.args[2]].type
    assert isinstance(kind, Fixed)
    if args[2].lo.min() < 0 or args[2].hi.max() > 1 << kind.frac:
        raise ProofFailed(f"{op.out.name} = mix: its weight may leave [0, 1]: the range proof does not close")
    lo, hi = np.minimum(args[0].lo, args[1].lo), np.maximum(args[0].hi, args[1].hi)
    if np.any(hi - lo > INT32[1]):
        raise ProofFailed(f"{op.out.name} = mix: the difference of its ends may leave 32 bits")
    return Interval(np.broadcast_to(lo, op.out.shape), np.broadcast_to(hi, op.out.shape))


def _gt(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """0 or 1, or one of them where the arguments' intervals decide."""
    kind = op.out.type
    assert isinstance(kind, Fixed)
    one = np.int64(1) << kind.frac
    ends = (np.where(args[0].lo > args[1].hi, one, 0), np.where(args[0].hi > args[1].lo, one, 0))
    return Interval(*(np.broadcast_to(end, op.out.shape).astype(np.int64) for end in ends))


def _lut(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    table, k = a.program.constants[op.args[1]][1].astype(np.int64), int(op.attrs["k"] or 0)
    if np.any(np.diff(table) < 0):
        return Interval(np.full(op.out.shape, table.min()), np.full(op.out.shape, table.max()))
    return Interval(fixed.lut(args[0].lo, table, k), fixed.lut(args[0].hi, table, k))


def _inverse(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """2**(46 + k) / d with the exact error of the reciprocal; d must be positive and the shift not negative."""
    value, k = a.table[op.args[0]], int(op.attrs["k"] or 0)
    bad = np.flatnonzero((args[0].lo < 1).reshape(-1))
    if bad.size:
        where = f"{value.name}[{_element(a, value, int(bad[0]))}]"
        raise ProofFailed(f"{where} may be 0 or negative: a division by zero is possible")
    if int(fixed.norm(args[0].hi).min(initial=31)) + k < 0:
        raise ProofFailed(f"{op.out.name} = inverse: its shift can fall below 0; the divisor's format is too wide")
    top = Fraction(2) ** (46 + k)
    least = [floor(top * (1 - division.shortfall()) / int(d)) for d in args[0].hi.reshape(-1)]
    most = [ceil(top * (1 + division.excess()) / int(d)) for d in args[0].lo.reshape(-1)]
    return Interval(np.array(least, np.int64).reshape(op.out.shape), np.array(most, np.int64).reshape(op.out.shape))


_SPECIAL: dict[str, Callable[[Analysis, Op, list[Interval]], Interval]] = {
    "clamp": _clamp,
    "gather": _gather,
    "slice": _slice,
    "concat": _concat,
    "segment_sum": _segment_sum,
    "matmul": _matmul,
    "matmulshr": _matmulshr,
    "mix": _mix,
    "gt": _gt,
    "lut": _lut,
    "inverse": _inverse,
    "conv2d": lambda a, op, args: Interval(*windows.conv2d_ends(op, [(r.lo, r.hi) for r in args])),
    "pool": lambda a, op, args: Interval(*windows.pool_ends(op, [(r.lo, r.hi) for r in args])),
}
