"""The range proof at its limits: what is accepted to the unit, and how the op, element and end that fail are named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from ncpc.errors import ProofFailed
from ncpc.ir.build import Builder
from ncpc.ir.policy import DtRange
from ncpc.ir.program import Port, Program, State, Value
from ncpc.ir.types import Axis, Fixed, Index
from ncpc.proofs.prove import prove
from ncpc.proofs.ranges import CrowdedError, Interval, analyse
from ncpc.semantics import fixed
from ncpc.semantics.run import Executor
from tests.c_programs import program_of
from tests.nets import random_policy

W = Fixed(32, 0)
Row = tuple[int, int]


def program(b: Builder, y: Value, states: Sequence[State], labels: dict[str, tuple[str, ...]] | None = None) -> Program:
    """The builder's ops behind an input that nothing reads."""
    x = b.value("x", [Axis("inputs", 1)], Fixed(16, 0))
    ports = [Port(v, ("n",) * n, (0,) * n, np.zeros((n, 2))) for v, n in ((x, 1), (y, y.shape[-1] if y.shape else 1))]
    return Program("net", ports[0], ports[1], None, tuple(states), b.constants, b.body, labels=labels or {})


def kept(b: Builder, name: str, rows: Sequence[Row], kind: Fixed = W) -> tuple[Value, State]:
    """A state that keeps its value, anywhere in ``rows``."""
    v = b.value(name, [Axis(f"{name}_axis", len(rows))], kind)
    return v, State(v, v.name, np.zeros(v.shape, np.int64), np.array(rows, np.int64))


def of_op(kind: str, rows: Sequence[Sequence[Row]], types: Sequence[Fixed] = (), result: Fixed = W,
          **attrs: Any) -> Program:
    """``y = kind(a0, a1, ...)``, each argument anywhere in its box."""
    b = Builder(W)
    args = [kept(b, f"a{i}", some, types[i] if types else W) for i, some in enumerate(rows)]
    y = b.op(kind, "y", *(v for v, _ in args), axes=[Axis("y_axis", len(rows[0]))], type_=result, **attrs)
    return program(b, y, [state for _, state in args], {"y_axis": ("left", "right"), "a0_axis": ("one", "two")})


def refusal(made: Program) -> str:
    """Why the program is not proved; empty where it is."""
    try:
        analyse(made, {})
    except ProofFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize("k", [-2, 0, 4])
@pytest.mark.parametrize("row", [(2**20, 2**20), (2**20, 2**20 + 7), (2**22 - 3, 2**26), (2**28, 2**29 - 1)])
def test_a_reciprocal_lies_between_what_its_ends_give(row: Row, k: int) -> None:
    kind = Fixed(32, 20)
    found = analyse(of_op("inverse", [[row]], [kind], Fixed(32, 46 + k - 20), k=k), {})["y"]
    rng = np.random.default_rng(0)
    d = np.unique(np.concatenate([rng.integers(row[0], row[1] + 1, 4000), row]))
    got = fixed.inverse(d, k)
    assert (found.lo[0] <= got).all()
    assert (got <= found.hi[0]).all()
    slack = 2.0**-13
    assert found.lo[0] >= np.floor(2.0 ** (46 + k) / row[1] * (1 - slack)) - 1
    assert found.hi[0] <= np.ceil(2.0 ** (46 + k) / row[0] * (1 + slack)) + 1


def test_a_divisor_has_to_be_positive_and_its_element_is_named() -> None:
    rows = [(2**20, 2**21), (0, 2**21)]
    assert "a0[two] may be 0 or negative: a division by zero is possible" in refusal(of_op("inverse", [rows], k=0))
    made = of_op("inverse", [[(2**20, 2**21), (2**20, 2**21)]], k=0)
    assert refusal(made) == ""
    assert "may be 0" not in refusal(of_op("inverse", [[(1, 2**21), (1, 1)]], k=-20))


def test_the_shift_of_a_reciprocal_has_to_be_one() -> None:
    """A divisor of 2**29 to 2**30 - 1 is shifted up by one bit; k may take that back, and no more."""
    row = (2**29, 2**30 - 1)
    least = -(int(fixed.norm(np.array([row[1]]))[0]))
    assert least == -1
    assert refusal(of_op("inverse", [[row]], k=least)) == ""
    assert "so far that a shift can fall below 0; narrow it" in refusal(of_op("inverse", [[row]], k=least - 1))


@pytest.mark.parametrize(("weight", "fits"), [((0, 8), True), ((-1, 8), False), ((0, 9), False), ((-1, 9), False)])
def test_a_mixture_stays_between_what_is_mixed_where_its_weight_is_a_share(weight: Row, fits: bool) -> None:
    made = of_op("mix", [[(-5, 7)], [(-30, -20)], [weight]], [W, W, Fixed(32, 3)])
    assert (refusal(made) == "") == fits
    if fits:
        found = analyse(made, {})["y"]
        assert (found.lo.tolist(), found.hi.tolist()) == ([-30], [7])
    else:
        assert "y = mix: its weight may leave [0, 1]" in refusal(made)


