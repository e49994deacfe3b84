"""The interval of every op holds what the op computes anywhere within its arguments' intervals, at open ends too."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from ncpc.ir.ops import OPS
from ncpc.ir.program import Attr, Op, Value
from ncpc.ir.types import Axis, Real
from ncpc.ir.windows import Windows
from ncpc.semantics import bounds
from ncpc.semantics.bounds import Range, exactly, image
from ncpc.semantics.ops import implementation

FAR = 1e100
"""The largest magnitude of a point where an end is open."""
ROWS = 8
INF = np.inf


@dataclass(frozen=True)
class Case:
    """One op: sizes of its arguments, data of those that are constants, the result's size; ``args`` are named a, b, c.

    ``last`` is the share of the largest part of a result by which rounding may differ.
    """

    kind: str
    sizes: tuple[int, ...]
    out: int
    attrs: dict[str, Attr] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    args: str = "abc"
    last: float = 0.0

    @property
    def op(self) -> Op:
        return Op(self.kind, value("y", self.out), tuple(self.args[: len(self.sizes)]), self.attrs)


def value(name: str, size: int) -> Value:
    return Value(name, (Axis(name, size),), Real())


SAME = Windows(3, 3, 2, 2, 2, 1, 1, 1, 0, 3, 2, "hwc")
APART = Windows(3, 4, 2, 2, 2, 1, 2, 0, 0, 2, 2, "chw")
WEIGHT = np.array([[1.5, 0.0, -2.0], [0.0, 0.0, 3.0]])
FILTERS = np.random.default_rng(0).integers(-2, 3, (2, 8)).astype(np.float64)
UNLIMITED: dict[str, Attr] = {"lo": None, "hi": None, "flag": None}
SUMS, CURVES = 1e-13, 1e-15
CASES = {
    **{kind: Case(kind, (2, 2), 2) for kind in ("add", "sub", "mul", "div", "min", "max", "gt")},
    **{kind: Case(kind, (2,), 2, last=CURVES) for kind in ("exp", "sigmoid", "tanh")},
    **{kind: Case(kind, (2,), 2) for kind in ("neg", "relu", "sqrt")},
    "add of one number": Case("add", (1, 3), 3),
    "square": Case("mul", (2, 2), 2, args="aa"),
    "clamp": Case("clamp", (2,), 2, {"lo": -1.0, "hi": 2.0, "flag": "state_clamped"}),
    "clamp by arrays": Case("clamp", (2,), 2, {"lo": "low", "hi": 4.0, "flag": None}, {"low": np.array([-1.0, 3.0])}),
    "mix": Case("mix", (2, 2, 2), 2, last=SUMS),
    "gather": Case("gather", (2, 3), 3, {}, {"b": np.array([1, 0, 1])}),
    "slice": Case("slice", (3,), 2, {"start": 1}),
    "concat": Case("concat", (1, 2), 3),
    "segment_sum": Case("segment_sum", (3, 3), 3, {}, {"b": np.array([0, 0, 2])}, last=SUMS),
    "segment_sum from a start": Case("segment_sum", (3, 3, 3), 3, {}, {"b": np.array([0, 0, 2])}, last=SUMS),
    "matmul": Case("matmul", (6, 3), 2, {}, {"a": WEIGHT}, last=SUMS),
    "matmul from a start": Case("matmul", (6, 3, 2), 2, {}, {"a": WEIGHT}, last=SUMS),
    "conv2d": Case("conv2d", (16, 18, 2), 12, {**asdict(SAME), **UNLIMITED, "relu": 0},
                   {"a": FILTERS, "c": np.array([1.0, -1.0])}, last=SUMS),
    "conv2d in groups, relu": Case("conv2d", (8, 24, 2), 8, {**asdict(APART), **UNLIMITED, "relu": 1},
                                   {"a": FILTERS[:, :4], "c": np.array([1.0, -1.0])}, last=SUMS),
    **{f"pool {function}": Case("pool", (18,), 12, {**asdict(SAME), "function": function}, last=SUMS)
       for function in ("max", "avg", "avg_inside")},
}

END = st.one_of(st.sampled_from([-INF, -2.0, 0.0, 2.0, INF]), st.floats(-50, 50), st.floats(-FAR, FAR))
UNIT = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


@st.composite
def drawn(draw: st.DrawFn, case: Case) -> tuple[dict[str, Range], dict[str, np.ndarray]]:
    """Intervals of the arguments, and rows of points in them: ends, zeros, and what lies between."""
    ranges, points = {}, {}
    for name, size in zip(case.args, case.sizes, strict=False):
        if name not in case.constants:
            end = UNIT if case.kind == "mix" and name == "c" else END
            two = np.sort(np.array(draw(st.lists(st.tuples(end, end), min_size=size, max_size=size))).T, axis=0)
            ranges[name] = Range(np.minimum(two[0], FAR), np.maximum(two[1], -FAR))
            lo, hi = (np.clip(end, -FAR, FAR) for end in ranges[name])
            share = np.random.default_rng(draw(st.integers(0, 99))).uniform(0, 1, (ROWS, size))
            points[name] = np.clip(lo + share * (hi - lo), lo, hi)
            pick = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 4, (ROWS, size))
            points[name] = np.choose(pick, [lo, hi, np.clip(0.0, lo, hi), points[name]])
    return ranges, points


def outside(case: Case, ranges: dict[str, Range], points: dict[str, np.ndarray]) -> bool:
    """Whether a result leaves its interval, or an end of that is no number."""
    args = [exactly(case.constants[name]) if name in case.constants else ranges[name] for name in case.op.args]
    found = image(case.op, args, case.constants)
    compute = implementation(case.op, [value(name, 1) for name in case.op.args], case.constants)
    given = [case.constants[name] if name in case.constants else points[name] for name in case.op.args]
    with np.errstate(all="ignore"):
        y = compute(given, {"flags": np.zeros(ROWS, np.int64)})
    size = np.where(np.isfinite(y), np.abs(y), 0.0)
    most = max(float(np.abs(part).max()) for part in given) if case.last == SUMS else 0.0
    slack = case.last * np.maximum(size, 30 * most)
    undefined = np.isnan(y) & np.isneginf(found.lo) & np.isposinf(found.hi)  # 0/0
    inside = (y >= found.lo - slack) & (y <= found.hi + slack)
    return not bool((inside | undefined).all()) or bool(np.isnan(found).any())


def test_every_op_over_the_reals_has_a_rule_and_is_tried() -> None:
    real = {kind for kind, row in OPS.items() if row.domain != "fixed"} - {"guard", "cast"}
    assert real == bounds.KINDS == {case.kind for case in CASES.values()}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_results_lie_within_the_interval(case: Case) -> None:
    @settings(max_examples=60, deadline=None)
    @given(drawn(case))
    def holds(both: Any) -> None:
        assert not outside(case, *both)

    holds()


def plain(op: Op, a: Any, constants: Any) -> Range:
    """A product whose weights have no sign."""
    return Range(a[0].lo @ a[1].lo, a[0].lo @ a[1].hi)


def inverse(a: Range) -> Range:
    """As if no divisor were 0."""
    return Range(1 / a.hi, 1 / a.lo)


FINDING = settings(database=None, deadline=None, phases=[Phase.generate])
FAULTS: dict[str, tuple[str, str, Any]] = {
    "a difference rises with both": ("FALLS", "sub", ()),
    "a negative keeps its ends": ("FALLS", "neg", ()),
    "a comparison rises with both": ("FALLS", "gt", ()),
    "every product is a square": ("_RULES", "mul", lambda op, a, constants: bounds.square(a[0])),
    "no divisor is 0": ("_RULES", "div", lambda op, a, constants: bounds.product(a[0], inverse(a[1]))),
    "a mean begins at its first argument": ("_RULES", "mix", lambda op, a, constants: Range(a[0].lo, a[1].hi)),
    "a matrix is positive": ("_RULES", "matmul", plain),
}


@pytest.mark.parametrize(("table", "kind", "rule"), FAULTS.values(), ids=FAULTS)
def test_a_wrong_rule_is_found(table: str, kind: str, rule: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(getattr(bounds, table), kind, rule)
    assert find(drawn(CASES[kind]), lambda both: outside(CASES[kind], *both), settings=FINDING)


def over(*ends: tuple[float, float]) -> Range:
    lo, hi = np.array(ends).T
    return Range(lo, hi)


def pairs(found: Range) -> list[tuple[float, float]]:
    return list(zip(found.lo.tolist(), found.hi.tolist(), strict=True))


def test_ends_are_met() -> None:
    """No interval of these is wider than it must be."""
    assert pairs(bounds.square(over((-2, 3), (-3, -2), (0, INF)))) == [(0, 9), (4, 9), (0, INF)]
    assert pairs(bounds.product(over((-2, 3), (0, 0), (-INF, -1)), over((-5, 4), (-INF, INF), (0, 2)))) == [
        (-15, 12), (0, 0), (-INF, 0)]
    assert pairs(bounds.quotient(over((2, 6), (1, INF), (-1, 1)), over((-2, -1), (1, INF), (2, INF)))) == [
        (-6, -1), (0, INF), (-0.5, 0.5)]
    assert pairs(bounds.size(over((-3, 2), (-3, -2), (2, INF)))) == [(0, 3), (2, 3), (2, INF)]
    assert pairs(image(CASES["gt"].op, [over((1, 2), (0, 2)), over((0, 0.5), (1, 1))], {})) == [(1, 1), (0, 1)]


def test_a_divisor_that_may_be_0_opens_its_own_element_alone() -> None:
    assert pairs(bounds.quotient(over((1, 1), (1, 1), (1, 1)), over((0, 1), (-1, 0), (1, 2)))) == [
        (-INF, INF), (-INF, INF), (0.5, 1)]


def test_an_open_end_meets_only_the_weights_that_are_not_0() -> None:
    found = image(CASES["matmul"].op, [exactly(WEIGHT), over((0, 1), (-INF, INF), (-1, INF))], {})
    assert pairs(found) == [(-INF, 3.5), (-3, INF)]


def test_a_sum_of_both_infinities_is_unbounded() -> None:
    case = CASES["segment_sum"]
    found = image(case.op, [over((INF, INF), (-INF, 0), (1, 2)), exactly(case.constants["b"])], case.constants)
    assert pairs(found) == [(-INF, INF), (0, 0), (1, 2)]


def test_what_is_known_stays_where_what_was_seen_lies_apart() -> None:
    assert pairs(bounds.meet(over((0, 1), (0, 1)), over((-1, 0.5), (2, 3)))) == [(0, 0.5), (0, 1)]
    assert pairs(bounds.hull(over((0, 1)), over((2, 3)))) == [(0, 3)]
