"""The GRU-ODE is its equation by Euler steps, stays in its box as integers, and wrong records are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import Container
from ncpc.frontend.validate import check_policy
from ncpc.ir.gated import GruOde
from ncpc.ir.policy import Dense, DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

INPUTS, UNITS, STEPS = 3, 5, 80


def dense(seed: int) -> Dense:
    rng = np.random.default_rng(seed)
    return Dense(rng.normal(0, 0.6, (UNITS, INPUTS + UNITS)), rng.normal(0, 0.6, UNITS))


def policy_of(unfolds: int, dt: DtRange) -> Policy:
    layer = GruOde(dense(1), dense(2), dense(3), unfolds)
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (INPUTS, 1)), dt)


def data(dt: DtRange, seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return Sequences(rng.uniform(-1, 1, (2, STEPS, INPUTS)), rng.uniform(dt.lo, dt.hi, (2, STEPS)))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def stepped(layer: GruOde, sequences: Sequences) -> np.ndarray:
    """De Brouwer et al. 2019, equation 3, with the input held."""
    h, found = np.zeros((len(sequences.x), UNITS)), []
    assert sequences.dt is not None
    for x, dt in zip(sequences.x.swapaxes(0, 1), sequences.dt.T, strict=True):
        for _ in range(layer.unfolds):
            both = np.concatenate([x, h], axis=1)
            r, z = (sigmoid(both @ gate.weight.T + gate.bias) for gate in (layer.reset, layer.update))
            g = np.tanh(np.concatenate([x, r * h], axis=1) @ layer.detect.weight.T + layer.detect.bias)
            h = h + dt[:, None] / layer.unfolds * (1 - z) * (g - h)
        found.append(h)
    return np.array(found).swapaxes(0, 1)


@pytest.mark.parametrize(("unfolds", "dt"), [(4, DtRange(0.5, 2.0)), (1, DtRange(0.5, 1.8)), (3, DtRange(0.1, 3.0))])
def test_a_step_is_its_equation(unfolds: int, dt: DtRange) -> None:
    """Also where a step is longer than 1, and so no mean any more."""
    policy, sequences = policy_of(unfolds, dt), data(dt)
    layer = policy.layers[0]
    assert isinstance(layer, GruOde)
    np.testing.assert_allclose(run(lower(policy), sequences).y, stepped(layer, sequences), rtol=0, atol=1e-12)


def test_integers_are_accurate_and_proved() -> None:
    dt = DtRange(0.5, 2.0)
    policy = replace(policy_of(4, dt), calibration=data(dt))
    lowered = lower_for(Container(policy, None), CompileOptions(quant="int16", dt="runtime")).lowered
    want, got = run(lowered.real, data(dt, 1)), run(lowered.program, data(dt, 1))
    assert lowered.proved
    assert not got.flags.any()
    assert np.abs(got.y - want.y).max() <= 2e-3 * np.ptp(want.y)


def test_a_step_that_would_be_unstable_is_refused() -> None:
    with pytest.raises(Unsupported, match="neuron 0"):
        lower(policy_of(1, DtRange(0.5, 2.5)))


@pytest.mark.parametrize(("changes", "words"), [
    ({"unfolds": 0}, "unfolds is 0, expected at least 1"),
    ({"reset": Dense(np.ones((UNITS, 4)), np.ones(UNITS))}, r"reset.weight has shape \(5, 4\), expected \(5, 8\)"),
    ({"update": Dense(np.ones((UNITS, 8)), np.ones(4))}, r"update.bias has shape \(4,\), expected \(5,\)"),
    ({"detect": Dense(np.ones((UNITS, UNITS)), np.ones(UNITS))}, "not more than its 5 neurons give back"),
    ({"detect": Dense(np.ones(UNITS), np.ones(UNITS))}, "detect.weight has shape"),
])
def test_a_wrong_record_is_refused(changes: dict[str, object], words: str) -> None:
    policy = policy_of(4, DtRange())
    layer = replace(policy.layers[0], **changes)  # type: ignore[type-var]
    with pytest.raises(BadInput, match=words):
        check_policy(replace(policy, layers=(layer,)), "net")
