"""Every op against its definition in plain Python: in integers, binary32 and float64; and the proof's intervals.

The definitions here work on lists of Python numbers, element by element and in the order the op table states. An
interval of the proof must contain what any point of the arguments' box gives, and both its ends must be met.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from ncpc.errors import ProofFailed
from ncpc.ir.build import Builder
from ncpc.ir.ops import OPS
from ncpc.ir.program import Attr, Port, Program, State, Value
from ncpc.ir.types import Axis, Fixed, Float32, Index, Real, Type
from ncpc.ir.windows import Windows
from ncpc.proofs.ranges import analyse
from ncpc.semantics.run import Executor

INT = Fixed(32, 0)
KINDS: dict[str, Type] = {"int": INT, "binary32": Float32(), "real": Real()}
NUMBER: dict[str, Callable[[float], Any]] = {"int": int, "binary32": np.float32, "real": float}


@dataclass(frozen=True)
class Case:
    """One op: sizes of its arguments (None: one number), which are constants, the result's size."""

    kind: str
    sizes: tuple[int | None, ...]
    out: int | None
    attrs: dict[str, Attr] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)
    low: float = -40
    high: float = 40
    fracs: tuple[int, ...] = ()
    result: Type | None = None
    kinds: tuple[str, ...] = ("int", "binary32", "real")


def floor_half(a: int, k: int) -> int:
    """floor(a / 2**k + 1/2)."""
    return (2 * a + (1 << k)) // (2 << k)


def in_order(start: Any, terms: Sequence[Any]) -> Any:
    for term in terms:
        start = start + term
    return start


