"""Convolutions, pooling and softmax in .tflite files: equal to the policy, and bit for bit to the model of kernels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ncpc.errors import Unsupported
from ncpc.ir.gated import Rnn
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import Activation, Dense, Policy
from ncpc.ir.program import statements
from ncpc.ir.sequences import Sequences
from ncpc.ir.windows import Windows
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.passes.unroll import unroll
from ncpc.semantics.run import run
from ncpc.targets.tflite.channels_last import channels_last
from ncpc.targets.tflite.integer_graph import integer_graph
from ncpc.targets.tflite.integer_program import integer_program
from ncpc.targets.tflite.placing import SAME, VALID, Placing, placing
from ncpc.targets.tflite.reading import read
from ncpc.targets.tflite.scales import INT8
from tests.nets import random_policy
from tests.tflite.conftest import Emit, Emitted
from tests.tflite.frame_policies import driving, images, noise, random_head

RUNTIMES = ("litert-reference", "litert-xnnpack", "tflite-micro")
EXACT = ("litert-reference", "tflite-micro")


def assert_close(made: Emitted, data: Sequences, tolerance: float) -> None:
    """Every runtime within ``tolerance`` of the policy's range."""
    expected = run(made.lowered.real, data)
    assert np.ptp(expected.y) > 0
    for runtime in RUNTIMES:
        found = made.artifact.run(made.folder, data, runtime).trace
        assert np.abs(found.y - expected.y).max() <= tolerance * np.ptp(expected.y), runtime


def assert_exact(made: Emitted, data: Sequences, tolerance: float) -> None:
    """The reference kernels equal the model bit for bit; it is within ``tolerance`` of the policy's range."""
    model, expected = made.artifact.model(data), run(made.lowered.real, data)
    assert np.abs(model.y - expected.y).max() <= tolerance * np.ptp(expected.y)
    for runtime in EXACT:
        found = made.artifact.run(made.folder, data, runtime).trace
        np.testing.assert_array_equal(found.raw_y, model.raw_y)
        np.testing.assert_array_equal(found.raw_state, model.raw_state)


@pytest.mark.parametrize("seed", range(4))
def test_float_heads_equal_the_policy(emit: Emit, seed: int) -> None:
    policy = random_head(seed)
    assert_close(emit(policy, "float32"), noise(seed, policy), 1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_int16_heads_equal_the_model(emit: Emit, seed: int) -> None:
    policy = random_head(seed)
    assert_exact(emit(policy, "int16"), noise(seed, policy), 2e-3)


@pytest.mark.parametrize("seed", [3])
def test_int8_heads_equal_the_model(emit: Emit, seed: int) -> None:
    policy = random_head(seed)
    assert_exact(emit(policy, "int8"), noise(seed, policy), 0.15)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 60))
def test_many_heads(emit: Emit, seed: int) -> None:
    policy = random_head(seed)
    if any(isinstance(layer, Pool) and layer.function == "avg_inside" for layer in policy.layers):
        pytest.skip("optional: means of what lies in the frame have a test of their own")
    data = noise(seed, policy)
    assert_close(emit(policy, "float32"), data, 1e-5)
    assert_exact(emit(policy, "int16"), data, 4e-3)
    assert_exact(emit(policy, "int8"), data, 0.5)


@pytest.mark.parametrize(("source", "size"), [("torch", (38, 64)), ("keras", (20, 24))])
def test_driving_architecture(emit: Emit, source: str, size: tuple[int, int]) -> None:
    policy, data = driving(source, size), images(1, (*size, 3), 15)
    assert_close(emit(policy, "float32"), data, 1e-5)
    made = emit(policy, "int16")
    assert_exact(made, data, 2e-3)
    operators = read(made.content, "drive.tflite").operators
    # Torch's frame is transposed once, on the way in; the flattened features are not, the dense layer's columns are.
    assert operators.get("TRANSPOSE", 0) == (source == "torch")
    assert operators["MAX_POOL_2D"] == 2
    assert not {"PAD", "RELU", "MAXIMUM"} & set(operators)


def test_report_compares_operators_of_frames(emit: Emit) -> None:
    made = emit(random_head(0), "int16")
    found = made.artifact.build(made.folder).extra["tflite"]
    assert found["unequal_operators"] == {"litert-reference": {}, "tflite-micro": {}}
    assert found["corners"]["steps_unequal_to_model"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "int16", "int8"])
@pytest.mark.parametrize("source", ["torch", "keras"])
def test_driving_architecture_of_both_libraries(emit: Emit, source: str, scheme: str) -> None:
    made, data = emit(driving(source), scheme), images(1, (38, 64, 3), 40)
    if scheme == "float32":
        assert_close(made, data, 1e-5)
    else:
        assert_exact(made, data, 2e-3 if scheme == "int16" else 0.6)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_driving_architecture_at_full_size(emit: Emit, scheme: str) -> None:
    made, data = emit(driving("torch", (78, 200), (32, 64)), scheme), images(1, (78, 200, 3), 3)
    check = assert_close if scheme == "float32" else assert_exact
    check(made, data, 1e-5 if scheme == "float32" else 2e-3)


