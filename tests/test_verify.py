"""The verifier's parts: sequences, comparison, errors, search."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.run import run
from ncpc.verification import compare
from ncpc.verification.errors import measure
from ncpc.verification.search import search
from ncpc.verification.sequences import MIN_LENGTH, families, prefix, suite, within
from tests.nets import random_policy


def wide() -> Policy:
    """Inputs of different ranges, dt from 0.1 to 10, calibration data inside."""
    policy = random_policy(2, DtRange(0.1, 10.0, 1.0))
    ranges = np.array([[-1.0, 1.0], [0.0, 50.0], [-7.0, -3.0]])
    lo, hi = ranges.T
    x = lo + (hi - lo) * np.random.default_rng(0).random((2, 40, 3))
    return dataclasses.replace(policy, input_range=ranges, calibration=Sequences(x))


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 3000), seed=st.integers(0, 1 << 40), runtime=st.booleans())
def test_sequences_stay_in_the_declared_ranges(steps: int, seed: int, runtime: bool) -> None:
    policy = wide()
    data = suite(policy, steps, runtime, seed)
    lo, hi = policy.input_range.T
    assert data.steps >= steps
    assert ((data.x >= lo) & (data.x <= hi)).all()
    assert data.dt is not None
    assert ((data.dt >= 0.1) & (data.dt <= 10.0)).all()
    assert runtime or (data.dt == 1.0).all()


def test_sequences_reach_the_ends_of_every_range() -> None:
    policy = wide()
    data = suite(policy, 4000, True)
    np.testing.assert_allclose(data.x.min(axis=(0, 1)), policy.input_range[:, 0])
    np.testing.assert_allclose(data.x.max(axis=(0, 1)), policy.input_range[:, 1])
    assert data.dt is not None
    assert data.reset is not None
    assert data.dt.min() == pytest.approx(0.1)
    assert data.dt.max() == pytest.approx(10.0)
    assert (data.reset.sum(axis=1) > 0).all()
    assert data.reset[1].sum() > 10


def test_sequences_are_repeatable_differ_by_seed_and_are_not_the_calibration() -> None:
    policy = wide()
    one, two, other = suite(policy, 900, True), suite(policy, 900, True), suite(policy, 900, True, 2)
    np.testing.assert_array_equal(one.x, two.x)
    assert not np.array_equal(one.x, other.x)
    assert policy.calibration is not None
    used = {row.tobytes() for sequence in policy.calibration.x for row in sequence}
    assert not used & {row.tobytes() for sequence in one.x for row in sequence}


def test_the_first_sequences_cover_every_family() -> None:
    policy = wide()
    data = suite(policy, 9000, False)
    few = prefix(data, MIN_LENGTH * len(families(policy)))
    assert few.x.shape == (len(families(policy)), MIN_LENGTH, 3)
    np.testing.assert_array_equal(few.x, data.x[: len(families(policy)), :MIN_LENGTH])


def test_what_is_outside_is_limited_and_counted() -> None:
    policy = wide()
    x = np.tile([0.0, 10.0, -5.0], (1, 6, 1))
    x[0, 2, 1] = 51.0
    x[0, 4, 0] = np.nan
    seen, outside = within(Sequences(x, dt=np.array([[1.0, 1, 1, 1, 1, 20]])), policy, True)
    assert outside == 3
    assert seen.x[0, 2, 1] == 50.0
    assert seen.x[0, 4, 0] == 0.0
    assert seen.dt is not None
    assert seen.dt[0, 5] == 10.0


def traced(rows: int = 2, steps: int = 30) -> tuple[Program, Sequences, Trace]:
    policy = random_policy(4)
    program = to_float32(lower(policy))
    data = suite(policy, rows * steps * 2, False)
    data = Sequences(data.x[:rows, :steps], None if data.dt is None else data.dt[:rows, :steps],
                     np.zeros((rows, steps), np.bool_))
    return program, data, run(program, data)


def copied(trace: Trace) -> Trace:
    return Trace(*(getattr(trace, f.name).copy() for f in dataclasses.fields(trace)))


def test_equal_traces_have_no_difference() -> None:
    program, data, trace = traced()
    found = compare.bitwise(trace, copied(trace), program, data)
    assert (found.mismatches, found.max_abs, found.first) == (0, 0.0, None)


def test_the_earliest_difference_is_named_and_states_come_before_outputs() -> None:
    program, data, trace = traced()
    assert data.reset is not None
    data.reset[1, 5] = True
    other = copied(trace)
    other.raw_state[1, 7, 3] += 1
    other.state[1, 7, 3] += 1e-6
    other.raw_y[1, 7, 0] += 1
    other.y[1, 7, 0] += 0.5
    other.raw_y[0, 9, 1] += 1
    found = compare.bitwise(trace, other, program, data)
    assert found.mismatches == 2
    assert found.max_abs == pytest.approx(0.5)
    assert found.first is not None
    assert (found.first.sequence, found.first.time, found.first.step) == (1, 7, 37)
    assert found.first.neurons == ("n3",)
    assert found.first.context == "2 steps after a reset"


def test_outputs_and_flags_alone_are_found_too() -> None:
    program, data, trace = traced()
    scaled = copied(trace)
    scaled.y[0, 4, 1] *= 2
    found = compare.bitwise(trace, scaled, program, data)
    assert found.first is not None
    assert found.first.neuron == "output y1"
    flagged = copied(trace)
    flagged.flags[0, 2] ^= 1
    found = compare.bitwise(trace, flagged, program, data)
    assert found.first is not None
    assert found.first.neuron == "status flags"


def test_tolerance_counts_steps_and_refuses_what_is_no_number() -> None:
    program, data, trace = traced()
    near = copied(trace)
    near.y[0, 3, 0] += 1e-3
    assert compare.tolerance(trace, near, 2e-3, program, data).mismatches == 0
    assert compare.tolerance(trace, near, 5e-4, program, data).mismatches == 1
    near.y[1, 3, 0] = np.nan
    found = compare.tolerance(trace, near, 2e-3, program, data)
    assert found.mismatches == 1
    assert found.max_abs == np.inf


def test_errors_are_what_they_say() -> None:
    program, data, trace = traced()
    other = copied(trace)
    other.y[1, 8, 1] += 0.25
    other.state[0, 2, 5] -= 0.125
    error = measure(trace, other, program, data)
    assert error.max_abs == pytest.approx(0.25)
    assert error.rmse == pytest.approx(0.25 / np.sqrt(trace.y.size))
    assert error.fraction == pytest.approx(0.25 / np.ptp(trace.y, axis=(0, 1)).max())
    assert (error.worst_step, error.worst_output, error.worst_neuron) == (38, "y1", "n5")
    assert {name: worst for name, worst, _ in error.neurons}["n5"] == pytest.approx(0.125)
    assert error.over_time.argmax() == 8


def test_the_search_finds_a_needle_that_random_sequences_miss() -> None:
    """An arithmetic that errs by how long all inputs stay near one corner: selection has to build that up."""
    policy = random_policy(4)
    real = lower(policy)
    corner = np.array([1.0, -1.0, 1.0])

    def crooked(data: Sequences) -> Trace:
        trace = copied(run(real, data))
        near = (np.abs(data.x - corner).max(axis=2) < 0.2).astype(np.float64)
        held = np.zeros(near.shape[0])
        for t in range(near.shape[1]):
            held = (held + 1) * near[:, t]
            trace.y[:, t, 0] += 1e-3 * np.minimum(held, 55)
        return trace

    find = partial(search, policy, partial(run, real), crooked, runtime_dt=False, screens=1, length=60, population=16)
    screened, bred = find(generations=0), find(generations=30)
    assert bred.max_abs > 1.4 * screened.max_abs
    again = np.abs(run(real, bred.witness).y - crooked(bred.witness).y).max()
    assert again == pytest.approx(bred.max_abs)
    assert find(generations=0).max_abs == screened.max_abs


def test_of_subnormal_numbers_the_sign_is_compared() -> None:
    """One unit of 2**-149 apart is equal in binary32, another sign is not, nor is a unit of the smallest normal one."""
    program = to_float32(lower(random_policy(2)))
    data = Sequences(np.zeros((1, 1, 3)))
    one = run(program, data)

    def mismatches(a: int, b: int) -> int:
        traces = [dataclasses.replace(one, raw_state=np.full_like(one.raw_state, bits),
                          state=np.full_like(one.state, np.int32(bits).view(np.float32))) for bits in (a, b)]
        return compare.bitwise(*traces, program, data).mismatches

    assert mismatches(793_601, 793_602) == 0
    assert mismatches(793_601, 793_601 - 2**31) == 1
    assert mismatches(0x800000, 0x800001) == 1
