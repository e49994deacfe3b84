"""Ranges of a program over the reals, element by element, by interval arithmetic in float64 widened outward.

They decide formats. That nothing overflows is proved afterwards, on the integers, by ``ncpc.proofs``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.policy import F64
from ncpc.ir.program import Op, Program, Repeat, Stmt, statements
from ncpc.quant import windows

SLACK = 2.0**-14
"""Share of a bound by which it is widened: room for the roundings of an integer version."""


@dataclass(frozen=True, eq=False)
class Range:
    """Elementwise bounds in physical units, float64 arrays of the value's shape."""

    lo: F64
    hi: F64

    @property
    def most(self) -> float:
        """The largest magnitude."""
        return float(max(np.abs(self.lo).max(initial=0.0), np.abs(self.hi).max(initial=0.0)))

    def within(self, other: Range) -> bool:
        """Whether every element's range lies in the other's."""
        return bool((self.lo >= other.lo).all() and (self.hi <= other.hi).all())


Ranges = dict[str, Range]

CHOOSING = ("mix", "min", "max", "clamp", "relu", "neg", "gather", "slice", "concat", "gt")
"""Ops whose result lies between their arguments, however it is rounded."""
SIGNED = ("add", "mul", "div", "exp", "sigmoid")
"""Ops whose result keeps its sign however the parts are rounded."""
PASSES, CREEPING, LEAP = 24, 4, 0.5
"""How often a repeat's body is tried; after how many passes a range grows by that share of its width."""
ANYTHING = 2.0**40
"""The magnitude of a quotient of which nothing is known."""
ROOM = 2.0**-12
"""Share of its width by which a box that is tried is widened; beyond it, roundings are limited to the box."""


def roomy(r: Range, share: float) -> Range:
    """A range wider by ``share`` of its width at either end, and a little."""
    room = share * (r.hi - r.lo) + 2.0**-10
    return Range(r.lo - room, r.hi + room)


def hull(a: Range, b: Range) -> Range:
    """The smallest range that holds both."""
    return Range(np.minimum(a.lo, b.lo), np.maximum(a.hi, b.hi))


def meet(known: Range, seen: Range) -> Range:
    """What both allow; where they do not meet, what is known."""
    lo, hi = np.maximum(known.lo, seen.lo), np.minimum(known.hi, seen.hi)
    apart = lo > hi
    return Range(np.where(apart, known.lo, lo), np.where(apart, known.hi, hi))


class UnclosedError(Exception):
    """A value carried around a repeat leaves every range that was tried."""


def ranges_of(program: Program, known: Mapping[str, Range], carried: Mapping[str, Range]) -> Ranges:
    """The range of every value, from those of inputs and states (``known``).

    ``carried`` gives the ranges that values carried around a repeat are limited to. Where it has none, a range that
    the body maps into itself is searched; raises ``UnclosedError`` when there seems to be none.
    """
    found: Ranges = dict(known)
    for name, (_, data) in program.constants.items():
        found[name] = Range(data.astype(np.float64), data.astype(np.float64))
    _body(program, program.body, found, carried)
    return found


def _body(program: Program, body: tuple[Stmt, ...], found: Ranges, carried: Mapping[str, Range]) -> None:
    for stmt in body:
        if isinstance(stmt, Repeat):
            _repeat(program, stmt, found, carried)
        else:
            result = op_range(program, stmt, found)
            found[stmt.out.name] = result if stmt.kind in CHOOSING else _widened(result, stmt.kind in SIGNED)


def _repeat(program: Program, stmt: Repeat, found: Ranges, carried: Mapping[str, Range]) -> None:
    """Ranges of carried values grow until the body maps them into themselves, in leaps where they creep.

    What a leap overshoots is taken back: the image of a range that holds itself holds itself too.
    """
    free = {c.inner.name: c for c in stmt.carried if c.inner.name not in carried}
    starts = {c.inner.name: carried.get(c.inner.name, found[c.init]) for c in stmt.carried}
    for k in range(PASSES):
        results = _pass(program, stmt, found, carried, starts)
        if all(results[name].within(starts[name]) for name in free):
            starts.update({name: hull(found[c.init], results[name]) for name, c in free.items()})
            _pass(program, stmt, found, carried, starts)
            found.update({c.out.name: starts[c.inner.name] for c in stmt.carried})
            return
        share = ROOM if k < CREEPING else LEAP
        starts.update({name: roomy(hull(starts[name], results[name]), share) for name in free})
    raise UnclosedError


def _pass(program: Program, stmt: Repeat, found: Ranges, carried: Mapping[str, Range], starts: Ranges) -> Ranges:
    """The body once: the results by the names that carry them."""
    found.update(starts)
    _body(program, stmt.body, found, carried)
    return {c.inner.name: found[c.result] for c in stmt.carried}


def op_range(program: Program, op: Op, found: Mapping[str, Range]) -> Range:
    """The range of one op's result."""
    if op.kind not in _RULES:
        raise Unsupported(f"op '{op.kind}' has no integer form; use --quant float32")
    result = _RULES[op.kind](program, op, [found[a] for a in op.args])
    shape = op.out.shape
    return Range(np.broadcast_to(result.lo, shape), np.broadcast_to(result.hi, shape))


