"""The bilinear view of an LTC against finite differences, and against what the cell does in a short step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.cli import run as cli
from ncpc.frontend.container import write_policy
from ncpc.ir.policy import Activation, DtRange, Policy
from ncpc.passes.lower import lower
from ncpc.report.bilinear import linearize, slope
from ncpc.semantics.run import Executor
from tests.nets import random_ltc, random_policy


def point(seed: int, neurons: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.8, neurons), rng.uniform(-1, 1, inputs)


def directions(size: int, step: float) -> np.ndarray:
    return np.eye(size) * step


@pytest.mark.parametrize("seed", range(5))
def test_matrices_are_the_slopes_derivatives(seed: int) -> None:
    layer = random_ltc(seed)
    v, x = point(seed, layer.neurons, layer.inputs)
    found, h = linearize(layer, v, x), 1e-5
    a = np.stack([(slope(layer, v + d, x) - slope(layer, v - d, x)) / (2 * h) for d in directions(layer.neurons, h)], 1)
    c = np.stack([(slope(layer, v, x + d) - slope(layer, v, x - d)) / (2 * h) for d in directions(layer.inputs, h)], 1)
    b = np.stack([(linearize(layer, v, x + d).a - linearize(layer, v, x - d).a) / (2 * h)
                  for d in directions(layer.inputs, h)])
    for got, expected in ((found.a, a), (found.c, c), (found.b, b)):
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(got, expected, atol=1e-7 * np.abs(expected).max() + 1e-8)


def test_slope_is_that_of_the_cell_itself() -> None:
    """One step of a tiny timespan moves the state by that much of the slope."""
    policy, dt = random_policy(3, DtRange(1e-7, 1.0)), 1e-6
    layer = policy.layers[0]
    v, x = point(3, layer.neurons, layer.inputs)  # type: ignore[attr-defined]
    executor = Executor(lower(policy))
    executor.reset(1)
    executor.load({"v": v[None]})
    _, (after,), _ = executor.step(x[None], np.array([dt]))
    np.testing.assert_allclose((after[0] - v) / dt, slope(layer, v, x), rtol=1e-4, atol=1e-4)  # type: ignore[arg-type]


def test_command_writes_the_matrices_around_a_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = random_policy(1)
    write_policy(policy, tmp_path / "p.safetensors")
    v, x = point(1, policy.layers[0].neurons, policy.inputs)  # type: ignore[attr-defined]
    np.savez(tmp_path / "at.npz", v=v, x=x)
    out = tmp_path / "ab.npz"
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(out),
                "--around", str(tmp_path / "at.npz")]) == 0
    assert "A (8, 8), B (3, 8, 8), C (8, 3)" in capsys.readouterr().out
    with np.load(out) as found:
        np.testing.assert_array_equal(found["A"], linearize(policy.layers[0], v, x).a)  # type: ignore[arg-type]


def test_command_settles_where_no_state_is_given(tmp_path: Path) -> None:
    write_policy(random_policy(2), tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(tmp_path / "ab.npz")]) == 0
    with np.load(tmp_path / "ab.npz") as found:
        assert np.abs(found["f0"]).max() < 1e-6


@pytest.mark.parametrize("arguments", [["--around", "at.npz"], ["--linearize", "ab.json"]])
def test_wrong_options_are_refused(arguments: list[str], tmp_path: Path) -> None:
    write_policy(random_policy(2), tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), *arguments]) == 2


def test_policy_of_several_layers_is_refused(tmp_path: Path) -> None:
    layer = random_ltc(0)
    policy = Policy("net", (layer, Activation("tanh", layer.outputs)), np.tile([-1.0, 1.0], (layer.inputs, 1)))
    write_policy(policy, tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(tmp_path / "ab.npz")]) == 2
    assert not (tmp_path / "ab.npz").exists()
