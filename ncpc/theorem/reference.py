"""A Program of integers as terms: each op of ``ncpc.semantics`` element by element.

Every value gets a name, so that the code's terms are compared with it, and the interval that the range proof found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.formed import MEAN_BITS
from ncpc.ir.program import Op, Program, Repeat, Stmt, Value, values
from ncpc.ir.types import Fixed
from ncpc.ir.windows import windows_of
from ncpc.proofs.ranges import Interval
from ncpc.semantics import fixed, windows
from ncpc.semantics.ops import FLAGS
from ncpc.theorem.spans import ends
from ncpc.theorem.term import FULL, LEAST, MOST, BitTerm, narrow
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.wide import multiples, word

Grid = NDArray[np.object_]
"""An array of terms of a value's shape."""

@dataclass
class Reader:
    """What has been read so far: ``env`` by value, the status word, the reciprocal's seeds and ends of residuals."""

    terms: BitTerms
    program: Program
    proved: Mapping[str, Interval]
    flags: BitTerm
    seeds: int
    residuals: tuple[int, int]
    table: Mapping[str, Value]
    env: dict[str, Grid] = field(default_factory=dict)
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    unfold: int = 0

    def data(self, name: str) -> NDArray[np.int64]:
        """A constant's numbers."""
        return self.program.constants[name][1].astype(np.int64)


@dataclass(frozen=True, eq=False)
class Reference:
    """What a step gives: outputs (n,), states by the name of their input, each (n,), and the status word."""

    y: Grid
    states: Mapping[str, Grid]
    flags: BitTerm


def reference(
    terms: BitTerms, program: Program, proved: Mapping[str, Interval], given: Mapping[str, Grid]
) -> Reference:
    """The Program on ``given``: terms of x, dt and states by the names of their values. Raises Undecided for what is
    not read.
    """
    reader = Reader(terms, program, proved, terms.const(0), terms.table(fixed.SEEDS), _residuals(), values(program),
                    dict(given))
    for name, (value, data) in program.constants.items():
        if isinstance(value.type, Fixed):
            reader.env[name] = _each(lambda c: terms.const(int(c)), data.astype(object))
    _body(reader, program.body)
    after = {state.inp.name: reader.env[state.out].reshape(-1) for state in program.states}
    return Reference(reader.env[program.y.value.name].reshape(-1), after, reader.flags)


def _residuals() -> tuple[int, int]:
    """The ends of a seed's residual, of all leading 16 bits. Raises Undecided where the Newton step would not fit."""
    m = np.arange(1 << 15, 1 << 16)
    seed = fixed.SEEDS[(m >> 8) - 128]
    square = (1 << 31) - m * seed
    residual = square >> 8
    step = seed * residual + (1 << 22)
    for formed in (square, step):
        _require_word(int(formed.min()), int(formed.max()), "the reciprocal")
    return int(residual.min()), int(residual.max())


def _require_word(lo: int, hi: int, what: str) -> None:
    """Terms are words of 32 bits: what the Program means by a number must be one."""
    if lo < LEAST or hi > MOST:
        raise Undecided(f"{what} is formed in 64 bits ({lo}..{hi}), which are not read as terms yet")


def _body(reader: Reader, body: Sequence[Stmt]) -> None:
    for stmt in body:
        if isinstance(stmt, Repeat):
            _repeat(reader, stmt)
        else:
            reader.env[stmt.out.name] = _result(reader, stmt)


def _repeat(reader: Reader, repeat: Repeat) -> None:
    """The unfolds one after another. What is carried is not opened by the sums of the next one."""
    for carried in repeat.carried:
        reader.env[carried.inner.name] = reader.env[carried.init]
    for reader.unfold in range(repeat.count):
        _body(reader, repeat.body)
        new = {carried.inner.name: reader.env[carried.result] for carried in repeat.carried}
        for term in (term for grid in new.values() for term in grid.reshape(-1)):
            term.cut = not term.fixed
        reader.env.update(new)
    for carried in repeat.carried:
        reader.env[carried.out.name] = reader.env[carried.inner.name]


def _result(reader: Reader, op: Op) -> Grid:
    """What an op gives, named and within its proved interval."""
    if op.kind not in READERS:
        raise Undecided(f"op '{op.kind}' of {op.out.name} is not read as terms")
    args = [reader.env[name] for name in op.args if name in reader.env]
    grid = np.broadcast_to(READERS[op.kind](reader, op, args), op.out.shape)
    known = reader.proved.get(op.out.name)
    for place, term in np.ndenumerate(grid):
        span = None if known is None else (int(known.lo[place]), int(known.hi[place]))
        if span is not None:
            _require_word(*span, op.out.name)
        _named(term, f"{op.out.name}{list(place)} unfold {reader.unfold}", span)
    return grid


