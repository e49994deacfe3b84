"""Normalization by mean and variance, and the square root it takes: over the reals, in C, in integers, from torch."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest

from ncpc.cores.toolchain import build_host_library
from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.errors import BadInput
from ncpc.frontend.agreement import run_modules
from ncpc.frontend.validate import check_policy
from ncpc.ir.heads import Norm
from ncpc.ir.policy import F64, Dense, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.proofs.prove import prove
from ncpc.semantics.run import run
from ncpc.targets.c.support import support
from tests.c_programs import assert_c_is_program, fixed_program, program_of
from tests.layer_policies import sequences
from tests.nets import random_ltc

CASES = [(1, 6, 1e-5), (2, 8, 1e-5), (4, 12, 1e-3), (3, 9, 1e-5), (1, 64, 1e-3), (1, 6, 1e-12)]
"""Groups, width, epsilon."""


def norm(groups: int, width: int, epsilon: float) -> Norm:
    rng = np.random.default_rng(width)
    return Norm(rng.uniform(0.5, 1.5, width), rng.normal(size=width), groups, epsilon)


def normalized(layer: Norm, x: F64) -> F64:
    parts = x.reshape(*x.shape[:-1], layer.groups, -1)
    n = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + layer.epsilon)
    return layer.weight * n.reshape(x.shape) + layer.bias


def policy_of(*layers: Layer, calibrated: bool = False) -> Policy:
    inputs = layers[0].inputs
    data = Sequences(np.random.default_rng(0).uniform(-1, 1, (4, 60, inputs))) if calibrated else None
    return Policy("net", layers, np.tile([-1.0, 1.0], (inputs, 1)), calibration=data)


def dense(outputs: int, inputs: int) -> Dense:
    rng = np.random.default_rng(outputs)
    return Dense(rng.normal(size=(outputs, inputs)), rng.normal(size=outputs))


def data_for(policy: Policy) -> Sequences:
    """Noise, a tenth of it, and values that are all the same."""
    x = np.random.default_rng(3).uniform(-1, 1, (3, 40, policy.inputs))
    x[1], x[2] = x[1] * 0.1, x[2, :, :1]
    return Sequences(x)


@pytest.mark.parametrize("case", CASES)
def test_norm_is_what_numpy_computes(case: tuple[int, int, float]) -> None:
    layer = norm(*case)
    policy = policy_of(layer)
    data = data_for(policy)
    np.testing.assert_allclose(run(lower(policy), data).y, normalized(layer, data.x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("layer", "problem"), [
    (Norm(np.ones(6), np.zeros(5)), r"bias has shape \(5,\), expected \(6,\)"),
    (Norm(np.ones((2, 3)), np.zeros((2, 3))), r"weight has shape \(2, 3\), expected \(width,\)"),
    (Norm(np.ones(6), np.zeros(6), 4), "6 values do not fall into 4 groups of equal size"),
    (Norm(np.ones(6), np.zeros(6), 0), "6 values do not fall into 0 groups"),
    (Norm(np.ones(6), np.zeros(6), 6), "6 groups hold one value each, of which the bias alone is left"),
    (Norm(np.ones(6), np.zeros(6), 1, 0.0), "epsilon is 0, but it must be positive"),
])
def test_wrong_norm_is_refused(layer: Norm, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        check_policy(Policy("net", (layer,), np.tile([-1.0, 1.0], (6, 1))), "net")


@pytest.mark.parametrize("scheme", ["float32", "int16", "int8"])
@pytest.mark.parametrize("case", CASES)
def test_c_is_program(case: tuple[int, int, float], scheme: str, tmp_path: Path) -> None:
    layer = norm(*case)
    policy = policy_of(dense(layer.inputs, 4), layer, dense(2, layer.inputs))
    if scheme == "float32":  # of hostile inputs, squares are infinite
        policy = policy_of(layer)
    assert_c_is_program(program_of(policy, scheme, "fixed"), tmp_path, inputs=lambda *_: data_for(policy))


@pytest.mark.parametrize(("scheme", "most", "rms"), [("int16", 1e-3, 1e-4), ("int8", 6e-2, 1.2e-2)])
@pytest.mark.parametrize("case", CASES)
def test_integers_are_proved_and_close(case: tuple[int, int, float], scheme: str, most: float, rms: float) -> None:
    """Where the inputs of a part are nearly alike, what 8 bits of them err by is made large, in few steps."""
    layer = norm(*case)
    policy = policy_of(dense(layer.inputs, 4), layer, dense(2, layer.inputs))
    program, data = fixed_program(policy, scheme), Sequences(np.random.default_rng(5).uniform(-1, 1, (2, 200, 4)))
    prove(program)
    exact, found = run(lower(policy), data), run(program, data)
    error = (found.y - exact.y) / np.ptp(exact.y)
    assert np.abs(error).max() <= most
    assert np.sqrt(np.mean(error**2)) <= rms
    assert not found.flags.any()


def test_values_that_are_all_the_same_become_the_bias_in_integers() -> None:
    """Their variance is 0: epsilon alone is divided by."""
    layer = norm(1, 6, 1e-5)
    policy = policy_of(layer)
    data = Sequences(np.full((1, 3, 6), 0.7))
    found = run(fixed_program(policy), data)
    np.testing.assert_allclose(found.y, np.broadcast_to(layer.bias, found.y.shape), atol=2e-3)


def test_one_norm_behind_another_keeps_its_own_parts() -> None:
    policy = policy_of(dense(6, 4), norm(1, 6, 1e-5), norm(2, 6, 1e-3), norm(3, 6, 1e-1))
    data = sequences(4)
    program = fixed_program(policy)
    prove(program)
    exact = run(lower(policy), data).y
    assert np.abs(run(program, data).y - exact).max() <= 2e-3 * np.ptp(exact)


def test_small_policy_holds_the_tolerance_of_int16(tmp_path: Path) -> None:
    policy = policy_of(dense(6, 4), norm(1, 6, 1e-5), random_ltc(0, inputs=6), dense(1, 2), calibrated=True)
    for scheme in ("int16", "float32"):
        outcome = compile_policy(policy, tmp_path / scheme, Request("host", scheme, steps=200))  # type: ignore[arg-type]
        assert outcome.holds, outcome.report["verdict"]["reasons"]


def roots(folder: Path) -> ctypes.CDLL:
    """The C of a root, for an array."""
    text = "\n".join(["#include <stdint.h>", *support({"sqrt_f"}), """
