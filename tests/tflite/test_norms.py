"""LayerNorm and GroupNorm in integer .tflite files: gains instead of a root, equal to the model, near the policy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.heads import Conv2d, Norm
from ncpc.ir.policy import F64, Dense, Layer, Policy
from ncpc.ir.program import Port, Program, statements
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Axis, Real
from ncpc.ir.windows import Windows
from ncpc.passes.lower import lower
from ncpc.semantics.run import Executor, run
from ncpc.targets.tflite.integer_program import integer_program
from ncpc.targets.tflite.norms import MOST, Gain, gains
from ncpc.targets.tflite.target import TfliteArtifact
from tests.nets import random_ltc
from tests.test_norm import CASES, data_for, dense, norm, policy_of
from tests.tflite.conftest import Emit

RUNTIMES = ("litert-reference", "tflite-micro")


def lengths(found: list[Gain], s: F64) -> F64:
    """What vectors of these lengths become, one element holding all of it."""
    for gain in found:
        s = s * np.array([gain.at(min(one, gain.peak) ** 2) for one in s])
    return s


@pytest.mark.parametrize("residual", [2.0**-17, 2.0**-9])
@pytest.mark.parametrize("least", [2.0**-13, 1e-3, 0.01, 0.1, 0.4, 0.7])
def test_gains_bring_all_lengths_to_one(least: float, residual: float) -> None:
    made = lengths(gains(least, residual), np.geomspace(least, 1.0, 5000))
    assert made.min() >= 1.0 - residual
    assert made.max() <= 1.0 + 1e-12


def test_gains_leave_what_is_shorter_in_proportion() -> None:
    """A length below the least that counts stays below 1; it is no larger than its share."""
    made = lengths(gains(1e-3, 2.0**-17), np.geomspace(1e-6, 1e-3, 500))
    assert np.all(np.diff(made) > 0)
    assert made[0] < 0.05


@pytest.mark.parametrize("case", CASES)
def test_rewritten_program_is_the_same_function(case: tuple[int, int, float]) -> None:
    """In float64 the residue is left, and what an epsilon of less than 1/8192 of the largest deviation would show."""
    layer = norm(*case)
    policy = policy_of(dense(layer.inputs, 4), layer, dense(2, layer.inputs))
    made, data = integer_program(lower(policy), {}), Sequences(np.random.default_rng(5).uniform(-1, 1, (2, 200, 4)))
    exact = run(lower(policy), data).y
    np.testing.assert_allclose(run(made.program, data).y, exact, atol=3e-5 * np.ptp(exact))
    assert {op.kind for op in statements(made.program.body)} == {"matmul", "mul", "add", "relu"}


def test_deviations_of_every_size_are_normalized(emit: Emit) -> None:
    """Noise, a tenth of it, and values that are all the same."""
    policy = policy_of(norm(2, 8, 1e-5))
    made, data = emit(policy, "int16"), data_for(policy)
    exact = run(made.lowered.real, data).y
    found = np.abs(made.artifact.model(data).y - exact).max(axis=(1, 2)) / np.ptp(exact)
    assert np.all(found <= [4e-4, 2e-3, 2e-3])


def test_values_stay_in_the_ranges_of_their_tensors() -> None:
    policy = policy_of(dense(12, 4), norm(3, 12, 1e-5), dense(5, 12))
    held = integer_program(lower(policy), {})
    executor = Executor(held.program)
    executor.reset(64)
    limited = ("near", "squares", "falling", "chord")  # beyond its peak a step's gain does not change
    for x in np.random.default_rng(0).choice([-1.0, 1.0], (20, 64, 4)):
        executor.step(x)
        for op in statements(held.program.body):
            if not op.out.name.endswith(limited):
                lo, hi = held.ranges[op.out.name]
                value = executor.value(op.out.name)
                assert np.all(value >= lo - 1e-6), op.out.name
                assert np.all(value <= hi + 1e-6), op.out.name


def test_a_sum_over_normalized_values_is_bounded_by_their_length() -> None:
    """Not by the sum of what each may be: that is sqrt(64) times as much."""
    rng = np.random.default_rng(0)
    layer, weight = Norm(np.ones(64), np.zeros(64)), rng.choice([-1.0, 1.0], (2, 64))
    held = integer_program(lower(policy_of(dense(64, 4), layer, Dense(weight, np.zeros(2)))), {})
    assert held.ranges[held.program.y.value.name].most == pytest.approx(64.0)


@pytest.mark.parametrize("seed", range(4))
def test_small_policies_hold_the_tolerance_of_int16(emit: Emit, seed: int) -> None:
    width, groups = [(6, 1), (8, 2), (16, 1), (32, 4)][seed]
    rng = np.random.default_rng(seed)
    layer = Norm(rng.uniform(0.5, 1.5, width), 0.3 * rng.normal(size=width), groups)
    first = Dense(0.5 * rng.normal(size=(width, 4)), 0.3 * rng.normal(size=width))
    policy = policy_of(first, layer, random_ltc(seed, inputs=width), dense(1, 2), calibrated=True)
    made = emit(policy, "int16")
    assert policy.calibration is not None
    equal_and_close(made.artifact, made.folder, policy.calibration, run(made.lowered.real, policy.calibration).y)


def test_parts_of_a_frame_of_torch(emit: Emit) -> None:
    rng, frame = np.random.default_rng(0), Windows(8, 8, 1, 3, 3, 1, 1, 0, 0, 6, 6, "chw")
    conv = Conv2d(frame, 0.3 * rng.normal(size=(4, 3, 3, 1)), 0.1 * rng.normal(size=4))
    head: tuple[Layer, ...] = (conv, norm(2, 144, 1e-5), Dense(rng.normal(size=(6, 144)) / 12, np.zeros(6)))
    policy = policy_of(*head, random_ltc(1, inputs=6), calibrated=True)
    made = emit(policy, "int16")
    data = Sequences(rng.uniform(-1, 1, (1, 20, 64)))
    equal_and_close(made.artifact, made.folder, data, run(made.lowered.real, data).y)


def equal_and_close(artifact: TfliteArtifact, folder: Path, data: Sequences, exact: F64) -> None:
    model = artifact.model(data)
    assert np.abs(model.y - exact).max() <= 2e-3 * np.ptp(exact)
    for name in RUNTIMES:
        np.testing.assert_array_equal(artifact.run(folder, data, name).trace.raw_y, model.raw_y)


def still(part: int) -> Policy:
    """The first ``part`` of 6 values never change; epsilon alone is left of their length."""
    first = dense(6, 4)
    first.weight[:part], first.bias[:part] = 0.0, 1.0
    return policy_of(first, norm(2, 6, 1e-5), dense(2, 6))


def test_values_that_never_change_leave_room_for_others() -> None:
    policy, data = still(3), Sequences(np.random.default_rng(5).uniform(-1, 1, (1, 50, 4)))
    made = integer_program(lower(policy), {})
    np.testing.assert_allclose(run(made.program, data).y, run(lower(policy), data).y, atol=1e-3)
    units = [ends.most for name, ends in made.ranges.items() if name == "standing/step1"]
    assert units
    assert all(0.25 <= most <= 1.0 for most in units)


def test_values_that_never_change_need_no_operator() -> None:
    assert not integer_program(lower(still(6)), {}).program.body


def test_too_many_values_are_refused() -> None:
    width = MOST + 2
    policy = Policy("net", (Norm(np.ones(width), np.zeros(width)),), np.tile([-1.0, 1.0], (width, 1)))
    with pytest.raises(Unsupported, match=r"'standing' normalizes 2,050 values, integers at most 2,048.*target 'c'"):
        integer_program(lower(policy), {})


def test_a_root_of_something_else_is_refused_by_name() -> None:
    b = Builder(Real())
    x = b.value("x", [Axis("inputs", 2)])
    root = b.op("sqrt", "root", x)
    port = Port(x, ("a", "b"), None, np.tile([1.0, 2.0], (2, 1)))
    program = Program("net", port, Port(root, ("a", "b"), None, port.range), None, (), b.constants, b.body)
    with pytest.raises(Unsupported, match=r"'root' is made by 'sqrt', for which .* use --quant float32, or target 'c'"):
        integer_program(program, {})