def _named(term: BitTerm, name: str, span: tuple[int, int] | None = None) -> BitTerm:
    if term.op not in ("const", "var"):
        term.name = term.name or name
        narrow(term, *(span or FULL))
    return term


def _each(function: Callable[..., BitTerm], *grids: Any) -> Grid:
    result: Grid = np.asarray(np.frompyfunc(function, len(grids), 1)(*grids), object)
    return result


def _shifted(terms: BitTerms, x: BitTerm, k: int) -> BitTerm:
    """floor(x / 2**k + 1/2) with an exact sum: in 32 bits where it fits them, else in 64."""
    half = (1 << k) >> 1
    if k < 32 and x.hi + half <= MOST:
        return terms.asr(terms.addc(x, half), k)
    return terms.mulshr(x, terms.const(1), half, k)


# ---------------------------------------------------------------------- elementwise
Read = Callable[[Reader, Op, Sequence[Grid]], Grid]
Make = Callable[..., BitTerm]


def _plain(make: Callable[[BitTerms], Make]) -> Read:
    return lambda reader, op, a: _each(make(reader.terms), *a)


def _with_k(make: Callable[[BitTerms, int], Make]) -> Read:
    return lambda reader, op, a: _each(make(reader.terms, int(op.attrs["k"] or 0)), *a)


def _mulshr(terms: BitTerms, k: int) -> Make:
    return lambda x, y: terms.mulshr(x, y, (1 << k) >> 1, k)


