"""The gain that explains an error: of networks whose gain is known in closed form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ncpc
from ncpc.frontend.container import write_policy
from ncpc.ir.cells import NeuralOde
from ncpc.ir.gated import Rnn
from ncpc.ir.policy import Dense, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.report.terminal import amplifies, explanations
from ncpc.semantics.run import run
from ncpc.verification.amplification import amplification

STEPS = 30


def growing(rate: float) -> Policy:
    """One unit, ``dh/dt = tanh(x + rate h)``: near 0 a difference grows by exp(0.6 rate) in a step of 6 * 0.1."""
    cell = NeuralOde(np.ones((1, 1)), np.full((1, 1), rate), np.zeros(1))
    return Policy("growing", (cell,), np.array([[-1.0, 1.0]]), input_names=("x",), output_names=("h",))


def small_inputs(steps: int = STEPS) -> Sequences:
    return Sequences(np.random.default_rng(0).uniform(-1e-5, 1e-5, (1, steps, 1)))


@pytest.mark.parametrize("rate", [0.3, 0.1])
def test_of_a_difference_that_grows_the_gain_is_its_growth_from_the_first_step(rate: float) -> None:
    real, data = lower(growing(rate)), small_inputs()
    found = amplification(real, data, float(np.ptp(run(real, data).state)))
    assert found is not None
    assert found.ahead == STEPS - 1
    assert found.gain == pytest.approx(np.exp(0.6 * rate * (STEPS - 1)), rel=1e-3)


def test_of_a_difference_that_shrinks_the_gain_is_of_the_step_before() -> None:
    real, data = lower(growing(-0.5)), small_inputs()
    found = amplification(real, data, float(np.ptp(run(real, data).state)))
    assert found is not None
    assert found.ahead == 1
    assert found.gain == pytest.approx(np.exp(-0.3), rel=1e-3)


def test_a_reset_forgets_what_came_before_it() -> None:
    data = small_inputs()
    reset = np.zeros((1, STEPS), np.bool_)
    reset[0, 20] = True
    real = lower(growing(0.3))
    found = amplification(real, replace(data, reset=reset), float(np.ptp(run(real, data).state)))
    assert found is not None
    assert found.ahead < 10


def test_without_a_state_there_is_nothing_to_amplify() -> None:
    layer = Dense(np.ones((1, 1)), np.zeros(1))
    policy = Policy("dense", (layer,), np.array([[-1.0, 1.0]]), input_names=("x",), output_names=("y",))
    assert amplification(lower(policy), small_inputs(), 1.0) is None


def test_the_verdict_says_that_the_network_itself_amplifies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    chaos = Rnn(rng.normal(size=(12, 1)), rng.normal(0, 3 / 12**0.5, (12, 12)), np.zeros(12), "tanh")
    policy = replace(growing(0.0), layers=(chaos,), output_names=tuple(f"h{i}" for i in range(12)))
    write_policy(policy, tmp_path / "p.safetensors")
    outcome = ncpc.compile(tmp_path / "p.safetensors", tmp_path / "b", target="host", steps=600)
    assert outcome.report["explanation"]["amplified"]["gain"] > 10
    said = " ".join(explanations(outcome.report))
    assert "amplifies there, in floating point too" in said
    assert "Networks that amplify" in said
    assert json.loads((tmp_path / "b/report.json").read_text()) == outcome.report
    assert "amplifies there" in (tmp_path / "b/report.html").read_text()


def test_of_a_network_that_does_not_amplify_nothing_is_said() -> None:
    """Neither on the terminal nor in the page, which take their words from here."""
    assert amplifies(None) == ""
    assert amplifies({"gain": 0.9, "ahead": 1}) == ""
    assert amplifies({"gain": 50.0, "ahead": 3}).startswith("the network itself amplifies")