@pytest.mark.parametrize(("kind", "step", "where"), [
    ("add", (0, 1), "second"), ("add", (1, 0), "first"), ("sub", (0, 1), "second"), ("add", (0, 0), None),
])
def test_a_state_that_may_leave_its_box_by_a_unit_is_named(kind: str, step: Row, where: str | None) -> None:
    b = Builder(W)
    v, state = kept(b, "v", [(0, 5), (0, 5)])
    moved = b.op(kind, "after", v, b.const("step", np.array(step), [Axis("v_axis", 2)], W), type_=W)
    made = program(b, moved, [dataclasses.replace(state, out=moved.name)], {"v_axis": ("first", "second")})
    assert refusal(made) == (f"after[{where}] may leave its box: the range proof does not close" if where else "")


def test_a_state_without_a_range_is_refused() -> None:
    made = of_op("neg", [[(0, 1)]])
    without = dataclasses.replace(made, states=(dataclasses.replace(made.states[0], box=None),))
    assert refusal(without) == "state a0: no range is known, so no overflow proof is possible"


def repeated(limit: Row | None, step: int, box: Row = (-10, 10)) -> Program:
    """A value carried around a repeat, moved by ``step`` each pass, and limited."""
    b = Builder(W)
    v = b.value("v", [Axis("neurons", 1)], W)
    with b.repeat(3, c=(v, None)) as loop:
        moved = b.op("add", "moved", loop["c"], b.const("step", np.array([step]), [Axis("neurons", 1)], W), type_=W)
        b.op("clamp", "aside", moved, type_=W, lo=-1000, hi=1000, flag=None)
        loop.set("c", moved if limit is None else b.op("clamp", "limited", moved, type_=W, lo=limit[0], hi=limit[1],
                                                       flag=None))
    y = b.op("neg", "y", loop["c"], type_=W)
    return program(b, y, [State(v, v.name, np.zeros(1, np.int64), np.array([box]))], {"neurons": ("n0",)})


def test_what_a_repeat_carries_has_one_interval_in_every_pass() -> None:
    """What it begins with, or that and all its clamp lets through."""
    assert refusal(repeated(None, 1)) == "moved[n0] may leave its box: the range proof does not close"
    assert refusal(repeated(None, 0)) == ""
    found = analyse(repeated((-12, 30), 1), {})
    assert [found[name].lo.tolist() + found[name].hi.tolist() for name in ("c_now", "moved", "c_end", "y")] == [
        [-12, 30], [-11, 31], [-12, 30], [-30, 12]]
    inside = analyse(repeated((-4, 6), 1), {})
    assert inside["c_end"].lo.tolist() + inside["c_end"].hi.tolist() == [-10, 10]
    assert inside["limited"].lo.tolist() + inside["limited"].hi.tolist() == [-4, 6]


def test_clamps_take_constants_and_numbers_and_0() -> None:
    b = Builder(W)
    v, state = kept(b, "a", [(-50, 50), (-50, 50)])
    low = b.const("low", np.array([-20, -60]), [Axis("a_axis", 2)], W)
    y = b.op("clamp", "y", v, type_=W, lo=low.name, hi=0, flag=None)
    found = analyse(program(b, y, [state]), {})["y"]
    assert (found.lo.tolist(), found.hi.tolist()) == ([-20, -50], [0, 0])


def test_a_lemma_says_more_of_a_result_but_not_of_what_forms_it() -> None:
    made = of_op("add", [[(0, 100)], [(-100, 0)]])
    known = Interval(np.array([-3]), np.array([3]))
    assert analyse(made, {"y": known})["y"].hi.tolist() == [3]
    made = of_op("sub", [[(0, 2**31 - 1)], [(-1, 0)]])
    assert "y[left] = sub may reach 0..2147483648" in refusal(made)
    assert analyse(made, {"y": known})["y"].hi.tolist() == [3]


@pytest.mark.parametrize(("row", "word"), [((0, 127), ""), ((0, 128), "0..128"), ((-129, 0), "-129..0")])
def test_a_result_beyond_its_type_is_named_with_its_range(row: Row, word: str) -> None:
    made = of_op("relu" if row[0] == 0 else "min", [[(0, 1), row], *([[(0, 0), (0, 0)]] if row[0] else [])],
                 result=Fixed(8, 0))
    text = refusal(made)
    assert (text == "") == (word == "")
    assert not word or text.startswith("y[right] = ")
    assert word in text