def _widened(r: Range, signed: bool) -> Range:
    """With room for roundings; ``signed``: they do not carry it across 0."""
    room = SLACK * np.maximum(np.abs(r.lo), np.abs(r.hi))
    lo, hi = r.lo - room, r.hi + room
    if signed:
        lo, hi = np.where(r.lo >= 0, np.maximum(lo, 0.0), lo), np.where(r.hi <= 0, np.minimum(hi, 0.0), hi)
    return Range(lo, hi)


Rule = Callable[[Program, Op, list[Range]], Range]


def _corners(values: list[F64]) -> Range:
    return Range(np.minimum.reduce(values), np.maximum.reduce(values))


def _product(a: Range, b: Range) -> Range:
    return _corners([a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi])


def _quotient(program: Program, op: Op, a: list[Range]) -> Range:
    """Nearly anything where the divisor may be 0: ``require_divisors`` refuses that once all limits are known."""
    safe = (a[1].lo > 0) | (a[1].hi < 0)
    lo, hi = (np.where(safe, end, 1.0) for end in (a[1].lo, a[1].hi))
    found = _product(a[0], Range(1.0 / hi, 1.0 / lo))
    return Range(np.where(safe, found.lo, -ANYTHING), np.where(safe, found.hi, ANYTHING))


def require_divisors(program: Program, ranges: Mapping[str, Range]) -> None:
    """Raises ``Unsupported`` where a divisor may be 0."""
    for op in (op for op in statements(program.body) if op.kind == "div"):
        divisor = ranges[op.args[1]]
        if np.any((divisor.lo <= 0) & (divisor.hi >= 0)):
            raise Unsupported(f"{op.out.name}: its divisor may be 0, so it has no integer form; use --quant float32")


def _rising(function: Callable[[F64], F64]) -> Rule:
    return lambda program, op, a: Range(function(a[0].lo), function(a[0].hi))


def _sigmoid(x: F64) -> F64:
    value: F64 = 1.0 / (1.0 + np.exp(-np.clip(x, -700, 700)))
    return value


def _index(program: Program, name: str) -> np.ndarray:
    return program.constants[name][1].astype(np.int64)


def _gather(program: Program, op: Op, a: list[Range]) -> Range:
    index = _index(program, op.args[1])
    return Range(a[0].lo[..., index], a[0].hi[..., index])


def _slice(program: Program, op: Op, a: list[Range]) -> Range:
    start = int(op.attrs["start"] or 0)
    part = slice(start, start + op.out.axes[-1].size)
    return Range(a[0].lo[..., part], a[0].hi[..., part])


def _segment_sum(program: Program, op: Op, a: list[Range]) -> Range:
    ends = [np.zeros(op.out.shape), np.zeros(op.out.shape)] if len(a) < 3 else [a[2].lo.copy(), a[2].hi.copy()]
    np.add.at(ends[0], _index(program, op.args[1]), a[0].lo)
    np.add.at(ends[1], _index(program, op.args[1]), a[0].hi)
    return Range(ends[0], ends[1])


def _matmul(program: Program, op: Op, a: list[Range]) -> Range:
    product = _product(a[0], a[1])
    base = a[2] if len(a) > 2 else Range(np.zeros(op.out.shape), np.zeros(op.out.shape))
    return Range(base.lo + product.lo.sum(-1), base.hi + product.hi.sum(-1))


def _clamp(program: Program, op: Op, a: list[Range]) -> Range:
    lo, hi = (_limit(program, op.attrs[end]) for end in ("lo", "hi"))
    return Range(np.clip(a[0].lo, lo, hi), np.clip(a[0].hi, lo, hi))


def _limit(program: Program, value: object) -> F64:
    if isinstance(value, str):
        return program.constants[value][1].astype(np.float64)
    return np.asarray(value, np.float64)


_RULES: dict[str, Rule] = {
    "add": lambda p, op, a: Range(a[0].lo + a[1].lo, a[0].hi + a[1].hi),
    "sub": lambda p, op, a: Range(a[0].lo - a[1].hi, a[0].hi - a[1].lo),
    "mul": lambda p, op, a: _product(a[0], a[1]),
    "div": _quotient,
    "neg": lambda p, op, a: Range(-a[0].hi, -a[0].lo),
    "min": lambda p, op, a: Range(np.minimum(a[0].lo, a[1].lo), np.minimum(a[0].hi, a[1].hi)),
    "max": lambda p, op, a: Range(np.maximum(a[0].lo, a[1].lo), np.maximum(a[0].hi, a[1].hi)),
    "gt": lambda p, op, a: Range((a[0].lo > a[1].hi).astype(float), (a[0].hi > a[1].lo).astype(float)),
    "relu": _rising(lambda x: np.maximum(x, 0.0)),
    "exp": _rising(np.exp),
    "tanh": _rising(np.tanh),
    "sigmoid": _rising(_sigmoid),
    "mix": lambda p, op, a: hull(a[0], a[1]),
    "gather": _gather,
    "slice": _slice,
    "concat": lambda p, op, a: Range(np.concatenate([x.lo for x in a], -1), np.concatenate([x.hi for x in a], -1)),
    "segment_sum": _segment_sum,
    "matmul": _matmul,
    "clamp": _clamp,
    "conv2d": lambda p, op, a: Range(*windows.conv2d_ends(op, [(r.lo, r.hi) for r in a])),
    "pool": lambda p, op, a: Range(*windows.pool_ends(op, [(r.lo, r.hi) for r in a])),
}
