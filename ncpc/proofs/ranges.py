"""No overflow: the interval of every value of an integer program, element by element, in exact integers.

Inputs are anything their storage holds, states anything in their box. Every op's result, every partial sum and every
intermediate of the emitted arithmetic must fit; a carried state must come back into its box. What plain intervals
cannot see (the LTC update pulls its state towards a weighted mean) comes as lemmas from ``ncpc.proofs.invariance``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.cwords import Term, Word, arg
from ncpc.ir.formed import INVERSE, TOTAL, Sum, block_sum, plain_sum, product_sum
from ncpc.ir.program import Attr, Op, Program, Repeat, Stmt, Value, values
from ncpc.ir.quantized import I64
from ncpc.ir.types import Fixed
from ncpc.proofs import division, windows
from ncpc.semantics import fixed
from ncpc.semantics.formed import Intervals, TermRange, elementwise, interpolated, misfit


@dataclass(frozen=True, eq=False)
class Interval:
    """Elementwise raw bounds, int64 arrays of the value's shape."""

    lo: I64
    hi: I64


Lemmas = Mapping[str, Interval]


@dataclass
class Analysis:
    """The program under analysis and the intervals found so far."""

    program: Program
    table: Mapping[str, Value]
    lemmas: Lemmas
    found: dict[str, Interval] = field(default_factory=dict)
    formed: dict[str, list[TermRange]] = field(default_factory=dict)
    """By the op's result: every integer that C forms for it, with its interval."""
    crowded: set[str] = field(default_factory=set)
    """Shifts whose argument leaves no room for the rounding half."""


class CrowdedError(ProofFailed):
    """Nothing overflows but the rounding half of ``shifts``, each of which has a form that needs no room."""

    def __init__(self, shifts: Set[str]) -> None:
        super().__init__(f"{', '.join(sorted(shifts))}: no room for the rounding half: the range proof does not close")
        self.shifts = shifts


def analyse(program: Program, lemmas: Lemmas) -> dict[str, Interval]:
    """The interval of every value; raises ``ProofFailed`` naming op and element where one may leave its type."""
    return analysis_of(program, lemmas).found


def analysis_of(program: Program, lemmas: Lemmas) -> Analysis:
    """The interval of every value and of all that C forms on the way to it.

    Raises ``ProofFailed`` naming op and element where one may leave its type.
    """
    analysis = Analysis(program, values(program), lemmas)
    for value, data in program.constants.values():
        if isinstance(value.type, Fixed):
            exact = data.astype(np.int64)
            analysis.found[value.name] = Interval(exact, exact)
    for port in filter(None, (program.x, program.dt)):
        analysis.found[port.value.name] = _storage(port.value)
    for state in program.states:
        if state.box is None:
            raise ProofFailed(f"state {state.inp.name}: no range is known, so no overflow proof is possible")
        analysis.found[state.inp.name] = _box(state.box.astype(np.int64), state.inp.shape)
    _body(analysis, program.body)
    for state in program.states:
        _inside(analysis, state.out, analysis.found[state.inp.name])
    if analysis.crowded:
        raise CrowdedError(analysis.crowded)
    return analysis


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
    return next((_elementwise(a, op, [_storage(op.out)]) for op in clamps), a.found[name])


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
    args = [a.found[name] for name in op.args if name in a.found]
    a.formed[op.out.name] = []
    if 0 in op.out.shape:  # the synapses of a cell that has none: nothing is formed, whatever the format of nothing
        return Interval(np.zeros(op.out.shape, np.int64), np.zeros(op.out.shape, np.int64))
    if op.kind in _SPECIAL:
        return _checked(a, op, _SPECIAL[op.kind](a, op, args))
    return _checked(a, op, _elementwise(a, op, args))