def segment_sum(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    post = case.constants[1].tolist()
    start = a[2] if len(a) > 2 else [zero] * int(case.out or 0)
    parts = [[x for x, p in zip(a[0], post, strict=True) if p == i] for i in range(len(start))]
    return [in_order(s, part) for s, part in zip(start, parts, strict=True)]


def matmul(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    columns, start = len(a[1]), a[2] if len(a) > 2 else [zero] * int(case.out or 0)
    rows = [a[0][i * columns : (i + 1) * columns] for i in range(int(case.out or 0))]
    return [in_order(s, [w * x for w, x in zip(row, a[1], strict=True)]) for s, row in zip(start, rows, strict=True)]


def matmulshr(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    columns, block, k = len(a[1]), int(case.attrs["block"] or 1), int(case.attrs["k"] or 0)
    totals = []
    for i in range(int(case.out or 0)):
        products = [a[0][i * columns + j] * a[1][j] for j in range(columns)]
        parts = [floor_half(sum(products[at : at + block]), k) for at in range(0, columns, block)]
        totals.append((a[2][i] if len(a) > 2 else 0) + sum(parts))
    return totals


def lut(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    table, k = a[1], int(case.attrs["k"] or 0)
    limit = ((len(table) - 1) << k) - 1
    return [_interpolated(table, min(max(x, 0), limit), k) for x in a[0]]


def _interpolated(table: list[int], t: int, k: int) -> int:
    i, f = t >> k, t % (1 << k)
    return table[i] + floor_half((table[i + 1] - table[i]) * f, k)


def clamp(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    ends = [_limits(case, end, len(a[0])) for end in ("lo", "hi")]
    return [min(max(x, type(zero)(lo)), type(zero)(hi)) for x, lo, hi in zip(a[0], *ends, strict=True)]


def _limits(case: Case, end: str, size: int) -> list[Any]:
    return [case.attrs[end]] * size


def windows_in(case: Case) -> tuple[Windows, Callable[[int, int, int], int | None]]:
    """The windows, and where (row, column, channel) stands in a flat frame: None beyond it."""
    w = Windows(**{n: case.attrs[n] for n in Windows.__dataclass_fields__})  # type: ignore[arg-type]

    def at(row: int, column: int, channel: int) -> int | None:
        if not (0 <= row < w.height and 0 <= column < w.width):
            return None
        if w.layout == "hwc":
            return (row * w.width + column) * w.channels + channel
        return (channel * w.height + row) * w.width + column

    return w, at


def over_windows(w: Windows, filters: int, element: Callable[[int, int, int], Any]) -> list[Any]:
    """element(row, column, filter) in the layout's order."""
    places = [range(w.rows), range(w.cols), range(filters)]
    if w.layout == "hwc":
        return [element(r, c, f) for r, c, f in itertools.product(*places)]
    return [element(r, c, f) for f, r, c in itertools.product(places[2], places[0], places[1])]


def taps_of(w: Windows, r: int, c: int, channels: range) -> list[tuple[int, int, int]]:
    """Row, column and channel of each tap of window (r, c), in the order of the weights."""
    down = [r * w.stride_h - w.top + i * w.dilation_h for i in range(w.kernel_h)]
    across = [c * w.stride_w - w.left + j * w.dilation_w for j in range(w.kernel_w)]
    if w.layout == "hwc":
        return list(itertools.product(down, across, channels))
    return [(i, j, ch) for ch, i, j in itertools.product(channels, down, across)]


def conv2d(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    w, at = windows_in(case)
    filters, taps = len(a[2]), len(a[0]) // len(a[2])
    groups = w.channels * w.kernel_h * w.kernel_w // taps

    def element(r: int, c: int, f: int) -> Any:
        size, group = w.channels // groups, f * groups // filters
        places = [at(*tap) for tap in taps_of(w, r, c, range(group * size, (group + 1) * size))]
        weights = a[0][f * taps : (f + 1) * taps]
        terms = [x * q for x, q in zip((zero if p is None else a[1][p] for p in places), weights, strict=True)]
        y = in_order(a[2][f], terms)
        y = y >> a[3][f] if len(a) > 3 else y
        y = zero if case.attrs["relu"] and y < 0 else y
        lo, hi = case.attrs["lo"], case.attrs["hi"]
        return y if lo is None or hi is None else min(max(y, lo), hi)  # type: ignore[call-overload]

    return over_windows(w, filters, element)


def pool(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
    w, at = windows_in(case)
    function = case.attrs["function"]

    def element(r: int, c: int, f: int) -> Any:
        places = [at(*tap) for tap in taps_of(w, r, c, range(f, f + 1))]
        inside = [a[0][p] for p in places if p is not None]
        if function == "max":
            return max(inside)
        n = len(places) if function == "avg" else len(inside)
        total = in_order(zero, [zero if p is None else a[0][p] for p in places])
        return mean(total, n, zero)

    return over_windows(w, w.channels, element)


def mean(total: Any, n: int, zero: Any) -> Any:
    if isinstance(zero, int):
        return floor_half(total * ((2**25 + n) // (2 * n)), 24)
    return total * type(zero)(1.0 / n)


def each(function: Callable[..., Any]) -> Callable[[Case, list[list[Any]], Any], list[Any]]:
    """An elementwise op; an argument of one number meets every element."""

    def meaning(case: Case, a: list[list[Any]], zero: Any) -> list[Any]:
        size = max(len(x) for x in a)
        return [function(case, *(x[i if len(x) > 1 else 0] for x in a)) for i in range(size)]

    return meaning


def shift(case: Case) -> int:
    return int(case.attrs["k"] or 0)


MEANING: dict[str, Callable[[Case, list[list[Any]], Any], list[Any]]] = {
    "add": each(lambda case, a, b: a + b),
    "sub": each(lambda case, a, b: a - b),
    "mul": each(lambda case, a, b: a * b),
    "div": each(lambda case, a, b: a / b),
    "neg": each(lambda case, a: -a),
    "min": each(lambda case, a, b: min(a, b)),
    "max": each(lambda case, a, b: max(a, b)),
    "gt": each(lambda case, a, b: type(a)((a > b) << (case.result.frac if isinstance(case.result, Fixed) else 0))),
    "relu": each(lambda case, a: a if a > 0 else type(a)(0)),
    "cast": each(lambda case, a: a),
    "sqrt": each(lambda case, a: np.sqrt(max(a, type(a)(0)))),
    "shr": each(lambda case, a: floor_half(a, shift(case))),
    "shr_full": each(lambda case, a: floor_half(a, shift(case))),
    "asr": each(lambda case, a: a // (1 << shift(case))),
    "shl": each(lambda case, a: a * (1 << shift(case))),
    "mulshr": each(lambda case, a, b: floor_half(a * b, shift(case))),
    "mix": each(lambda case, a, b, t: a + (floor_half((b - a) * t, case.fracs[2]) if case.fracs else t * (b - a))),
    "clamp": clamp,
    "gather": lambda case, a, zero: [a[0][i] for i in case.constants[1].tolist()],
    "slice": lambda case, a, zero: a[0][int(case.attrs["start"] or 0) :][: int(case.out or 0)],
    "concat": lambda case, a, zero: [x for part in a for x in part],
    "segment_sum": segment_sum, "matmul": matmul, "matmulshr": matmulshr, "lut": lut, "conv2d": conv2d, "pool": pool,
}
ELSEWHERE = {"exp", "sigmoid", "tanh", "guard", "inverse"}
"""Accuracy in test_semantics.py and test_invariance.py; bit for bit against C in test_c_code.py."""


def window(**changes: Any) -> dict[str, Attr]:
    plain: dict[str, Any] = {"height": 4, "width": 3, "channels": 2, "kernel_h": 2, "kernel_w": 2, "stride_h": 1,
                             "stride_w": 1, "top": 0, "left": 0, "rows": 3, "cols": 2, "layout": "hwc",
                             "dilation_h": 1, "dilation_w": 1}
    return {**plain, **changes}


PADDED = {"stride_h": 2, "top": 1, "left": 1, "rows": 3, "cols": 4}
DILATED = {"dilation_h": 2, "dilation_w": 2, "rows": 2, "cols": 1, "layout": "chw"}
PLAIN: dict[str, Attr] = {"relu": 0, "lo": None, "hi": None, "flag": None}


def conv(name: str, changes: dict[str, Any], groups: int = 1, **attrs: Attr) -> dict[str, Case]:
    """A convolution of 4 filters in floating point, and in integers with shifts of their own."""
    w, rng, taps = window(**changes), np.random.default_rng(3), 8 // groups
    out, both = 4 * int(w["rows"] or 0) * int(w["cols"] or 0), {**w, **PLAIN, **attrs}
    real = {0: rng.normal(size=(4, taps)).astype(np.float32), 2: rng.normal(size=4).astype(np.float32)}
    whole = {0: rng.integers(-5, 6, (4, taps)), 2: rng.integers(-40, 41, 4), 3: np.array([0, 1, 2, 3])}
    return {f"{name}, floating": Case("conv2d", (4 * taps, 24, 4), out, both, real, kinds=("binary32", "real")),
            f"{name}, integers": Case("conv2d", (4 * taps, 24, 4, 4), out, both, whole, kinds=("int",))}


POOLS = {
    "max": window(function="max"), "max, padded": window(**PADDED, function="max"), "mean": window(function="avg"),
    "mean, padded": window(**PADDED, layout="chw", function="avg"),
    "mean inside, padded": window(**PADDED, function="avg_inside"),
}
TABLE = np.array([-9, -4, -4, 3, 30])
CASES: dict[str, Case] = {
    **{kind: Case(kind, (3, 3), 3) for kind in ("add", "sub", "mul", "min", "max")},
    **{f"{kind}, one number": Case(kind, (3, None), 3) for kind in ("add", "sub", "mul")},
    **{kind: Case(kind, (3,), 3) for kind in ("neg", "relu", "cast")},
    "div": Case("div", (3, 3), 3, kinds=("binary32", "real")),
    "sqrt": Case("sqrt", (5,), 5, kinds=("binary32", "real")),
    "gt": Case("gt", (5, 5), 5, low=-2, high=2),
    "gt, with a fraction": Case("gt", (5, 5), 5, low=-2, high=2, result=Fixed(32, 3), kinds=("int",)),
    "clamp": Case("clamp", (4,), 4, {"lo": -7, "hi": 9, "flag": None}),
    **{f"{kind} by {k}": Case(kind, (3,), 3, {"k": k}, kinds=("int",))
       for kind in ("shr", "asr", "shl") for k in (0, 1, 3)},
    **{f"shr_full by {k}": Case("shr_full", (3,), 3, {"k": k}, kinds=("int",)) for k in (1, 3)},
    "mulshr": Case("mulshr", (3, 3), 3, {"k": 4}, kinds=("int",)),
    "mix": Case("mix", (3, 3, 3), 3, low=0, high=1, kinds=("binary32", "real")),
    "mix, integers": Case("mix", (3, 3, 3), 3, low=0, high=8, fracs=(0, 0, 3), kinds=("int",)),
    "gather": Case("gather", (3, 5), 5, constants={1: np.array([2, 0, 0, 1, 2])}),
    "slice": Case("slice", (5,), 2, {"start": 2}),
    "concat": Case("concat", (2, 3), 5),
    "segment_sum": Case("segment_sum", (6, 6), 4, constants={1: np.array([0, 0, 1, 1, 1, 3])}),
    "segment_sum, from a start": Case("segment_sum", (6, 6, 4), 4, constants={1: np.array([0, 0, 1, 1, 1, 3])}),
    "matmul": Case("matmul", (6, 3), 2, constants={0: np.array([[1, -2, 3], [-4, 5, 6]])}),
    "matmul, from a start": Case("matmul", (6, 3, 2), 2, constants={0: np.array([[1, -2, 3], [-4, 5, 6]])}),
    "matmulshr": Case("matmulshr", (10, 5, 2), 2, {"k": 2, "block": 2},
                      {0: np.array([[1, -2, 3, 7, 9], [-4, 5, 6, 1, -8]])}, kinds=("int",)),
    "lut": Case("lut", (4, 5), 4, {"k": 3}, {1: TABLE}, kinds=("int",)),
    **conv("convolution", {}), **conv("convolution, padded", PADDED, relu=1),
    **conv("convolution, dilated", DILATED), **conv("convolution in groups", {"layout": "chw", "rows": 3}, 2),
    **conv("convolution in groups, rows first", {}, 2, lo=-20, hi=11),
    **{f"pool, {name}": Case("pool", (24,), 2 * int(attrs["rows"] or 0) * int(attrs["cols"] or 0), attrs)
       for name, attrs in POOLS.items()},
}


def program_of(case: Case, kind: Type, boxes: dict[int, np.ndarray] | None = None) -> tuple[Program, list[Value]]:
    """A program of the one op; its arguments are constants or states that keep their value."""
    b = Builder(kind)
    arguments = [_argument(b, case, i, kind) for i in range(len(case.sizes))]
    axes = [] if case.out is None else [Axis("y", case.out)]
    result = case.result if isinstance(kind, Fixed) else None
    y = b.op(case.kind, "y", *arguments, axes=axes, type_=result, **case.attrs)
    x = b.value("x", [Axis("inputs", 1)])
    free = [(i, v) for i, v in enumerate(arguments) if i not in case.constants]
    states = tuple(State(v, v.name, np.zeros(v.shape), None if boxes is None else boxes[i]) for i, v in free)
    fracs = (0,) if isinstance(kind, Fixed) else None
    ports = [Port(v, ("n",) * n, fracs and fracs * n, np.zeros((n, 2))) for v, n in ((x, 1), (y, case.out or 1))]
    return Program("one", ports[0], ports[1], None, states, b.constants, b.body), [v for _, v in free]


def _argument(b: Builder, case: Case, i: int, kind: Type) -> Value:
    size, name = case.sizes[i], f"a{i}"
    if i not in case.constants:
        frac = case.fracs[i] if case.fracs else 0
        axes = [] if size is None else [Axis(name, size)]
        return b.value(name, axes, Fixed(32, frac) if isinstance(kind, Fixed) else kind)
    data = np.asarray(case.constants[i])
    index = case.kind in ("gather", "segment_sum") and i == 1
    axes = [Axis(f"{name}_{j}", n) for j, n in enumerate(data.shape)]
    return b.const(name, data, axes, Index("y") if index else kind)


def drawn(case: Case, rng: np.random.Generator, number: Callable[[float], Any], batch: int) -> list[list[list[Any]]]:
    """Per batch row, the arguments as lists of numbers; constants as they are."""
    rows = []
    for _ in range(batch):
        row = []
        for i, size in enumerate(case.sizes):
            if i in case.constants:
                row.append([number(v) for v in np.asarray(case.constants[i]).reshape(-1).tolist()])
            else:
                values = rng.uniform(case.low, case.high + 0.999, size or 1)
                row.append([number(np.floor(v)) if number is int else number(v) for v in values])
        rows.append(row)
    return rows


def computed(case: Case, kind: Type, rows: list[list[list[Any]]]) -> np.ndarray:
    """What the semantics make of the rows, (B, out)."""
    program, free = program_of(case, kind)
    machine = Executor(program)
    where = [i for i in range(len(case.sizes)) if i not in case.constants]
    dtype = np.int64 if isinstance(kind, Fixed) else np.float32 if isinstance(kind, Float32) else np.float64
    machine.load({v.name: np.array([row[i] for row in rows], dtype).reshape(len(rows), *v.shape)
                  for i, v in zip(where, free, strict=True)})
    return machine.step(np.zeros((len(rows), 1), dtype))[0]


PAIRS = [(name, kind) for name, case in CASES.items() for kind in case.kinds]


def test_every_op_is_here_or_elsewhere() -> None:
    assert {case.kind for case in CASES.values()} | ELSEWHERE == set(OPS)
    assert set(MEANING) | ELSEWHERE == set(OPS)


@pytest.mark.parametrize(("name", "kind"), PAIRS, ids=[f"{n}-{k}" for n, k in PAIRS])
def test_an_op_means_what_its_row_says(name: str, kind: str) -> None:
    case, number = CASES[name], NUMBER[kind]
    rows = drawn(case, np.random.default_rng(1), number, 12)
    want = [MEANING[case.kind](case, row, number(0)) for row in rows]
    got = computed(case, KINDS[kind], rows)
    assert got.dtype == (np.int64 if kind == "int" else np.float32 if kind == "binary32" else np.float64)
    if kind == "real" and case.kind in ("matmul", "conv2d", "segment_sum", "pool"):  # summed in NumPy's order
        np.testing.assert_allclose(got, np.array(want, np.float64), rtol=1e-12, atol=1e-12)
    else:
        assert got.tolist() == np.array(want, got.dtype).tolist()


INTEGERS = [name for name, case in CASES.items() if "int" in case.kinds]
LOOSE = {"mix", "mulshr", "mul", "gt"}
"""Intervals of which an end need not be met, or only at some of the corners."""


def corner_rows(case: Case, boxes: dict[int, np.ndarray], rng: np.random.Generator) -> list[list[list[int]]]:
    """Arguments at the ends of their boxes: all low, all high, and many mixtures; and points between."""
    rows = []
    for n in range(220):
        row = []
        for i, size in enumerate(case.sizes):
            if i in case.constants:
                row.append([int(v) for v in np.asarray(case.constants[i]).reshape(-1).tolist()])
                continue
            lo, hi = boxes[i].T
            pick = rng.integers(0, 2, size or 1) if n > 1 else np.full(size or 1, n)
            row.append(np.where(pick, hi, lo).tolist() if n < 180 else rng.integers(lo, hi + 1).tolist())
        rows.append(row)
    return rows


def boxes_of(case: Case, rng: np.random.Generator) -> dict[int, np.ndarray]:
    """A random box of each free argument, (n, 2)."""
    free = [(i, size or 1) for i, size in enumerate(case.sizes) if i not in case.constants]
    return {i: np.sort(rng.integers(int(case.low), int(case.high) + 1, (size, 2)), axis=1) for i, size in free}


def directed_rows(case: Case, boxes: dict[int, np.ndarray]) -> list[list[list[int]]]:
    """For each element of the result, the arguments that drive it lowest and highest: by its slope in each of them."""
    constant = {i: [int(v) for v in np.asarray(data).reshape(-1)] for i, data in unrounded(case).constants.items()}
    middle = [boxes[i][:, 0].tolist() if i in boxes else constant[i] for i in range(len(case.sizes))]
    base = MEANING[case.kind](unrounded(case), middle, 0)
    up = {(i, j): np.array(MEANING[case.kind](unrounded(case), _moved(middle, boxes, i, j), 0)) - base
          for i in boxes for j in range(len(boxes[i]))}

    def towards(i: int, element: int, end: int) -> list[int]:
        if i not in boxes:
            return [int(v) for v in np.asarray(case.constants[i]).reshape(-1)]
        return [int(box[end if up[i, j][element] >= 0 else 1 - end]) for j, box in enumerate(boxes[i])]

    return [[towards(i, e, end) for i in range(len(middle))] for e in range(len(base)) for end in (0, 1)]


def unrounded(case: Case) -> Case:
    """The same without what hides a slope: shifts and limits."""
    plain = {"k": 0, "relu": 0, "lo": None, "hi": None} if case.kind in ("conv2d", "matmulshr") else {}
    constants = {**case.constants, 3: 0 * case.constants[3]} if 3 in case.constants else case.constants
    return replace(case, attrs={**case.attrs, **plain}, constants=constants)


def _moved(middle: list[list[int]], boxes: dict[int, np.ndarray], i: int, j: int) -> list[list[int]]:
    """``middle`` with one number of one free argument at the upper end of its box."""
    moved = [list(part) for part in middle]
    moved[i][j] = int(boxes[i][j, 1])
    return moved


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("seed", range(2))
def test_the_proof_s_interval_holds_every_point_and_meets_its_ends(name: str, seed: int) -> None:
    case, rng = CASES[name], np.random.default_rng(seed)
    boxes = boxes_of(case, rng)
    program, _ = program_of(case, INT, boxes)
    found = analyse(program, {})["y"]
    rows = corner_rows(case, boxes, rng) + directed_rows(case, boxes)
    values = np.array([MEANING[case.kind](case, row, 0) for row in rows])
    assert (values >= found.lo.reshape(-1)).all()
    assert (values <= found.hi.reshape(-1)).all()
    if case.kind not in LOOSE:
        assert values.min(axis=0).tolist() == found.lo.reshape(-1).tolist()
        assert values.max(axis=0).tolist() == found.hi.reshape(-1).tolist()


@pytest.mark.parametrize("kind", ["add", "sub", "mul", "shl"])
def test_the_proof_refuses_what_one_unit_more_would_overflow(kind: str) -> None:
    top = {"add": (2**31 - 11, 10), "sub": (2**31 - 11, -10), "mul": (715827882, 3), "shl": (2**28 - 1, 0)}[kind]
    case = Case(kind, (1,) if kind == "shl" else (1, 1), 1, {"k": 3} if kind == "shl" else {})
    boxes = {i: np.array([[0, v] if v > 0 else [v, v]]) for i, v in enumerate(top[: len(case.sizes)])}
    assert analyse(program_of(case, INT, boxes)[0], {})["y"].hi[0] <= 2**31 - 1
    boxes[0] = boxes[0] + np.array([[0, 1]])
    with pytest.raises(ProofFailed, match=f"y\\[0\\] = {kind} may reach"):
        analyse(program_of(case, INT, boxes)[0], {})
