"""The bilinear view of an LTC against finite differences, and against what the cell does in a short step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import root

from ncpc.cli.commands import run as cli
from ncpc.frontend.container import write_policy
from ncpc.ir.gated import Rnn
from ncpc.ir.policy import Activation, Dense, DtRange, Ltc, Policy
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


def without_capacitance(seed: int) -> Ltc:
    """Three of its neurons, which drive each other, have cm = 0."""
    layer = random_ltc(seed)
    return dataclasses.replace(layer, cm=np.where(np.arange(layer.neurons) % 3 == 1, 0.0, layer.cm))


def reduced_slope(layer: Ltc, kept: np.ndarray, v_kept: np.ndarray, x: np.ndarray) -> np.ndarray:
    """dv/dt of the neurons that have one, the others solved for: the equation written out synapse by synapse."""
    gone = np.setdiff1d(np.arange(layer.neurons), kept)

    def currents(v_gone: np.ndarray) -> np.ndarray:
        v = np.zeros(layer.neurons)
        v[kept], v[gone] = v_kept, v_gone
        total = layer.gleak * (layer.vleak - v) - layer.epsilon * v
        for s, source in ((layer.sensory, x * layer.input_w + layer.input_b), (layer.recurrent, v)):
            for k in range(len(s)):
                open_ = s.w[k] / (1 + np.exp(-s.sigma[k] * (source[s.pre[k]] - s.mu[k])))
                total[s.post[k]] += open_ * (s.erev[k] - v[s.post[k]])
        return np.asarray(total)

    solved = root(lambda v_gone: currents(v_gone)[gone], np.zeros(len(gone)), tol=1e-13)
    assert np.abs(solved.fun).max() < 1e-10
    return np.asarray(currents(solved.x)[kept] / layer.cm[kept])


@pytest.mark.parametrize("seed", range(3))
def test_neurons_without_capacitance_are_eliminated(seed: int) -> None:
    """B too: it is how the reduced A changes with each input, at the same state."""
    layer = without_capacitance(seed)
    v, x = point(seed, layer.neurons, layer.inputs)
    found, h = linearize(layer, v, x), 1e-5
    kept, m = found.kept, len(found.kept)
    np.testing.assert_array_equal(kept, np.flatnonzero(layer.cm))
    np.testing.assert_array_equal(found.v[kept], v[kept])

    def f(dv: np.ndarray, dx: np.ndarray) -> np.ndarray:
        return reduced_slope(layer, kept, v[kept] + dv, x + dx)

    still, held = np.zeros(m), np.zeros(layer.inputs)
    a = np.stack([(f(d, held) - f(-d, held)) / (2 * h) for d in directions(m, h)], 1)
    c = np.stack([(f(still, d) - f(still, -d)) / (2 * h) for d in directions(layer.inputs, h)], 1)
    w = 1e-4
    b = np.stack([np.stack([(f(d, e) - f(-d, e) - f(d, -e) + f(-d, -e)) / (4 * w * w) for d in directions(m, w)], 1)
                  for e in directions(layer.inputs, w)])
    assert np.abs(b - b * np.eye(m)).max() > 1e-3
    for got, expected, room in ((found.f0, f(still, held), 1e-9), (found.a, a, 1e-6), (found.c, c, 1e-6),
                                (found.b, b, 1e-4)):
        np.testing.assert_allclose(got, expected, atol=room * max(1.0, np.abs(expected).max()))


def test_command_names_what_it_eliminates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = without_capacitance(1)
    policy = dataclasses.replace(random_policy(1), layers=(layer,))
    write_policy(policy, tmp_path / "p.safetensors")
    out = str(tmp_path / "ab.npz")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", out]) == 0
    assert f"eliminated: {layer.names[1]}, {layer.names[4]}, {layer.names[7]}" in capsys.readouterr().out
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", out, "--around", out]) == 0
    with np.load(out) as found:
        assert (found["A"].shape, found["v"].shape) == ((5, 5), (8,))
        assert list(found["names"]) == [name for i, name in enumerate(layer.names) if i % 3 != 1]
        assert list(found["neurons"]) == list(layer.names)
        assert np.abs(found["f0"]).max() < 1e-6


def test_no_capacitance_at_all_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = dataclasses.replace(random_ltc(1), cm=np.zeros(8))
    write_policy(dataclasses.replace(random_policy(1), layers=(layer,)), tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(tmp_path / "ab.npz")]) == 2
    assert "no neuron has a capacitance" in capsys.readouterr().err


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


@pytest.mark.parametrize("content", ["missing", "text", "cut", "array", "words", "shape", "nothing", "nan"])
def test_wrong_points_are_refused_in_a_line(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, at = random_policy(2), tmp_path / "at.npz"
    write_policy(policy, tmp_path / "p.safetensors")
    n = policy.layers[0].neurons  # type: ignore[attr-defined]
    arrays = {"words": {"v": np.array(["a"])}, "shape": {"v": np.zeros(n + 1)}, "nothing": {"q": np.zeros(n)},
              "nan": {"v": np.full(n, np.nan)}}
    np.savez(at, **arrays.get(content, {"v": np.zeros(n)}))  # type: ignore[arg-type]
    if content == "missing":
        at.unlink()
    elif content == "text":
        at.write_text("v = 0")
    elif content == "cut":
        at.write_bytes(at.read_bytes()[:100])
    elif content == "array":
        with at.open("wb") as file:
            np.save(file, np.zeros(n))
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(tmp_path / "ab.npz"),
                "--around", str(at)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"ncpc: {at}: ")
    assert said.count("\n") == 0
    assert not (tmp_path / "ab.npz").exists()


def surrounded() -> Policy:
    """A dense layer, an LTC, a tanh."""
    layer = random_ltc(0)
    dense = Dense(np.random.default_rng(0).normal(size=(layer.inputs, 2)), np.zeros(layer.inputs))
    return Policy("net", (dense, layer, Activation("tanh", layer.outputs)), np.tile([0.0, 1.0], (2, 1)))


def test_an_ltc_among_layers_is_linearized_where_its_inputs_lead(tmp_path: Path) -> None:
    policy = surrounded()
    write_policy(policy, tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(tmp_path / "ab.npz")]) == 0
    layer = policy.layers[1]
    with np.load(tmp_path / "ab.npz") as found:
        np.testing.assert_allclose(found["x"], policy.layers[0].weight @ [0.5, 0.5])  # type: ignore[attr-defined]
        assert np.abs(found["f0"]).max() < 1e-6
        expected = linearize(layer, found["v"], found["x"])  # type: ignore[arg-type]
        np.testing.assert_array_equal(found["B"], expected.b)
        assert (list(found["names"]), list(found["inputs"])) == (list(layer.names), ["u0", "u1", "u2"])  # type: ignore[attr-defined]


def test_another_cell_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layer = random_ltc(0)
    for layers in ((layer, random_ltc(1, inputs=layer.outputs)),
                   (Rnn(np.zeros((3, 2)), np.zeros((3, 3)), np.zeros(3), "tanh"),)):
        policy = Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)))
        write_policy(policy, tmp_path / "p.safetensors")
        assert cli(["inspect", str(tmp_path / "p.safetensors"), "--linearize", str(tmp_path / "ab.npz")]) == 2
        assert ", ".join(part.kind for part in layers) in capsys.readouterr().err
        assert not (tmp_path / "ab.npz").exists()