def _elementwise(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """The expression that C forms, node by node; of its result a lemma may say more than intervals can."""
    limits = [_limit(a, op.attrs[end]) for end in ("lo", "hi")] if op.kind == "clamp" else []
    whole = elementwise(op, [a.table[name].type for name in op.args], {n: v.type for n, v in a.table.items()})
    if whole is None:
        raise ProofFailed(f"{op.out.name} = {op.kind}: not proved, as this op has no integer form")
    known = {str(i): (r.lo, r.hi) for i, r in enumerate([*args, *limits])}
    lemma = _lemma(a, op, args)
    lo, hi = _nodes(a, op, Intervals(known, {} if lemma is None else {id(whole): (lemma.lo, lemma.hi)}), whole)
    return Interval(np.broadcast_to(lo, op.out.shape), np.broadcast_to(hi, op.out.shape))


def _nodes(a: Analysis, op: Op, ends: Intervals, whole: Term) -> tuple[I64, I64]:
    """The ends of an expression; a shift that only lacks room for its half is noted, everything else refused."""
    result = ends.of(whole)
    a.formed[op.out.name] += ends.nodes
    for node in ends.nodes:
        if node.fits or node.term is whole:
            continue
        if op.kind == "shr" and node.term.kind == "+":
            a.crowded.add(op.out.name)
            continue
        raise ProofFailed(f"{_worst(a, op, node)}: the range proof does not close")
    return result


def _worst(a: Analysis, op: Op, node: TermRange) -> str:
    lo, hi = (end.reshape(-1) for end in np.broadcast_arrays(node.lo, node.hi))
    index = int(np.argmax(np.maximum(hi.astype(np.float64), -lo.astype(np.float64))))
    element = f"[{_element(a, op.out, index)}]" if lo.size == int(np.prod(op.out.shape)) else ""
    found = f"{int(lo[index])}..{int(hi[index])}"
    return f"{op.out.name}{element} = {op.kind} forms {found} in C, outside {node.term.word.name}"


def _limit(a: Analysis, value: Attr) -> Interval:
    """A clamp's limit: a constant or a number."""
    if isinstance(value, str):
        return a.found[value]
    number = np.asarray(value or 0, np.int64)
    return Interval(number, number)


def _lemma(a: Analysis, op: Op, args: list[Interval]) -> Interval | None:
    """What is known of a result beyond the intervals of its operands."""
    if op.out.name in a.lemmas:
        return a.lemmas[op.out.name]
    if op.kind == "shr_full":  # the bit that rounds is one of the same number
        return Interval(*(fixed.shr(end, int(op.attrs["k"] or 0)) for end in (args[0].lo, args[0].hi)))
    return _mix(a, op, args) if op.kind == "mix" else None


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
    post = a.program.constants[op.args[1]][1].astype(np.int64)
    ends = []
    for part in (args[0].lo, args[0].hi, np.minimum(args[0].lo, 0), np.maximum(args[0].hi, 0)):
        total = np.zeros(op.out.shape, np.int64)
        np.add.at(total, post, part)
        ends.append(total)
    start = _start(op, args[1:])
    _partial(a, op, plain_sum().word, Interval(start.lo + ends[2], start.hi + ends[3]))
    return Interval(start.lo + ends[0], start.hi + ends[1])


def _start(op: Op, given: list[Interval]) -> Interval:
    """The value a sum begins with."""
    zero = np.zeros(op.out.shape, np.int64)
    return given[0] if given else Interval(zero, zero)


def _partial(a: Analysis, op: Op, word: Word, got: Interval) -> None:
    """Whatever the order of the terms, a partial sum lies between that of the negative ones and of the positive."""
    node = TermRange(arg(TOTAL, word), got.lo, got.hi, not misfit(arg(TOTAL, word), got.lo, got.hi))
    a.formed[op.out.name].append(node)
    if not node.fits:
        raise ProofFailed(f"{_worst(a, op, node)}: the range proof does not close")


def _terms(a: Analysis, op: Op, found: Sum, weight: I64, x: Interval) -> tuple[I64, I64]:
    """The ends of every product that is added up."""
    return _nodes(a, op, Intervals({"w": (weight, weight), "x": (x.lo, x.hi)}), found.each)


def _matmul(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    found, start = product_sum(), _start(op, args[2:])
    low, high = _terms(a, op, found, args[0].lo, args[1])
    _partial(a, op, found.word, Interval(start.lo + np.minimum(low, 0).sum(-1), start.hi + np.maximum(high, 0).sum(-1)))
    return Interval(start.lo + low.sum(-1), start.hi + high.sum(-1))


def _matmulshr(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """The sum within a block must fit from its start, half a unit of the shift, on; then those of the blocks."""
    k, block = int(op.attrs["k"] or 0), int(op.attrs["block"] or 1)
    found, outer, start = block_sum(k), product_sum().word, _start(op, args[2:])
    low, high = _terms(a, op, found, args[0].lo, args[1])
    starts, half = np.arange(0, low.shape[1], block), found.start or 0
    if half > found.word.hi:
        raise ProofFailed(f"{op.out.name} = matmulshr: a shift by {k} leaves nothing: the range proof does not close")
    least, most = (np.add.reduceat(end, starts, axis=1) for end in (np.minimum(low, 0), np.maximum(high, 0)))
    _partial(a, op, found.word, Interval(half + least.min(axis=1), half + most.max(axis=1)))
    totals = [half + np.add.reduceat(end, starts, axis=1) for end in (low, high)]
    assert found.after is not None
    lo, hi = _nodes(a, op, Intervals({TOTAL: (totals[0], totals[1])}), found.after)
    _partial(a, op, outer, Interval(start.lo + np.minimum(lo, 0).sum(-1), start.hi + np.maximum(hi, 0).sum(-1)))
    return Interval(start.lo + lo.sum(-1), start.hi + hi.sum(-1))


def _mix(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    """Between the first two arguments, given that the third lies in [0, 1]."""
    kind = a.table[op.args[2]].type
    assert isinstance(kind, Fixed)
    if args[2].lo.min() < 0 or args[2].hi.max() > 1 << kind.frac:
        raise ProofFailed(f"{op.out.name} = mix: its weight may leave [0, 1]: the range proof does not close")
    return Interval(np.minimum(args[0].lo, args[1].lo), np.maximum(args[0].hi, args[1].hi))


def _lut(a: Analysis, op: Op, args: list[Interval]) -> Interval:
    table, k = a.program.constants[op.args[1]][1].astype(np.int64), int(op.attrs["k"] or 0)
    read = interpolated(table, k)
    a.formed[op.out.name] += read.nodes
    if not all(node.fits for node in read.nodes):
        raise ProofFailed(f"{op.out.name} = lut: between two entries of {op.args[1]} its sum may leave 32 bits")
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
    top = Fraction(2) ** (46 + k)
    least = [floor(top * (1 - division.shortfall()) / int(d)) for d in args[0].hi.reshape(-1)]
    most = [ceil(top * (1 + division.excess()) / int(d)) for d in args[0].lo.reshape(-1)]
    got = Interval(np.array(least, np.int64).reshape(op.out.shape), np.array(most, np.int64).reshape(op.out.shape))
    _reciprocal(a, op, args[0], got)
    return got


def _reciprocal(a: Analysis, op: Op, divisor: Interval, got: Interval) -> None:
    """The nodes of a normalized divisor, all enumerated, then the last shift, whose result is known."""
    a.formed[op.out.name] += division.formed()
    k, r = np.asarray(int(op.attrs["k"] or 0)), division.reciprocals()
    zeros = tuple(fixed.norm(end) + 1 for end in (divisor.hi, divisor.lo))
    if int(zeros[0].min(initial=31)) - 1 + int(k) < 0:
        kind = a.table[op.args[0]].type
        ends = " to ".join(f"{int(end) * 2.0 ** -kind.frac if isinstance(kind, Fixed) else int(end):g}"
                           for end in (divisor.lo.min(), divisor.hi.max()))
        raise ProofFailed(f"{op.out.name} = inverse: its divisor {op.args[0]} goes from {ends}, so far that a "
                          "shift can fall below 0; narrow it (of dt: save the policy with dt=), or use --quant float32")
    shift = INVERSE.result.args[0]
    known = {"zeros": (zeros[0], zeros[1]), "k": (k, k), "r": r}
    lemma = {id(node): (got.lo, got.hi) for node in (shift, INVERSE.result)}
    _nodes(a, op, Intervals(known, lemma), INVERSE.result)


def _windows(ends: Callable[[Op, list[windows.Ends], Fixed], windows.Found]) -> Callable[..., Interval]:
    """Convolution and pooling: their totals, then their results."""
    def found(a: Analysis, op: Op, args: list[Interval]) -> Interval:
        frame = next(a.table[name].type for name in op.args if name not in a.program.constants)
        assert isinstance(frame, Fixed)
        lo, hi, nodes = ends(op, [(r.lo, r.hi) for r in args], frame)
        a.formed[op.out.name] += nodes
        return Interval(lo, hi)

    return found


_SPECIAL: dict[str, Callable[[Analysis, Op, list[Interval]], Interval]] = {
    "gather": _gather,
    "slice": _slice,
    "concat": _concat,
    "segment_sum": _segment_sum,
    "matmul": _matmul,
    "matmulshr": _matmulshr,
    "lut": _lut,
    "inverse": _inverse,
    "conv2d": _windows(windows.conv2d_ends),
    "pool": _windows(windows.pool_ends),
}
