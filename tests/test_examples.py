"""The shipped networks do what they were trained for, and what they were trained by still runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from examples.cartpole import plant
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.semantics.run import Executor, run

EXAMPLES = Path(__file__).parent.parent / "examples"
CARTPOLE = EXAMPLES / "cartpole" / "policy.safetensors"
SINE = EXAMPLES / "sine" / "policy.safetensors"


@pytest.fixture(scope="module")
def cartpole() -> Policy:
    return ncpc.load(CARTPOLE)


@pytest.fixture(scope="module")
def sine() -> Policy:
    return ncpc.load(SINE)


@pytest.fixture(scope="module")
def evaluate(require_tool: Any) -> Any:
    require_tool("gymnasium")
    from examples.cartpole import evaluate

    return evaluate


@pytest.fixture(scope="module")
def cartpole_training(require_tool: Any) -> Any:
    require_tool("ncps.torch")
    from examples.cartpole import train

    return train


@pytest.fixture(scope="module")
def sine_training(require_tool: Any) -> Any:
    require_tool("ncps.torch")
    from examples.sine import train

    return train


def returns(policy: Policy, count: int, seed: int) -> np.ndarray[Any, Any]:
    """Steps balanced, (count,), by the float64 policy on ``count`` perturbed carts at once."""
    rng = np.random.default_rng(seed)
    plants, executor = plant.perturbed(rng, count), Executor(fix_dt(lower(policy), policy.dt.nominal))
    state, alive, total = rng.uniform(-0.05, 0.05, (count, 4)), np.ones(count, bool), np.zeros(count)
    executor.reset(count)
    for _ in range(plant.EPISODE_STEPS):
        y, _, _ = executor.step(state)
        state = plants.advance(state, np.where(y[:, 0] > 0, plants.force, -plants.force))
        total += alive
        alive &= plant.upright(state)
        state[~alive] = 0.0  # so that what fell does not run off to infinity
    return total


def test_cartpole_container_says_what_it_takes(cartpole: Policy) -> None:
    assert CARTPOLE.stat().st_size < 200_000
    assert cartpole.input_names == plant.INPUT_NAMES
    assert cartpole.outputs == 1
    assert cartpole.sample_hz == pytest.approx(50.0)
    assert cartpole.dt.fixed
    [layer] = cartpole.layers
    assert isinstance(layer, Ltc)
    assert layer.roles.count("motor") == 1
    assert {"motor", "command", "inter"} == set(layer.roles)


def test_cartpole_range_covers_every_state_an_episode_may_reach(cartpole: Policy) -> None:
    lo, hi = cartpole.input_range.T
    assert np.all(-lo >= [plant.MAX_POSITION, 3.0, plant.MAX_ANGLE, 3.0])
    assert np.all(hi >= [plant.MAX_POSITION, 3.0, plant.MAX_ANGLE, 3.0])


def test_cartpole_calibration_is_the_closed_loop_from_reset(cartpole: Policy) -> None:
    """Its trajectories are what this very network produces: each next velocity follows from its own answer."""
    assert cartpole.calibration is not None
    x = cartpole.calibration.x
    y = run(lower(cartpole), Sequences(x)).y[:, :, 0]
    # Nudges aside, the velocity changes by force / (about 1.1 kg) * 0.02 s with the sign of the answer.
    change = np.sign(np.diff(x[:, :, 1], axis=1))
    decided = np.abs(y[:, :-1]) > 1e-3
    assert np.mean((change == np.sign(y[:, :-1]))[decided]) > 0.95


def test_plant_is_gymnasiums(evaluate: Any) -> None:
    rng = np.random.default_rng(3)
    plants = plant.perturbed(rng, 4)
    for i in range(len(plants)):
        env = plant.environment(plants, i)
        x, _ = env.reset(seed=i)
        one = plant.Plants(plants.half_length[i : i + 1], plants.force[i : i + 1])
        state = np.array(env.unwrapped.state)[None]
        for _ in range(60):
            action = int(rng.random() < 0.5)
            x, _, ended, _, _ = env.step(action)
            state = one.advance(state, np.where([action], one.force, -one.force))
            np.testing.assert_allclose(x, state[0], rtol=1e-6, atol=1e-7)
            assert bool(plant.upright(state)[0]) is not ended
            if ended:
                break


def test_expert_balances_every_perturbed_cart() -> None:
    rng = np.random.default_rng(0)
    plants, gain = plant.perturbed(rng, 200), plant.expert_gain(plant.nominal())
    state = rng.uniform(-0.05, 0.05, (200, 4))
    for _ in range(plant.EPISODE_STEPS):
        state = plants.advance(state, np.where(state @ gain > 0, plants.force, -plants.force))
        assert plant.upright(state).all()


def test_cartpole_network_balances_perturbed_carts(cartpole: Policy) -> None:
    got = returns(cartpole, 100, seed=11)
    assert got.mean() >= 480
    assert got.min() >= 400


def test_a_network_that_was_not_trained_does_not(cartpole_training: Any, tmp_path: Path) -> None:
    """The carts are hard enough to tell: what training starts from drops the pole at once."""
    model = cartpole_training.make_model(cartpole_training.Settings())
    policy = ncpc.save(model, tmp_path / "p.safetensors", input_range=cartpole_training.INPUT_RANGE)
    assert returns(policy, 20, seed=11).mean() < 100


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_network_balances_in_gymnasium(cartpole: Policy, evaluate: Any, seed: int) -> None:
    env = plant.environment(plant.perturbed(np.random.default_rng(seed), 1), 0)
    assert evaluate.drive(evaluate.FloatPolicy(cartpole), env, seed).steps >= 480


def test_cartpole_training_record_is_of_the_scripts_own_settings(cartpole_training: Any, cartpole: Policy) -> None:
    record = json.loads((EXAMPLES / "cartpole" / "training.json").read_text())
    settings = cartpole_training.Settings()
    assert cartpole_training.Settings(**record["settings"]) == settings
    assert len(record["rounds"]) == settings.rounds
    assert record["evaluation"]["mean_return"] >= 480
    [layer] = cartpole.layers
    assert isinstance(layer, Ltc)
    untrained = cartpole_training.make_model(settings)
    assert layer.neurons == settings.units
    assert len(layer.recurrent) == untrained.rnn_cell.sparsity_mask.sum()
    assert len(layer.sensory) == untrained.rnn_cell.sensory_sparsity_mask.sum()
    assert "ncps" in json.dumps(dict(cartpole.provenance))


def test_cartpole_training_runs_and_repeats_itself(cartpole_training: Any, tmp_path: Path) -> None:
    train = cartpole_training
    settings = train.Settings(rounds=1, episodes=6, steps=48, updates=3, batch=8, trials=4)
    first, second = (train.train(settings)[0] for _ in range(2))
    changed = train.make_model(settings)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert np.array_equal(a.detach().numpy(), b.detach().numpy())
    assert not np.array_equal(first.rnn_cell.w.detach().numpy(), changed.rnn_cell.w.detach().numpy())


def test_cartpole_training_writes_a_container_and_a_record(cartpole_training: Any, tmp_path: Path) -> None:
    train = cartpole_training
    settings = train.Settings(rounds=1, episodes=4, steps=24, updates=1, batch=4, trials=4)
    model, history = train.train(settings)
    train.keep(model, settings, history, tmp_path / "quick.safetensors")
    assert ncpc.load(tmp_path / "quick.safetensors").input_names == plant.INPUT_NAMES
    assert json.loads((tmp_path / "training.json").read_text())["rounds"] == history


def test_sine_network_doubles_the_frequency(sine: Policy, sine_training: Any) -> None:
    assert SINE.stat().st_size < 200_000
    x, target = sine_training.draw(np.random.default_rng(21), 50)
    y = run(lower(sine), Sequences(x)).y
    error = np.sqrt(np.mean((y - target)[:, sine_training.SETTLE :] ** 2))
    assert error < 0.06  # the answers' own root mean square is 0.71


def test_sine_training_record_is_of_the_scripts_own_settings(sine_training: Any) -> None:
    record = json.loads((EXAMPLES / "sine" / "training.json").read_text())
    assert sine_training.Settings(**record["settings"]) == sine_training.Settings()
    assert record["rms_error"]["200_held_out"] < 0.06


def test_sine_training_runs(sine_training: Any, tmp_path: Path) -> None:
    assert sine_training.main(["--updates", "3", "-o", str(tmp_path / "quick.safetensors")]) == 0
    assert ncpc.load(tmp_path / "quick.safetensors").inputs == 2
    assert json.loads((tmp_path / "training.json").read_text())["settings"]["updates"] == 3


class Stuck:
    """A device whose output never changes."""

    status = 0

    def __init__(self, answer: float) -> None:
        self.answer = np.array([answer])

    def reset(self) -> None: ...

    def step(self, x: np.ndarray[Any, Any], dt: float | None = None) -> np.ndarray[Any, Any]:
        return self.answer

    def close(self) -> None: ...


def test_evaluate_sees_a_device_that_fails(
    evaluate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ncpc, "open", lambda folder: Stuck(1.0), raising=False)
    assert evaluate.main([str(CARTPOLE.parent), "--episodes", "2", "--json"]) == 1
    got = json.loads(capsys.readouterr().out)
    assert got["summary"]["float_mean_return"] >= 480
    assert got["summary"]["device_mean_return"] < 20
    assert got["summary"]["equal_actions"] < 0.9
    assert all(e["part_at"] is not None for e in got["episodes"])


def test_evaluate_names_a_folder_that_is_no_build(
    evaluate: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(tmp_path) in said
    assert said.count("\n") == 1


def check_closed_loop(evaluate: Any, capsys: pytest.CaptureFixture[str], build: Path, episodes: int) -> None:
    assert evaluate.main([str(build), "--episodes", str(episodes), "--json"]) == 0
    got = json.loads(capsys.readouterr().out)["summary"]
    assert got["float_mean_return"] >= 480
    assert got["device_mean_return"] >= 480
    assert got["equal_actions"] > 0.98
    assert 0 < got["largest_difference"] < 2.4 * 2e-3  # int16's tolerance times the output range


def test_evaluate_on_a_host_build(evaluate: Any, require_tool: Any, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    require_tool("ziglang")
    ncpc.compile(CARTPOLE, tmp_path / "build", target="host")
    capsys.readouterr()
    check_closed_loop(evaluate, capsys, tmp_path / "build", 2)


@pytest.mark.slow
def test_evaluate_on_the_simulated_cortex_m4(evaluate: Any, require_tool: Any, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    require_tool("ziglang")
    require_tool("unicorn")
    ncpc.compile(CARTPOLE, tmp_path / "build", target="cortex-m4")
    capsys.readouterr()
    check_closed_loop(evaluate, capsys, tmp_path / "build", 3)