@pytest.mark.parametrize("seed", range(8))
def test_frames_are_transposed_once_at_most(seed: int) -> None:
    policy = random_head(seed)
    program = unroll(fix_dt(lower(policy), 1.0)).program
    frames, data = channels_last(program), noise(seed, policy, 4)
    assert all(op.attrs.get("layout") != "chw" for op in statements(frames.program.body))
    assert len(frames.transposes) <= 1
    np.testing.assert_allclose(run(frames.program, data).y, run(program, data).y, atol=1e-12)


def test_what_reads_single_elements_reads_them_in_their_order() -> None:
    """A softmax right behind a convolution: its features are transposed back."""
    rng, chw = np.random.default_rng(0), Windows(3, 3, 1, 2, 2, 1, 1, 0, 0, 2, 2, "chw")
    conv = Conv2d(chw, rng.normal(size=(3, 2, 2, 1)), rng.normal(size=3))
    policy = Policy("net", (conv, Activation("tanh", 12), Softmax(12)), np.tile([-1.0, 1.0], (9, 1)))
    program = unroll(fix_dt(lower(policy), 1.0)).program
    frames, data = channels_last(program), noise(0, policy, 4)
    assert list(frames.transposes.values()) == [(4, 3)]
    np.testing.assert_allclose(run(frames.program, data).y, run(program, data).y, atol=1e-12)


def test_programs_without_frames_stay_as_they_are() -> None:
    program = unroll(fix_dt(lower(random_policy(0)), 1.0)).program
    assert channels_last(program).program is program


def windows(**changes: int) -> Windows:
    held = Windows(6, 8, 2, 3, 3, 1, 1, 0, 0, 4, 6, "hwc")
    return dataclasses.replace(held, **changes)


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, Placing(VALID, (0, 0, 0, 0))),
    ({"top": 1, "left": 1, "rows": 6, "cols": 8}, Placing(SAME, (0, 0, 0, 0))),
    ({"top": 2, "left": 0, "rows": 6}, Placing(VALID, (2, 0, 0, 0))),
    ({"top": 1, "left": 1, "stride_h": 2, "stride_w": 2, "rows": 3, "cols": 4}, Placing(VALID, (1, 0, 1, 0))),
    ({"top": 0, "left": 0, "stride_h": 2, "stride_w": 2, "rows": 3, "cols": 4}, Placing(SAME, (0, 0, 0, 0))),
])
def test_windows_are_placed_where_they_stand(changes: dict[str, int], expected: Placing) -> None:
    assert placing(windows(**changes), "conv2d", "y") == expected


def test_a_mean_that_counts_zeros_is_not_same() -> None:
    around = windows(top=1, left=1, rows=6, cols=8)
    assert placing(around, "avg", "y") == Placing(VALID, (1, 1, 1, 1))
    assert placing(around, "max", "y").padding == placing(around, "avg_inside", "y").padding == SAME


