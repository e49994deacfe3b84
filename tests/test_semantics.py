"""The meaning of ops: exact integers against Python's, binary32 functions against float64, order of sums."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpc.ir.build import Builder
from ncpc.ir.program import Port, Program, State
from ncpc.ir.quantized import (
    FINE_SIZE,
    TABLE_ERROR,
    TABLE_SHIFT,
    TABLE_SIZE,
    Z_HALF,
    argument_frac,
    sigmoid_table,
)
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Axis, Fixed, Float32, Index, Real, Type
from ncpc.passes.fold import fold_constants
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics import fixed, float32
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import Executor, run
from tests.nets import random_policy

INT32 = st.integers(-(2**31), 2**31 - 1)


def one(value: int) -> np.ndarray:
    return np.array([value], np.int64)


def rounded(exact: Fraction) -> int:
    return math.floor(exact + Fraction(1, 2))


@given(INT32, st.integers(0, 31))
def test_shr_rounds_half_up(a: int, k: int) -> None:
    assert int(fixed.shr(one(a), k)[0]) == rounded(Fraction(a, 1 << k))


@given(INT32, INT32, st.integers(1, 62))
def test_mulshr_is_the_exact_product_rounded_once(a: int, b: int, k: int) -> None:
    if abs(a * b) + (1 << (k - 1)) < 2**63:
        assert int(fixed.mulshr(one(a), one(b), k)[0]) == rounded(Fraction(a * b, 1 << k))


@given(st.integers(1, 2**31 - 1))
def test_norm_shifts_to_the_top(a: int) -> None:
    e = int(fixed.norm(one(a))[0])
    assert 2**30 <= a << e < 2**31


@given(st.integers(1, 2**31 - 1))
def test_inverse_is_the_reciprocal_to_fifteen_bits(a: int) -> None:
    got = int(fixed.inverse(one(a), 0)[0])
    assert abs(Fraction(got * a, 1 << 46) - 1) < Fraction(1, 1 << 14)


@pytest.mark.parametrize("a", [0, -1, 2**31])
def test_inverse_of_what_is_no_divisor_raises(a: int) -> None:
    with pytest.raises(ZeroDivisionError):
        fixed.inverse(one(a), 0)


@pytest.mark.parametrize(("size", "frac", "error"), [(TABLE_SIZE, 11, TABLE_ERROR), (FINE_SIZE, 12, 7e-5)])
def test_the_sigmoid_table_is_within_its_stated_error(size: int, frac: int, error: float) -> None:
    t = np.arange(-(1 << 18), 1 << 18, dtype=np.int64)
    got = fixed.lut(t, sigmoid_table(size), TABLE_SHIFT) / 2.0**15
    assert argument_frac(size) == frac
    z = t / 2.0**frac - Z_HALF
    rounding = 2.0 ** -(frac + 1) / 4  # of the argument, at the sigmoid's steepest
    assert error / 2 < np.abs(got - 1 / (1 + np.exp(-z))).max() + rounding < error
    assert len(sigmoid_table(size)) == size + 1
    assert (np.diff(fixed.lut(t, sigmoid_table(size), TABLE_SHIFT)) >= 0).all()


@pytest.mark.parametrize(("function", "exact", "bound"), [
    (float32.exp, np.exp, 3e-7), (float32.sigmoid, lambda x: 1 / (1 + np.exp(-x)), 3e-7), (float32.tanh, np.tanh, 3e-7),
])
def test_binary32_functions_are_accurate(function: object, exact: object, bound: float) -> None:
    x = np.linspace(-30, 30, 200_001).astype(np.float32)
    got, want = function(x).astype(np.float64), exact(x.astype(np.float64))  # type: ignore[operator]
    assert (np.abs(got - want) <= bound * np.maximum(np.abs(want), 1.0)).all()


def test_binary32_exp_meets_its_ends() -> None:
    ends = float32.exp(np.array([-1e30, -87.5, 88.5, 1e30, np.inf, -np.inf, np.nan], np.float32))
    assert np.isfinite(ends).all()
    assert (ends > 0).all()


def summing(kind: Type, terms: np.ndarray, post: list[int], size: int) -> np.ndarray:
    """``terms`` summed per segment by a program of one op."""
    b = Builder(kind)
    axis, target = Axis("terms", terms.shape[1]), Axis("sums", size)
    x = b.value("x", [axis])
    where = b.const("post", np.array(post), [axis], Index("sums"))
    total = b.op("segment_sum", "y", x, where, axes=[target])
    fracs = (0,) * size if isinstance(kind, Fixed) else None
    port = Port(x, ("x",) * terms.shape[1], (0,) * terms.shape[1] if fracs else None, np.zeros((terms.shape[1], 2)))
    out = Port(total, ("y",) * size, fracs, np.zeros((size, 2)))
    return Executor(Program("sum", port, out, None, (), b.constants, b.body)).step(terms)[0]


def test_binary32_sums_go_in_order() -> None:
    terms = np.array([[1e8, 1.0, -1e8, 5.0]], np.float32)
    assert summing(Float32(), terms, [0, 0, 0, 1], 3).tolist() == [[0.0, 5.0, 0.0]]
    assert summing(Real(), terms.astype(np.float64), [0, 0, 0, 1], 3).tolist() == [[1.0, 5.0, 0.0]]


def test_an_integer_that_leaves_its_type_raises() -> None:
    with pytest.raises(OverflowError, match="y = segment_sum"):
        summing(Fixed(16, 0), np.array([[30000, 30000]], np.int64), [0, 0], 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_resets_and_batches_do_not_leak(seed: int) -> None:
    """A batch equals its sequences run alone, and a reset equals a fresh start."""
    program = fold_constants(to_float32(lower(random_policy(seed % 20, neurons=5))))
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (3, 12, 3))
    reset = np.zeros((3, 12), bool)
    reset[1, 5] = True
    whole = run(program, Sequences(x, reset=reset))
    for i in range(3):
        alone = run(program, Sequences(x[i : i + 1], reset=reset[i : i + 1]))
        assert (alone.raw_y[0] == whole.raw_y[i]).all()
    fresh = run(program, Sequences(x[1:2, 5:]))
    assert (fresh.raw_y[0] == whole.raw_y[1, 5:]).all()


def test_flags_name_what_happened() -> None:
    program = fold_constants(to_float32(lower(random_policy(0))))
    x = np.zeros((1, 3, 3))
    x[0, 1, 2] = np.nan
    dt = np.array([[1.0, 1.0, 7.0]])
    flags = run(program, Sequences(x, dt)).flags[0]
    assert flags.tolist() == [0, 1 << FLAGS.index("input_nan"), 1 << FLAGS.index("dt_out_of_range")]


def test_mix_stays_between_its_ends() -> None:
    rng = np.random.default_rng(0)
    b = Builder(Fixed(32, 20))
    axis = Axis("n", 4)
    values = [b.value(name, [axis], Fixed(32, frac)) for name, frac in (("a", 20), ("c", 20), ("t", 15))]
    y = b.op("mix", "y", *values)
    states = tuple(State(v, v.name, np.zeros(4, np.int64)) for v in values[1:])
    ports = [Port(v, ("n",) * 4, (20,) * 4, np.zeros((4, 2))) for v in (values[0], y)]
    machine = Executor(Program("mix", ports[0], ports[1], None, states, b.constants, b.body))
    a, c = (rng.integers(-(2**29), 2**29, (5000, 4)) for _ in range(2))
    t = rng.integers(0, 2**15 + 1, (5000, 4))
    machine.load({"c": c, "t": t})
    got = machine.step(a)[0]
    assert (got >= np.minimum(a, c)).all()
    assert (got <= np.maximum(a, c)).all()
    assert (got[t == 0] == a[t == 0]).all()
    assert (got[t == 2**15] == c[t == 2**15]).all()