void roots(const float *a, float *root, int n);
void roots(const float *a, float *root, int n)
{
    for (int i = 0; i < n; i++) {
        root[i] = sqrt_f(a[i]);
    }
}
"""])
    (folder / "roots.so").write_bytes(build_host_library({"roots.c": text.encode()}))
    return ctypes.CDLL(str(folder / "roots.so"))


def test_roots_in_c_are_correctly_rounded(tmp_path: Path) -> None:
    """Bits of every exponent, subnormal numbers, infinity, NaN and what is negative."""
    rng = np.random.default_rng(0)
    bits = np.concatenate([rng.integers(0, 1 << 32, 400_000), np.arange(3000), (np.arange(256) << 23),
                           (np.arange(256) << 23) - 1, [0x7F800000, 0x7FC00000, 0x80000000, 0xFF800000]])
    a = (bits & 0xFFFFFFFF).astype(np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        exact = np.sqrt(np.where(a > 0, a, np.float32(0)).astype(np.float64)).astype(np.float32)
    found = np.empty_like(a)
    roots(tmp_path).roots(a.ctypes.data_as(ctypes.c_void_p), found.ctypes.data_as(ctypes.c_void_p), len(a))
    np.testing.assert_array_equal(found.view(np.uint32), exact.view(np.uint32))


TORCH = [
    (lambda nn: [nn.LayerNorm(5)], (5,)), (lambda nn: [nn.LayerNorm(5, elementwise_affine=False, eps=1e-3)], (5,)),
    (lambda nn: [nn.LayerNorm(5, bias=False)], (5,)), (lambda nn: [nn.Linear(3, 6), nn.LayerNorm(6)], (3,)),
    (lambda nn: [nn.GroupNorm(2, 6)], (6,)), (lambda nn: [nn.GroupNorm(3, 6, affine=False)], (6, 4)),
    (lambda nn: [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4, eps=1e-4), nn.Flatten()], (1, 6, 5)),
    (lambda nn: [nn.Conv2d(1, 4, 3), nn.LayerNorm((4, 4, 3)), nn.Flatten()], (1, 6, 5)),
    (lambda nn: [nn.Conv1d(2, 3, 3), nn.ReLU(), nn.LayerNorm(8), nn.Flatten()], (2, 10)),
]


@pytest.mark.parametrize("case", range(len(TORCH)))
def test_modules_of_torch_are_read(case: int) -> None:
    torch = pytest.importorskip("torch")
    from ncpc.frontend.ncps_torch import import_model

    make, shape = TORCH[case]
    torch.manual_seed(case)
    modules = make(torch.nn)
    for parameter in (p for module in modules for p in module.parameters()):
        parameter.data += 0.3 * torch.randn_like(parameter)
    width = torch.nn.Sequential(*modules)(torch.zeros(1, *shape)).reshape(-1).shape[0]
    modules += [torch.nn.Flatten()] * (len(shape) > 1) + [torch.nn.RNN(width, 3, batch_first=True)]
    layers = import_model(modules, shape).layers
    assert "norm" in {layer.kind for layer in layers}
    data = Sequences(np.random.default_rng(1).uniform(-1, 1, (2, 9, int(np.prod(shape)))))
    expected = run_modules(modules, data, shape, double=True)
    assert np.abs(run(lower(policy_of(*layers)), data).y - expected).max() <= 1e-9


@pytest.mark.parametrize(("make", "shape", "words"), [
    (lambda nn: nn.LayerNorm(4), (5,), r"normalizes values of shape \(4,\), but its input has shape \(5,\)"),
    (lambda nn: nn.GroupNorm(2, 6), (4, 3, 3), r"normalizes 6 channels, but its input of shape \(4, 3, 3\) has 4"),
])
def test_modules_that_do_not_fit_are_refused(make: object, shape: tuple[int, ...], words: str) -> None:
    torch = pytest.importorskip("torch")
    from ncpc.frontend.ncps_torch import import_model

    with pytest.raises(BadInput, match=words):
        import_model([make(torch.nn)], shape)  # type: ignore[operator]
