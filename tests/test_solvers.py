"""Solvers of ODE cells: order of convergence to a tight solution, and refusal of steps that are unstable."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import ncpc
from ncpc.driver.lowering import lower_for
from ncpc.errors import Unsupported
from ncpc.frontend.container import Container
from ncpc.ir.cells import CtRnn, NeuralOde
from ncpc.ir.gated import Lstm, MixedMemory
from ncpc.ir.policy import DtRange, Layer, Ltc, Policy, Synapses
from ncpc.ir.sequences import Sequences
from ncpc.ir.tableau import TABLEAUS, Tableau
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from tests.nets import random_ltc

INPUTS, DT, STEPS = 3, 0.8, 3
FINE = {"fused": (32, 64, 128), "exponential": (32, 64, 128), "euler": (32, 64, 128), "heun": (32, 64, 128),
        "rk38": (16, 32, 64), "rk4": (16, 32, 64)}
"""Unfolds at which the slope is measured: fine enough for the leading term, coarse enough for float64."""
ORDER = {"fused": 1, "exponential": 1, "euler": 1, "heun": 2, "rk38": 4, "rk4": 4}


def inputs(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (STEPS, INPUTS))


def final_state(layer: Layer, x: np.ndarray) -> np.ndarray:
    policy = Policy("net", (layer,), np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(0.1, 1.0, DT))
    return run(lower(policy), Sequences(x[None], np.full((1, STEPS), DT))).state[0, -1]


def conductances(layer: Ltc, which: str, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s = getattr(layer, which)
    g = s.w / (1 + np.exp(-s.sigma * (u[s.pre] - s.mu)))
    n = layer.neurons
    return np.bincount(s.post, g * s.erev, n), np.bincount(s.post, g, n)


def ltc_slope(layer: Ltc, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    """cm dv/dt = gleak*(vleak - v) - epsilon*v + sum of conductance*(erev - v)."""
    num_s, den_s = conductances(layer, "sensory", x * layer.input_w + layer.input_b)
    num, den = conductances(layer, "recurrent", v)
    leak = layer.gleak * (layer.vleak - v) - layer.epsilon * v
    return np.asarray((leak + num + num_s - (den + den_s) * v) / layer.cm)


def rnn_slope(layer: CtRnn | NeuralOde, x: np.ndarray, h: np.ndarray) -> np.ndarray:
    drive = np.tanh(layer.weight_x @ x + layer.weight_h @ h + layer.bias)
    return np.asarray(drive - h / layer.tau if isinstance(layer, CtRnn) else drive)


def exact(layer: Layer, x: np.ndarray, span: float) -> np.ndarray:
    """The ODE itself, input after input, each held for ``span``."""
    slope = ltc_slope if isinstance(layer, Ltc) else rnn_slope
    v = np.zeros(layer.neurons if isinstance(layer, Ltc) else layer.outputs)
    for held in x:
        step = solve_ivp(lambda _, v, held=held: slope(layer, held, v), (0, span), v, "DOP853", rtol=1e-13, atol=1e-13)
        v = step.y[:, -1]
    return v


def slopes(make: object, unfolds: tuple[int, ...], want: np.ndarray, x: np.ndarray) -> np.ndarray:
    """How fast the error falls: the exponent between successive numbers of unfolds."""
    errors = np.array([np.abs(final_state(make(n), x) - want).max() for n in unfolds])  # type: ignore[operator]
    return -np.diff(np.log(errors)) / np.diff(np.log(unfolds))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", list(ORDER))
def test_ltc_solvers_converge_at_their_order(solver: str, seed: int) -> None:
    layer, x = random_ltc(seed, inputs=INPUTS, solver=solver, epsilon=1e-3), inputs(seed)
    got = slopes(lambda n: dataclasses.replace(layer, unfolds=n), FINE[solver], exact(layer, x, DT), x)
    assert np.abs(got - ORDER[solver]).max() < 0.2


@pytest.mark.parametrize("kind", ["ct_rnn", "neural_ode"])
@pytest.mark.parametrize("solver", list(TABLEAUS))
def test_rnn_solvers_converge_at_their_order(solver: str, kind: str) -> None:
    rng, x, n = np.random.default_rng(3), inputs(3), 5
    weights = rng.normal(size=(n, INPUTS)), rng.normal(size=(n, n)), rng.normal(size=n)
    layer = CtRnn(*weights, rng.uniform(0.5, 2, n)) if kind == "ct_rnn" else NeuralOde(*weights)
    total = 0.6

    def make(unfolds: int) -> Layer:
        return dataclasses.replace(layer, unfolds=unfolds, step=total / unfolds, solver=solver)

    got = slopes(make, FINE[solver], exact(layer, x, total * DT), x)
    assert np.abs(got - ORDER[solver]).max() < 0.2


def test_solvers_agree_with_each_other() -> None:
    layer, x = random_ltc(7, inputs=INPUTS), inputs(7)
    short = (dataclasses.replace(layer, solver=s, unfolds=2000) for s in ("fused", "exponential", "euler"))
    ends = [final_state(steps, x) for steps in short]
    fine = final_state(dataclasses.replace(layer, solver="rk4", unfolds=50), x)
    assert all(0 < np.abs(end - fine).max() < 2e-3 for end in ends)


def fast_ltc(solver: str, unfolds: int, cm: float = 0.01) -> Policy:
    layer = random_ltc(1, inputs=INPUTS, solver=solver, unfolds=unfolds)
    layer = dataclasses.replace(layer, cm=np.full(layer.neurons, cm))
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (INPUTS, 1)))


@pytest.mark.parametrize(("solver", "limit"), [("euler", "2"), ("heun", "2"), ("rk38", "2.785"), ("rk4", "2.785")])
def test_unstable_step_is_refused_with_its_numbers(solver: str, limit: str) -> None:
    with pytest.raises(Unsupported) as caught:
        lower(fast_ltc(solver, 6))
    words = str(caught.value)
    assert f"solver '{solver}' is unstable, step 0.166667 x decay rate" in words
    assert f"exceeds {limit}; use at least" in words
    needed = int(words.split("at least ")[1].split()[0])
    lower(fast_ltc(solver, needed))
    with pytest.raises(Unsupported, match="is unstable"):
        lower(fast_ltc(solver, needed - 1))


def test_a_step_is_a_mean_where_it_is_no_longer_than_tau() -> None:
    """Of the state and of the drives: what ``lower_ct_rnn`` limits its result by. All weights are polynomials in z."""
    for tableau in TABLEAUS.values():
        for z in np.linspace(0, 1, 33):
            slopes: list[np.ndarray] = []
            for row in ((), *tableau.a):
                at = np.eye(1, tableau.stages + 1)[0] + z * sum(float(a) * k for a, k in zip(row, slopes, strict=True))
                slopes.append(np.eye(1, tableau.stages + 1, len(slopes) + 1)[0] - at)
            weights = np.eye(1, tableau.stages + 1)[0] + z * sum(
                float(b) * k for b, k in zip(tableau.b, slopes, strict=True))
            assert weights.min() >= -1e-12
            assert weights.sum() == pytest.approx(1)


def test_a_tableau_is_checked() -> None:
    half = Fraction(1, 2)
    for a, b in (((), (half,)), (((half,), (half,)), (half, half)), (((half,),), (half + 1, -half))):
        with pytest.raises(ValueError, match="adds up to 1"):
            Tableau(a, b)
    assert TABLEAUS["rk4"].growth == (1, 1, half, Fraction(1, 6), Fraction(1, 24))


def test_an_unstable_step_is_refused_inside_a_mixed_memory() -> None:
    policy = fast_ltc("euler", 6)
    cell = policy.layers[0]
    assert isinstance(cell, Ltc)
    gates = np.zeros((4 * cell.neurons, INPUTS)), np.zeros((4 * cell.neurons, cell.neurons)), np.zeros(4 * cell.neurons)
    mixed = MixedMemory(Lstm(*gates), cell, "state")
    with pytest.raises(Unsupported, match="solver 'euler' is unstable"):
        lower(dataclasses.replace(policy, layers=(mixed,)))


def test_what_is_refused_does_diverge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncpc.passes.lower_ltc.refuse_unstable", lambda *given: None)
    x = np.full((1, 30, INPUTS), 1.0)
    assert np.abs(run(lower(fast_ltc("euler", 6)), Sequences(x)).state).max() > 1e6
    assert np.abs(run(lower(fast_ltc("fused", 6)), Sequences(x)).state).max() < 2


def test_fastest_timespan_counts() -> None:
    layer = CtRnn(np.ones((1, INPUTS)), np.zeros((1, 1)), np.zeros(1), np.array([0.05]), step=0.09)
    ranges = np.tile([-1.0, 1.0], (INPUTS, 1))
    lower(Policy("net", (layer,), ranges, DtRange(0.5, 1.0, 1.0)))
    with pytest.raises(Unsupported, match=r"neuron 0: solver 'euler' is unstable, step 0.18 x decay rate 20 = 3.6"):
        lower(Policy("net", (layer,), ranges, DtRange(0.5, 2.0, 1.0)))


@pytest.mark.parametrize("solver", ["rk4", "exponential"])
def test_neuron_without_capacitance_has_no_explicit_step(solver: str) -> None:
    with pytest.raises(Unsupported, match=r"cm = 0.*use solver fused"):
        lower(fast_ltc(solver, 6, cm=0.0))


def test_an_exponential_step_may_go_all_the_way_in_integers() -> None:
    """Nothing is left of exp(-h/tau) anywhere on its table."""
    pytest.importorskip("brevitas")
    lowered = lower_for(Container(fast_ltc("exponential", 1, cm=1e-5)), CompileOptions(quant="int16")).lowered
    x = Sequences(inputs(2)[None])
    assert np.abs(run(lowered.program, x).y - run(lowered.real, x).y).max() < 2e-3


def test_an_exponential_step_needs_a_target() -> None:
    policy = fast_ltc("exponential", 6)
    cell = policy.layers[0]
    assert isinstance(cell, Ltc)
    layer = dataclasses.replace(cell, gleak=0 * cell.gleak, epsilon=0.0)
    with pytest.raises(Unsupported, match=r"gleak \+ epsilon = 0, so it may have no target.*use solver fused"):
        lower(dataclasses.replace(policy, layers=(layer,)))


def test_exponential_steps_of_any_length_stay_between_the_potentials() -> None:
    """And where conductances stand still (no recurrent synapse), any number of them ends where one does."""
    layer, x = random_ltc(5, inputs=INPUTS, solver="exponential"), 9 * inputs(5)
    far = dataclasses.replace(layer, cm=layer.cm * 1e-4)
    ends = np.concatenate([[0.0], layer.vleak, layer.sensory.erev, layer.recurrent.erev])
    assert (ends.min() <= final_state(far, x)).all()
    assert (final_state(far, x) <= ends.max()).all()
    none = Synapses(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)
    alone = [dataclasses.replace(layer, recurrent=none, unfolds=n) for n in (1, 40)]
    assert np.abs(final_state(alone[0], x) - final_state(alone[1], x)).max() < 1e-12
    assert np.abs(final_state(alone[0], x) - exact(alone[0], x, DT)).max() < 1e-9


def test_a_trained_ltc_with_too_few_unfolds_is_not_saved(tmp_path: Path) -> None:
    """A module is read with the solver that it was trained with, or the words say what that needs."""
    cells = pytest.importorskip("ncpc.cells")
    path = tmp_path / "p.safetensors"
    with pytest.raises(Unsupported, match=r"solver 'rk4' is unstable.*use at least \d+ unfolds, or solver fused"):
        ncpc.save(cells.LTC(INPUTS, 12, unfolds=1), path, input_range=(-1, 1), dt=4.0)
    assert not path.exists()
    policy = ncpc.save(cells.LTC(INPUTS, 12, unfolds=32), path, input_range=(-1, 1), dt=4.0)
    assert isinstance(policy.layers[0], Ltc)
    assert (policy.layers[0].solver, policy.layers[0].unfolds) == ("rk4", 32)