@pytest.mark.parametrize(("changes", "kind", "message"), [
    ({"rows": 3}, "max", r"target tflite: 'y' stops short of the end of its frame .* use target 'c'"),
    ({"top": 2, "rows": 6}, "avg_inside", r"'y' is the mean of what lies in the frame.*target 'c'"),
])
def test_windows_that_tflite_cannot_place_are_refused(changes: dict[str, int], kind: str, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        placing(windows(**changes), kind, "y")


@pytest.mark.parametrize(("layout", "parts"), [("chw", 2), ("hwc", 4)])
def test_groups_dilation_and_padding(emit: Emit, layout: str, parts: int) -> None:
    """A convolution in groups (4: depthwise) whose taps lie apart, then pooling that leaves the frame."""
    rng = np.random.default_rng(parts)
    apart = Windows(7, 9, 4, 3, 2, 1, 1, 1, 0, 5, 6, layout, dilation_h=2, dilation_w=3)
    conv = Conv2d(apart, rng.normal(size=(8, 3, 2, 4 // parts)), rng.normal(size=8), relu=parts == 2)
    same = Windows(5, 6, 8, 2, 3, 1, 2, 0, 0, 5, 3, layout)
    pools = Pool(same, "avg_inside"), Pool(Windows(5, 3, 8, 3, 3, 1, 1, 2, 1, 5, 3, layout), "max")
    around = Pool(Windows(5, 3, 8, 2, 2, 1, 1, 1, 1, 6, 4, layout), "avg")
    policy = Policy("net", (conv, *pools, around), np.tile([-1.0, 1.0], (apart.inputs, 1)))
    data = noise(parts, policy, 6)
    assert_close(emit(policy, "float32"), data, 1e-6)
    made = emit(policy, "int16")
    assert_exact(made, data, 1e-3)
    assert {"PAD", "PADV2"} <= set(read(made.content, "net.tflite").operators)
    assert_exact(emit(policy, "int8"), data, 0.15)


@pytest.mark.parametrize("apart", [
    Windows(6, 8, 2, 3, 3, 1, 1, 0, 0, 2, 4, "hwc", dilation_h=2, dilation_w=2),
    Windows(7, 9, 2, 2, 3, 2, 3, 1, 2, 3, 2, "chw", dilation_h=3, dilation_w=2),
    Windows(1, 14, 3, 1, 3, 1, 2, 0, 1, 1, 5, "chw", dilation_w=3),
])
def test_pooling_with_dilation(emit: Emit, apart: Windows) -> None:
    policy = Policy("net", (Pool(apart, "max"),), np.tile([-1.0, 1.0], (apart.inputs, 1)))
    data = noise(0, policy, 6)
    assert_close(emit(policy, "float32"), data, 1e-6)
    assert_exact(emit(policy, "int16"), data, 1e-4)
    assert_exact(emit(policy, "int8"), data, 1e-2)


@pytest.mark.parametrize("scheme", ["int16", "int8"])
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_always_the_largest_takes_no_kernel(emit: Emit, scheme: str, order: int) -> None:
    """A softmax of which one value is the largest whatever comes, first or last."""
    dense = Dense(np.array([[0.5, 0.2], [0.3, -0.1], [0.1, 0.4]]), np.array([30.0, -30.0, -31.0])[::order])
    policy = Policy("net", (dense, Softmax(3)), np.tile([-1.0, 1.0], (2, 1)))
    made, data = emit(policy, scheme, proved=False), noise(0, policy, 10)
    model = made.artifact.model(data)
    for runtime in EXACT:
        found = made.artifact.run(made.folder, data, runtime).trace
        np.testing.assert_array_equal(found.raw_y, model.raw_y)
    assert model.y[..., ::order][..., 0].min() > {"int16": 0.999, "int8": 0.75}[scheme]
    quick = made.artifact.run(made.folder, data, "litert-xnnpack").trace
    assert np.abs(quick.y - model.y).max() <= {"int16": 1e-3, "int8": 0.02}[scheme]


@pytest.mark.parametrize("scheme", ["int16", "int8"])
def test_a_sum_that_is_always_zero_has_a_scale(emit: Emit, scheme: str) -> None:
    """A relu of two sums that is never above 0, beside one that is: kernels end the process at too fine a scale."""
    cell = Rnn(np.full((2, 2), 0.3), np.full((2, 2), 0.2), np.array([-30.0, -40.0]), "relu")
    policy = Policy("net", (Dense(np.eye(2), np.array([20.0, 0.0])), cell), np.tile([-1.0, 1.0], (2, 1)))
    made, data = emit(policy, scheme), noise(0, policy, 10)
    for runtime in EXACT:
        assert not made.artifact.run(made.folder, data, runtime).trace.y.any()


def test_a_mean_with_dilation_is_refused(emit: Emit) -> None:
    apart = Pool(Windows(6, 8, 2, 3, 3, 1, 1, 0, 0, 2, 4, "hwc", dilation_h=2, dilation_w=2), "avg")
    policy = Policy("net", (apart,), np.tile([-1.0, 1.0], (apart.inputs, 1)))
    with pytest.raises(Unsupported, match=r"TFLite's pooling has no dilation; use dilation 1, or target 'c'"):
        emit(policy, "float32", proved=False)


def test_windows_short_of_the_frame_are_refused_for_a_policy(emit: Emit) -> None:
    short = Pool(windows(rows=3), "max")
    policy = Policy("net", (short,), np.tile([-1.0, 1.0], (short.inputs, 1)))
    with pytest.raises(Unsupported, match="stops short of the end of its frame of 6 x 8"):
        emit(policy, "float32", proved=False)


def test_sums_that_32_bits_do_not_hold_are_refused() -> None:
    long = Windows(1, 1, 70_000, 1, 1, 1, 1, 0, 0, 1, 1, "hwc")
    layer = Conv2d(long, np.linspace(0.99, 1.0, 70_000).reshape(1, 1, 1, -1), np.zeros(1))
    made = integer_program(lower(Policy("net", (layer,), np.tile([-1.0, 1.0], (70_000, 1)))), {}, wide=False)
    with pytest.raises(Unsupported, match=r"a sum of 70000 products .*use --quant int16"):
        integer_graph(made, INT8, 1.0)