@pytest.mark.parametrize("k", [1, 8])
def test_a_full_shift_s_result_is_the_rounded_one(k: int) -> None:
    row = (-(2**31), 2**31 - 1)
    found = analyse(of_op("shr_full", [[row]], k=k), {})["y"]
    assert [found.lo.item(), found.hi.item()] == fixed.shr(np.array(row), k).tolist()


def test_all_crowded_shifts_are_named() -> None:
    b = Builder(W)
    v, state = kept(b, "a", [(0, 2**31 - 1)])
    first = b.op("shr", "first", v, type_=W, k=4)
    b.op("shr", "third", first, type_=W, k=4)
    second = b.op("shr", "second", v, type_=W, k=8)
    with pytest.raises(CrowdedError, match=r"^first, second: no room for the rounding half") as refused:
        analyse(program(b, second, [state]), {})
    assert refused.value.shifts == {"first", "second"}


def test_a_sum_that_forms_too_much_is_named_by_its_largest_element() -> None:
    b = Builder(W)
    v, state = kept(b, "a", [(-3, 3), (-(2**20), 2**20)])
    weight = b.const("w", np.array([[1, 2], [1, 2**12]]), [Axis("rows", 2), Axis("a_axis", 2)], W)
    y = b.op("matmul", "y", weight, v, axes=[Axis("rows", 2)], type_=W)
    text = refusal(program(b, y, [state]))
    assert text == ("y[1] = matmul forms -4294967299..4294967299 in C, outside int32_t: the range proof does not close")


@pytest.mark.parametrize("mode", ["fixed", "runtime"])
def test_the_guarantee_is_in_physical_units(mode: str) -> None:
    policy = random_policy(3, DtRange(0.5, 2.0, 1.0), neurons=3)
    made = program_of(policy, "int16", mode)
    proof = prove(made)
    (state,) = made.states
    assert isinstance(state.inp.type, Fixed)
    assert proof.box["v"].tolist() == (np.asarray(state.box) / 2.0**state.inp.type.frac).tolist()
    assert proof.dt_range == (None if mode == "fixed" else (0.5, 2.0))
    assert proof.input_range.tolist() == [[-1.0, 1.0]] * 3


def test_what_is_proved_holds_in_a_run() -> None:
    made = program_of(random_policy(3, neurons=3), "int16", "fixed")
    found = prove(made).intervals
    machine = Executor(made)
    machine.reset(64)
    for x in np.random.default_rng(0).integers(-(2**15), 2**15, (20, 64, 3)):
        y, states, _ = machine.step(x)
        assert (found[made.y.value.name].lo <= y).all()
        assert (y <= found[made.y.value.name].hi).all()
        assert (found["v"].lo <= states[0]).all()
        assert (states[0] <= found["v"].hi).all()


@pytest.mark.parametrize(("start", "order"), [(-10, 1), (10, -1), (-10, -1), (10, 1)])
def test_a_partial_sum_of_a_segment_has_to_fit_at_both_ends(start: int, order: int) -> None:
    """The sum comes to 9 or -11; whatever the order of its terms, it begins beyond the type."""
    b = Builder(W)
    terms, state = kept(b, "a", [(-(2**31), -(2**31)), (2**31 - 1, 2**31 - 1)][::order])
    post = b.const("post", np.zeros(2, np.int64), [Axis("a_axis", 2)], Index("sums"))
    first = b.const("start", np.array([start]), [Axis("sums", 1)], W)
    y = b.op("segment_sum", "y", terms, post, first, axes=[Axis("sums", 1)], type_=W)
    text = refusal(program(b, y, [state]))
    ends = f"{-(2**31) + start}..{2**31 - 1 + start}"
    assert text == f"y[0] = segment_sum forms {ends} in C, outside int32_t: the range proof does not close"


def test_the_first_of_several_elements_is_named_by_number_where_it_has_no_name() -> None:
    b = Builder(W)
    d, state = kept(b, "d", [(1, 5), (0, 5), (0, 5)])
    y = b.op("inverse", "y", d, type_=W, k=0)
    assert refusal(program(b, y, [state], {"d_axis": ("one",)})).startswith("d[1] may be 0 or negative")
    assert refusal(program(b, y, [state], {"d_axis": ("one", "two", "three")})).startswith("d[two] may be 0 or")


@pytest.mark.parametrize("k", [0, 2])
def test_a_table_that_rises_gives_its_ends_and_another_all_of_itself(k: int) -> None:
    """An entry stands for every 2**k."""
    for entries, want in (([-9, -4, 3, 7, 30], (-4, 7)), ([-9, -4, 3, 2, 30], (-9, 30))):
        b = Builder(W)
        x, state = kept(b, "x", [(1 << k, 3 << k)])
        table = b.const("table", np.array(entries), [Axis("entries", 5)], W)
        found = analyse(program(b, b.op("lut", "y", x, table, type_=W, k=k), [state]), {})["y"]
        assert (int(found.lo[0]), int(found.hi[0])) == want
