"""Convolutions, pooling, normalization and softmax around a cell equal their modules; the C equals the program."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ncpc
from ncpc.cores import load_core
from ncpc.errors import BadInput, ProofFailed, Unsupported
from ncpc.frontend.agreement import run_modules
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.frontend.ncps_torch import import_model
from ncpc.frontend.validate import check_policy
from ncpc.ir.heads import Conv2d, Pool, affordable
from ncpc.ir.policy import Activation, DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.windows import Windows
from ncpc.passes.fold import fold_constants
from ncpc.passes.lower import lower
from ncpc.proofs.prove import prove
from ncpc.semantics.run import run
from ncpc.targets.c.fit import require_fit
from ncpc.targets.c.interface import interface_of
from tests.c_programs import assert_c_is_program, fixed_program, float_program
from tests.head_models import ncps_cells, nn, random_heads, torch

TOLERANCE = 1e-5


def policy_of(modules: list[torch.nn.Module], frame: tuple[int, ...]) -> Policy:
    inputs = int(np.prod(frame))
    return Policy("net", import_model(modules, frame).layers, np.tile([-1.0, 1.0], (inputs, 1)), DtRange())


def frames(seed: int, inputs: int, steps: int) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences(rng.uniform(-1, 1, (2, steps, inputs)), np.ones((2, steps)))


def assert_same(seed: int, steps: int) -> None:
    modules, frame = random_heads(seed)
    policy = policy_of(modules, frame)
    data = frames(seed, policy.inputs, steps)
    expected = run_modules(modules, data, frame, double=True)
    assert np.ptp(expected) > 0
    assert np.abs(run(lower(policy), data).y - expected).max() <= TOLERANCE


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**30))
def test_policy_equals_modules(seed: int) -> None:
    assert_same(seed, 20)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_policy_equals_modules_for_many(seed: int) -> None:
    assert_same(seed, 200)


@pytest.mark.parametrize("seed", range(4))
def test_saved_policy_comes_back_unchanged(seed: int, tmp_path: Path) -> None:
    policy = policy_of(*random_heads(seed))
    write_policy(policy, tmp_path / "p.safetensors")
    assert policy_bytes(read_policy(tmp_path / "p.safetensors")) == policy_bytes(policy)


def test_frames_are_saved_and_checked(tmp_path: Path) -> None:
    modules, frame = random_heads(3)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 6, *frame))
    policy = ncpc.save(modules, tmp_path / "p.safetensors", calibration=x, input_shape=frame)
    assert policy.calibration is not None
    assert np.array_equal(policy.calibration.x, x.reshape(2, 6, -1))
    assert (policy.input_range == policy.input_range[0]).all(), "the numbers of a frame share one range"
    assert policy.input_range[0, 0] <= x.min() < x.max() <= policy.input_range[0, 1]


def test_steps_of_frames_fit_a_budget_of_products() -> None:
    windows = Windows(4, 4, 1, 3, 3, 1, 1, 0, 0, 2, 2, "hwc")
    layer = Conv2d(windows, np.ones((2, 3, 3, 1)), np.zeros(2))
    assert affordable((), 10**6, budget=1) == 10**6
    assert affordable((layer,), 100, budget=10 * 72) == 10
    assert affordable((layer,), 100, times=5, budget=50 * 72) == 10
    assert affordable((layer,), 100, fewest=20, budget=10 * 72) == 20
    assert affordable((layer,), 3, fewest=20, budget=10 * 72) == 3


def test_a_core_that_is_too_small_is_named_with_numbers() -> None:
    modules = [nn.Conv2d(1, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 39 * 39, 2)]
    program = float_program(policy_of([*modules, ncps_cells.CfC(2, 2)], (1, 80, 80)))
    with pytest.raises(ProofFailed, match=r"net needs at least [\d,]+ bytes of RAM .* cortex-m4 has [\d,]+"):
        require_fit(interface_of(program), load_core("cortex-m4"))


def test_arrays_that_do_not_live_together_share_bytes() -> None:
    modules = [nn.Conv1d(1, 4, 3), nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3), nn.Flatten(), nn.Linear(4 * 94, 2)]
    face = interface_of(float_program(policy_of([*modules, ncps_cells.CfC(2, 2)], (1, 100))))
    spans = {array.value: (array.offset, array.offset + array.size * array.ctype.bytes) for array in face.arena}
    first, second, third = (spans[name] for name in ("conv_y", "conv_y_2", "conv_y_3"))
    assert first[1] <= second[0] or second[1] <= first[0], "read while the other is written"
    assert max(first[0], third[0]) < min(first[1], third[1]), "the first is done with when the third is made"


def test_frame_of_unknown_shape_is_refused(tmp_path: Path) -> None:
    modules, _ = random_heads(3)
    with pytest.raises(BadInput, match="give input_shape"):
        ncpc.save(modules, tmp_path / "p.safetensors", input_range=(-1, 1))


def test_normalization_behind_an_activation_goes_into_what_follows() -> None:
    head = [nn.Conv2d(1, 2, 3), nn.Tanh(), nn.BatchNorm2d(2)]
    tails = {"conv2d": [nn.Conv2d(2, 2, 2), nn.Flatten()], "dense": [nn.Flatten(), nn.Linear(50, 4)]}
    for kind, tail in tails.items():
        cell = ncps_cells.CfC(32 if kind == "conv2d" else 4, 2)
        layers = policy_of([*head, *tail, nn.Tanh(), cell], (1, 7, 7)).layers
        assert [layer.kind for layer in layers] == ["conv2d", "activation", kind, "activation", "cfc"]
    padded = policy_of([*head, nn.Conv2d(2, 2, 3, padding=1), nn.Flatten(), ncps_cells.CfC(50, 2)], (1, 7, 7)).layers
    assert [layer.kind for layer in padded] == ["conv2d", "activation", "conv2d", "conv2d", "cfc"]


@pytest.mark.parametrize(("module", "words"), [
    (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "use 'zeros'"),
    (nn.MaxPool2d(2, return_indices=True), "use return_indices=False"),
    (nn.AvgPool2d(2, divisor_override=3), "use divisor_override=None"),
    (nn.AvgPool2d(3, padding=1, ceil_mode=True), "use count_include_pad=False or ceil_mode=False"),
    (nn.AdaptiveAvgPool2d(3), "use sizes that divide the frame"),
    (nn.RMSNorm(8), "use LayerNorm instead"), (nn.InstanceNorm2d(2), "use GroupNorm instead"),
    (nn.Softplus(beta=2.0), "use beta=1"), (nn.Mish(), "use SiLU instead"),
    (nn.PReLU(2), "use num_parameters=1"), (nn.GELU(approximate="tanh"), "use 'none'"),
    (nn.Linear(8, 2), "put a Flatten before it"),
])
def test_what_cannot_be_read_is_refused_with_the_nearest_alternative(module: torch.nn.Module, words: str) -> None:
    with pytest.raises(Unsupported, match=f"cannot be read.*{words}|takes windows of different sizes; {words}|{words}"):
        import_model([module, nn.Flatten(), ncps_cells.CfC(4, 2)], (2, 8, 8))


def test_records_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    conv, *rest = policy_of([nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), ncps_cells.CfC(144, 2)], (2, 8, 8)).layers
    assert isinstance(conv, Conv2d)
    wrong = {
        "do not fall into groups": replace(conv, weight=conv.weight[:3], bias=conv.bias[:3]),
        "dilation_w is 0": replace(conv, windows=replace(conv.windows, dilation_w=0)),
        "last window begins outside": replace(conv, windows=replace(conv.windows, rows=20)),
    }
    for words, layer in wrong.items():
        with pytest.raises(BadInput, match=words):
            check_policy(Policy("net", (layer, *rest), np.tile([-1.0, 1.0], (128, 1))), "net")
    pool = Pool(Windows(4, 4, 1, 2, 2, 1, 1, 1, 1, 6, 6, "chw"), "max")
    with pytest.raises(BadInput, match="begins outside the frame of 4 x 4"):
        check_policy(Policy("net", (pool,), np.tile([-1.0, 1.0], (16, 1))), "net")
    slopes = Activation("leaky_relu", 4)
    with pytest.raises(BadInput, match="leaky_relu has 0 parameters, expected 1"):
        check_policy(Policy("net", (slopes,), np.tile([-1.0, 1.0], (4, 1))), "net")


def test_window_larger_than_the_frame_is_refused() -> None:
    with pytest.raises(BadInput, match="does not fit its input of 3 x 3"):
        import_model([nn.Conv2d(1, 1, 5), nn.Flatten(), ncps_cells.CfC(1, 2)], (1, 3, 3))


def test_dilated_pooling_beyond_the_frame_equals_its_module(tmp_path: Path) -> None:
    modules = [nn.MaxPool2d(2, stride=2, padding=1, dilation=2, ceil_mode=True), nn.Flatten(), ncps_cells.CfC(32, 2)]
    policy = policy_of(modules, (2, 7, 6))
    data = frames(1, policy.inputs, 5)
    assert np.abs(run(lower(policy), data).y - run_modules(modules, data, (2, 7, 6), double=True)).max() <= TOLERANCE
    assert_c_is_program(fixed_program(policy), tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_c_equals_the_program(seed: int, tmp_path: Path) -> None:
    policy = policy_of(*random_heads(seed))
    assert_c_is_program(float_program(policy), tmp_path)


@pytest.mark.parametrize(("seed", "scheme"), [(0, "int16"), (1, "int8"), (2, "int16")])
def test_integer_c_equals_the_program_that_is_proved(seed: int, scheme: str, tmp_path: Path) -> None:
    require_integers(seed, scheme, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int16", "int8"])
@pytest.mark.parametrize("seed", range(3, 33))
def test_integer_c_equals_the_program_for_many(seed: int, scheme: str, tmp_path: Path) -> None:
    require_integers(seed, scheme, tmp_path)


def require_integers(seed: int, scheme: str, folder: Path) -> None:
    policy = policy_of(*random_heads(seed))
    program = fold_constants(fixed_program(policy, scheme))
    prove(program)
    assert_c_is_program(program, folder)
    data = frames(seed, policy.inputs, 30)
    expected = run(lower(policy), data).y
    error = np.abs(run(program, data).y - expected).max() / np.ptp(expected)
    assert error <= {"int16": 4e-3, "int8": 0.15}[scheme]


def test_softplus_is_read() -> None:
    modules = [nn.Linear(3, 4), nn.Softplus(), ncps_cells.CfC(4, 2)]
    policy, data = policy_of(modules, (3,)), frames(0, 3, 20)
    assert [layer.kind for layer in policy.layers] == ["dense", "activation", "cfc"]
    assert np.abs(run(lower(policy), data).y - run_modules(modules, data, (3,), double=True)).max() <= 1e-6