def _greater(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    terms, kind = reader.terms, op.out.type
    assert isinstance(kind, Fixed)
    return _each(lambda x, y: terms.shl(terms.slt(y, x), kind.frac), *a)


def _mix(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    terms, kind = reader.terms, reader.table[op.args[2]].type
    assert isinstance(kind, Fixed)

    def of(x: BitTerm, y: BitTerm, w: BitTerm) -> BitTerm:
        _require_word(y.lo - x.hi, y.hi - x.lo, f"what {op.out.name} lies between")
        return terms.add(x, _mulshr(terms, kind.frac)(terms.sub(y, x), w))

    return _each(of, *a)


def _clamp(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    terms = reader.terms
    lo, hi = (_limit(reader, op.attrs[end]) for end in ("lo", "hi"))
    limited = _each(lambda x, p, q: terms.smin(terms.smax(x, p), q), a[0], lo, hi)
    kind = reader.table[op.args[0]].type
    if isinstance(kind, Fixed) and kind.hi > MOST:  # a word from 2**31 on is a large number, not a negative one
        limited = _each(lambda x, y, q: terms.ite(terms.slt(x, terms.const(0)), q, y), a[0], limited, hi)
    _flag(reader, op, a[0], limited)
    return limited


def _limit(reader: Reader, end: int | float | str | None) -> Any:
    return reader.env[end] if isinstance(end, str) else reader.terms.const(int(end or 0))


def _flag(reader: Reader, op: Op, free: Grid, limited: Grid) -> None:
    """The status bit, where any element was limited."""
    terms, flag = reader.terms, op.attrs["flag"]
    if flag is None:
        return
    pairs = zip(np.broadcast_to(free, limited.shape).reshape(-1), limited.reshape(-1), strict=True)
    raised = terms.negated(terms.both(*(terms.eq(x, y) for x, y in pairs)))
    reader.flags = terms.or_(reader.flags, terms.shl(raised, FLAGS.index(str(flag))))


# ---------------------------------------------------------------------- by position
def _gather(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    taken: Grid = np.take(a[0], reader.data(op.args[1]), axis=-1)
    return taken


def _slice(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    start = int(op.attrs["start"] or 0)
    return a[0][..., start : start + op.out.axes[-1].size]


def _segment_sum(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    terms, size = reader.terms, op.out.axes[-1].size
    start = a[1] if len(op.args) > 2 else np.full(size, terms.const(0), object)
    total = list(np.broadcast_to(start, size))
    for post, x in zip(reader.data(op.args[1]), a[0].reshape(-1), strict=True):
        total[post] = _named(terms.add(total[post], x), f"{op.out.name}[{post}] partial")
    return np.array(total, object)


def _product(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    """matmul and matmulshr: a row's products block by block."""
    terms, inputs = reader.terms, a[0].shape[1]
    block = int(op.attrs["block"] or 1) if op.kind == "matmulshr" else inputs
    k = int(op.attrs["k"] or 0) if op.kind == "matmulshr" else 0
    rows = []
    for row in range(a[0].shape[0]):
        total = a[2][row] if len(a) > 2 else terms.const(0)
        for at in range(0, inputs, block):
            part = _dot(terms, a[0][row, at : at + block], a[1][at : at + block], f"{op.out.name}[{row}] block")
            total = terms.add(total, _shifted(terms, part, k))
        rows.append(total)
    return np.array(rows, object)


def _dot(terms: BitTerms, weights: Grid, x: Grid, name: str) -> BitTerm:
    """A sum of products that 32 bits hold."""
    pairs = [(int(w.par[0]), v) for w, v in zip(weights, x, strict=True)]
    ends = [sorted((w * v.lo, w * v.hi)) for w, v in pairs]
    span = sum(lo for lo, _ in ends), sum(hi for _, hi in ends)
    _require_word(*span, "a sum of products")
    return _named(terms.lin([(v, w) for w, v in pairs]), name, span)


def _conv2d(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    terms, w = reader.terms, windows_of(op.attrs)
    weight, x, bias, shift = reader.data(op.args[0]), a[1], reader.data(op.args[2]), reader.data(op.args[3])
    groups = windows.groups_of(w, weight)
    places = windows.patches(np.arange(1, x.size + 1)[None], w, groups)[0]
    found = np.empty((*places.shape[:2], len(bias)), object)
    source = np.concatenate([[terms.const(0)], x.reshape(-1)])
    for (row, col, f), _ in np.ndenumerate(found):
        taps = source[places[row, col, f * groups // len(bias)]]
        found[row, col, f] = _window(terms, op.out.name, a[0][f], taps, int(bias[f]), int(shift[f]))
    free = _each(lambda v: terms.smax(v, terms.const(0)), found) if op.attrs["relu"] else found
    return _limited_windows(reader, op, windows.flat(free[None], w)[0])


def _window(terms: BitTerms, name: str, weights: Grid, taps: Grid, bias: int, shift: int) -> BitTerm:
    """A window's sum shifted: what 64 bits hold of the sum may be more than a word, but not its part from ``shift``."""
    total = multiples(((x, int(w.par[0])) for w, x in zip(weights, taps, strict=True)), bias)
    lo, hi = total.ends()
    _require_word(lo >> min(shift, 31), hi >> min(shift, 31), f"a window of {name}, shifted")
    part = word(terms, total, shift)
    assert part is not None
    return _named(part, f"{name} window")


def _limited_windows(reader: Reader, op: Op, free: Grid) -> Grid:
    terms, lo, hi = reader.terms, op.attrs["lo"], op.attrs["hi"]
    if lo is None or hi is None:
        return free
    known = reader.proved.get(op.out.name)
    if known is not None:
        _each(partial(_within_limits, (int(lo), int(hi))), free, known.lo.reshape(-1), known.hi.reshape(-1))
    limited = _each(lambda v: terms.smin(terms.smax(v, terms.const(int(lo))), terms.const(int(hi))), free)
    _flag(reader, op, free, limited)
    return limited


def _within_limits(limits: tuple[int, int], free: BitTerm, lo: int, hi: int) -> BitTerm:
    """What is limited lies where the result is proved to lie, wherever that is within a limit."""
    narrow(free, int(lo) if lo > limits[0] else LEAST, int(hi) if hi < limits[1] else MOST)
    return free


def _pool(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    """Of each window the largest, or the mean, as of what lies in the frame."""
    terms, w, x = reader.terms, windows_of(op.attrs), a[0].reshape(-1)
    places = np.stack(list(windows.taps(np.arange(1, x.size + 1)[None], w)), axis=-1)[0]
    factors = None
    if op.attrs["function"] != "max":
        factors = windows.mean_factor(windows.elements(w, str(op.attrs["function"])))
    found = np.empty(places.shape[:3], object)
    for (row, col, c), _ in np.ndenumerate(found):
        inside = [x[at - 1] for at in places[row, col, c] if at > 0]
        found[row, col, c] = (_largest(terms, inside) if factors is None
                              else _mean(terms, inside, int(factors[row, col])))
    means: Grid = windows.flat(found[None], w)[0]
    return means


def _largest(terms: BitTerms, inside: Sequence[BitTerm]) -> BitTerm:
    best = inside[0]
    for one in inside[1:]:
        best = terms.smax(best, one)
    return best


def _mean(terms: BitTerms, inside: Sequence[BitTerm], factor: int) -> BitTerm:
    total = _named(terms.lin([(one, 1) for one in inside]), "sum of a window")
    return _mulshr(terms, MEAN_BITS)(total, terms.const(factor))


# ---------------------------------------------------------------------- functions
def _lut(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    terms, k, name = reader.terms, int(op.attrs["k"] or 0), op.args[1]
    table = reader.data(name)
    if name not in reader.tables:
        reader.tables[name] = terms.table(table), terms.table(np.diff(table))
    entries, slopes = reader.tables[name]
    top, mask = terms.const(((len(table) - 1) << k) - 1), terms.const((1 << k) - 1)

    def at(x: BitTerm) -> BitTerm:
        inside = _named(terms.smin(terms.smax(x, terms.const(0)), top), "inside the table")
        index, part = _named(terms.asr(inside, k), "index"), _named(terms.and_(inside, mask), "part of an interval")
        base, slope = _named(terms.tab(entries, index), "entry"), _named(terms.tab(slopes, index), "slope")
        _require_word(*ends(slope, part), "a rise within a table")
        rise = _named(_shifted(terms, _named(terms.mul(slope, part), "run"), k), "rise")
        return terms.add(base, rise)

    return _each(at, a[0])


def _inverse(reader: Reader, op: Op, a: Sequence[Grid]) -> Grid:
    """``fixed.inverse``: 2**31 / m by a seed and one Newton step, m being the leading 16 bits.

    Sums do not open the divisor: that it has no more leading zeros than it has is known of itself alone.
    """
    terms, k = reader.terms, int(op.attrs["k"] or 0)

    def of(x: BitTerm) -> BitTerm:
        x.cut = not x.fixed
        zeros = _named(terms.clz(x), "leading zeros")
        normal = _named(terms.norm(x), "normalized divisor")
        m = _named(terms.srl(normal, 16), "leading 16 bits")
        index = _named(terms.addc(_named(terms.srl(normal, 24), "leading 8 bits"), -128), "index of the seed")
        seed = _named(terms.tab(reader.seeds, index), "seed")
        square = terms.sub(terms.const(1 << 31), terms.mul(m, seed))
        residual = _named(terms.asr(square, 8), "residual", reader.residuals)
        step = terms.asr(terms.addc(terms.mul(seed, residual), 1 << 22), 23)
        amount = terms.addc(zeros, k - 1)
        if amount.lo < 0 or amount.hi > 31:
            raise Undecided(f"{op.out.name} shifts a reciprocal by {amount.lo}..{amount.hi}")
        return terms.shift("sllv", _named(terms.add(seed, step), "reciprocal"), amount)

    return _each(of, a[0])


READERS: dict[str, Read] = {
    "add": _plain(lambda t: t.add),
    "sub": _plain(lambda t: t.sub),
    "mul": _plain(lambda t: t.mul),
    "neg": _plain(lambda t: lambda x: t.lin([(x, -1)])),
    "min": _plain(lambda t: t.smin),
    "max": _plain(lambda t: t.smax),
    "relu": _plain(lambda t: lambda x: t.smax(x, t.const(0))),
    "cast": _plain(lambda t: lambda x: x),
    "gt": _greater,
    "clamp": _clamp,
    "gather": _gather,
    "slice": _slice,
    "concat": lambda reader, op, a: np.concatenate(list(a), axis=-1),
    "segment_sum": _segment_sum,
    "matmul": _product,
    "matmulshr": _product,
    "mix": _mix,
    "shr": _with_k(lambda t, k: lambda x: _shifted(t, x, k)),
    "shr_full": _with_k(lambda t, k: lambda x: _shifted(t, x, k)),
    "asr": _with_k(lambda t, k: lambda x: t.asr(x, min(31, k))),
    "shl": _with_k(lambda t, k: lambda x: t.lin([(x, 1 << k)])),
    "mulshr": _with_k(_mulshr),
    "lut": _lut,
    "inverse": _inverse,
    "conv2d": _conv2d,
    "pool": _pool,
}
"""By the kind of op: its result from the terms of its arguments (those that are numbers, not positions)."""
