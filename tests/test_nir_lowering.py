"""The threshold lowering: what the integer network computes, against the policy in float64."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpc.errors import BadInput, ProofFailed, Unsupported
from ncpc.ir.policy import Activation, Dense, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower as lower_real
from ncpc.semantics.run import run
from ncpc.targets.nir.box import invariant_box
from ncpc.targets.nir.front import Cell, cell_of
from ncpc.targets.nir.levels import Code, Number, placed_codes, uniform_codes
from ncpc.targets.nir.lower import lower
from ncpc.targets.nir.numbers import SUM_BITS, coded
from ncpc.targets.nir.runs import predicted
from ncpc.targets.nir.sizing import error, sized
from ncpc.targets.nir.spikes import Spikes, predict
from ncpc.targets.nir.study import Study, evidence, generated, study
from ncpc.targets.nir.trajectory import outputs, sensitivity, trajectory
from ncpc.targets.nir.trial import STEPS, lone_errors, shares
from ncpc.verification.sequences import suite
from tests.nets import random_ltc, random_policy


def test_trajectory_is_the_policy() -> None:
    policy = random_policy(3)
    x = generated(policy)[:2, :40]
    expected = run(lower_real(policy), Sequences(x))
    cell = cell_of(policy)
    found = trajectory(cell, x)
    np.testing.assert_allclose(outputs(cell, found), expected.y, rtol=0, atol=1e-12)
    ends = np.swapaxes(found.v[cell.ltc.unfolds :: cell.ltc.unfolds], 0, 1)
    np.testing.assert_allclose(ends, expected.state, rtol=0, atol=1e-12)


def test_sensitivity_is_the_squared_effect_on_the_outputs() -> None:
    """Against finite differences: nudge one neuron at one tick, sum the squares of all later outputs' changes."""
    policy = random_policy(5, neurons=4, outputs=1)
    cell, x = cell_of(policy), generated(random_policy(5, neurons=4, outputs=1))[:1, :6]
    run_ = trajectory(cell, x)
    estimated = sensitivity(cell, run_, probes=3000).v
    for tick, neuron in ((0, 1), (7, 0), (13, 3)):
        exact = _effect(policy, x, tick, neuron)
        assert estimated[tick, 0, neuron] == pytest.approx(exact, rel=0.1, abs=1e-9)


def _effect(policy: Policy, x: np.ndarray, tick: int, neuron: int, h: float = 1e-5) -> float:
    """Squared change of all outputs from ``tick`` on, per squared nudge."""
    cell = cell_of(policy)
    ltc, change = cell.ltc, []
    for nudge in (h, -h):
        v, ys = np.zeros(ltc.neurons), []
        for k in range(x.shape[1] * ltc.unfolds + 1):
            if k == tick:
                v = v + nudge * np.eye(ltc.neurons)[neuron]
            if k and k % ltc.unfolds == 0:
                ys.append(cell.readout(v[: ltc.outputs]))
            if k < x.shape[1] * ltc.unfolds:
                v = _unfold(cell, x[0, k // ltc.unfolds], v)
        change.append(np.array(ys))
    return float((((change[0] - change[1]) / (2 * h)) ** 2).sum())


def _unfold(cell: object, x: np.ndarray, v: np.ndarray) -> np.ndarray:
    ltc = cell.ltc  # type: ignore[attr-defined]
    u = x * ltc.input_w + ltc.input_b
    num, den = ltc.cm * ltc.unfolds * v + ltc.gleak * ltc.vleak, ltc.cm * ltc.unfolds + ltc.gleak + ltc.epsilon
    for s, source in ((ltc.sensory, u), (ltc.recurrent, v)):
        for pre, post, w, sigma, mu, erev in zip(s.pre, s.post, s.w, s.sigma, s.mu, s.erev, strict=True):
            g = w / (1 + np.exp(-sigma * (source[pre] - mu)))
            num[post] += g * erev
            den[post] += g
    return np.asarray(num / den)


@pytest.mark.parametrize("seed", range(6))
def test_the_box_holds_and_is_tight(seed: int) -> None:
    policy = random_policy(seed)
    cell, box = cell_of(policy), invariant_box(cell_of(policy), policy.input_range)
    v = trajectory(cell, generated(policy, seed)).v.reshape(-1, cell.ltc.neurons)
    assert np.all(v >= box[:, 0])
    assert np.all(v <= box[:, 1])
    assert np.all((box[:, 0] <= 0) & (box[:, 1] >= 0))
    assert np.mean(np.ptp(v, axis=0) / np.ptp(box, axis=1)) > 0.3


@cache
def boxed(seed: int) -> tuple[Policy, Cell, np.ndarray]:
    policy = random_policy(seed, neurons=5)
    return policy, cell_of(policy), invariant_box(cell_of(policy), policy.input_range)


@cache
def known_policy(seed: int) -> Study:
    return study(random_policy(seed))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_no_state_in_the_box_leaves_it(seed: int, draw: int) -> None:
    """One unfold from any corner or inner point of the box, for any input in range."""
    policy, cell, box = boxed(seed)
    rng = np.random.default_rng(draw)
    at = rng.choice([0.0, 1.0, rng.random()], cell.ltc.neurons)
    v = box[:, 0] + at * (box[:, 1] - box[:, 0])
    x = rng.choice([-1.0, 1.0, rng.uniform(-1, 1)], policy.inputs)
    after = _unfold(cell, x, v)
    assert np.all(after >= box[:, 0] - 1e-9)
    assert np.all(after <= box[:, 1] + 1e-9)


def _ramp(rest: float = 0.0) -> Number:
    values = np.linspace(-0.2, 0.4, 500)
    return Number(-1.0, 1.0, 0.0, 1 / 512, rest, values, np.full(500, 1 / 500), np.ones(500))


def test_placed_levels_stand_where_the_number_goes() -> None:
    code = placed_codes([_ramp()], 100)[0]
    levels = code.index / 512
    assert np.mean((levels > -0.25) & (levels < 0.45)) > 0.7
    assert levels[0] < -0.7
    assert levels[-1] > 0.7


def test_a_budget_is_kept_and_no_one_goes_without() -> None:
    silent = dataclasses.replace(_ramp(), weight=np.zeros(500))
    for units in (12, 13, 50, 200):
        sizes = [len(code.index) for code in placed_codes([_ramp(), silent, silent], units)]
        assert sum(sizes) <= units
        assert sizes[1:] == [4, 4]
        assert sizes[0] >= units - 9


def test_a_code_decodes_to_its_cell() -> None:
    code: Code = uniform_codes([_ramp(0.1)], 40)[0]
    values = np.random.default_rng(0).integers(-50, 50, len(code.centres))
    weights = code.weights(values)
    for v in np.linspace(-0.99, 0.99, 37):
        cell = int(np.searchsorted(code.index / 512, v, side="right"))
        spikes = np.where(code.below, v < code.index / 512, v >= code.index / 512)
        assert values[code.resting_cell] + spikes @ weights == values[cell]


def test_centres_lie_in_their_cells() -> None:
    code = placed_codes([_ramp()], 60)[0]
    edges = np.array([-1.0, *(code.index / 512), 1.0])
    assert np.all(code.centres >= edges[:-1] - 1e-12)
    assert np.all(code.centres <= edges[1:] + 1e-12)


def test_levels_move_between_the_centres_of_their_cells() -> None:
    """Whatever the phase; and on average they stand in the middle, so that coding does not shift a number."""
    number = _ramp()
    code = placed_codes([number], 60)[0]
    centres = (code.centres - number.origin) / number.step
    levels = code.index[:, None] - code.shifts(1)
    assert np.all(levels > centres[:-1, None])
    assert np.all(levels < centres[1:, None])
    np.testing.assert_allclose(levels.mean(axis=1), (centres[1:] + centres[:-1]) / 2, rtol=0, atol=1e-9)


def test_errors_of_single_numbers_add_up_to_the_networks() -> None:
    """What the sharing of levels rests on: lone errors fall with the square of the levels, and are independent."""
    known = known_policy(8)
    what = coded(known)
    few, many = (placed_codes(what.numbers, units, shares(known)) for units in (1000, 2000))
    lone = lone_errors(known, what, many)
    assert 2.5 < lone_errors(known, what, few).sum() / lone.sum() < 6.0
    x = evidence(known.policy)[0][[0, 1, 3, 4, 6, 7, 9, 11], :STEPS]
    expected = outputs(known.cell, trajectory(known.cell, x))
    net = lower(known, 2004)
    found = net.interface.physical_y(predict(net, net.interface.quantized(x)[0]).y)
    assert 0.5 < np.mean((found - expected) ** 2) / expected.var(axis=(0, 1)).mean() / lone.sum() < 2.0


def test_reset_is_silence() -> None:
    """In the first tick only the first phase and inputs fire: every neuron is in the cell of 0."""
    known = known_policy(8)
    net = lower(known, 400)
    run_ = predict(net, net.interface.quantized(generated(known.policy)[:2, :3])[0], keep=True)
    assert run_.spikes is not None
    neurons = slice(int(net.interface.starts[net.interface.sensed]), int(net.interface.starts[-1]))
    assert not run_.spikes[0][:, neurons].any()
    ring = run_.spikes[:, 0, net.interface.starts[-1] :]
    assert np.array_equal(ring, np.eye(4, dtype=bool)[np.arange(len(ring)) % 4])


def test_spikes_form_thermometers() -> None:
    """Whatever the phase, a number's units fire as a thermometer: never above a silent one."""
    known = known_policy(8)
    net = lower(known, 500)
    spikes = predict(net, net.interface.quantized(generated(known.policy)[:3, :30])[0], keep=True).spikes
    face = net.interface
    assert spikes is not None
    for k in range(len(face.below)):
        units = spikes[..., face.starts[k] : face.starts[k + 1]].copy()
        units[..., : face.below[k]] = ~units[..., : face.below[k]]
        assert np.all(np.diff(units.astype(int), axis=-1) <= 0)


@pytest.mark.parametrize("changes", [
    {}, {"unfolds": 1}, {"neurons": 3, "outputs": 3, "inputs": 1}, {"epsilon": 0.1, "density": 0.9},
])
def test_error_falls_with_units(changes: dict[str, object]) -> None:
    policy = random_policy(11, **changes)
    known, x = study(policy), generated(random_policy(11, **changes), 9)
    coarse, fine = error(known, lower(known, 300), x), error(known, lower(known, 2400), x)
    assert fine < 0.03
    assert fine < 0.5 * coarse


def test_placed_levels_beat_uniform_ones() -> None:
    policy = random_policy(4, neurons=10, density=0.3)
    known, x = study(policy), generated(policy, 9)
    expected = outputs(known.cell, trajectory(known.cell, x))
    rmse = []
    for uniform in (False, True):
        net = lower(known, 1200, uniform)
        y = net.interface.physical_y(predict(net, net.interface.quantized(x)[0]).y)
        rmse.append(float(np.sqrt(np.mean((y - expected) ** 2))))
    assert rmse[0] < 0.8 * rmse[1]


@pytest.mark.parametrize("seed", range(2))
def test_every_sum_is_exact_in_float32(seed: int) -> None:
    """Partial sums of decode and encode stay below 2^24 in their grids, drives below 2^SUM_BITS."""
    policy = random_policy(seed, density=0.8)
    front = Dense(np.random.default_rng(seed).uniform(-1, 1, (3, 3)), np.zeros(3))
    for layers in (policy.layers, (front, *policy.layers)):
        net = lower(study(dataclasses.replace(policy, layers=layers)), 800)
        assert np.abs(net.decode).sum(axis=1).max() < 2**23
        raw = net.interface.quantized(np.sign(generated(policy)[:4]))[0]
        spikes = predict(net, raw, keep=True).spikes
        assert spikes is not None
        s = spikes[:-1, 0].astype(np.int64)
        recurrent, seen = (s @ net.decode.T) @ net.encode.T, np.repeat(raw[0], net.interface.unfolds, axis=0)
        drive = recurrent + seen @ net.weight.T + net.bias
        assert np.abs(recurrent).max() < 2**SUM_BITS
        assert 2 ** (SUM_BITS - 6) < np.abs(drive).max() < 2**SUM_BITS


def test_a_dense_front_with_an_activation_costs_no_spikes() -> None:
    rng = np.random.default_rng(0)
    front = Dense(rng.uniform(-1, 1, (3, 5)), rng.uniform(-0.2, 0.2, 3))
    back = Dense(rng.uniform(-1, 1, (2, 2)), rng.uniform(-0.2, 0.2, 2))
    policy = Policy("deep", (front, Activation("tanh", 3), random_ltc(1), back), np.tile([-1.0, 1.0], (5, 1)))
    known = study(policy)
    x = generated(policy, 9)[:6, :60]
    expected = run(lower_real(policy), Sequences(x))
    net = lower(known, 3000)
    found = predicted(net, Sequences(x))
    assert np.abs(found.y - expected.y).max() < 0.03 * np.ptp(expected.y)
    assert len(net.interface.labels) == 3 + 8


def test_an_activation_of_motor_neurons_is_read_out() -> None:
    """tanh of each motor neuron and a linear layer behind it cost no spikes."""
    rng = np.random.default_rng(2)
    layers = (random_ltc(1), Dense(np.diag([3.0, -2.0]), np.array([0.1, -0.3])), Activation("tanh", 2),
              Dense(rng.uniform(-1, 1, (3, 2)), rng.uniform(-1, 1, 3)))
    policy = Policy("tail", layers, np.tile([-1.0, 1.0], (3, 1)))
    known, x = study(policy), generated(policy, 9)[:6, :60]
    expected = run(lower_real(policy), Sequences(x))
    np.testing.assert_allclose(outputs(known.cell, trajectory(known.cell, x)), expected.y, rtol=0, atol=1e-12)
    found = predicted(lower(known, 2000), Sequences(x))
    assert np.abs(found.y - expected.y).max() < 0.03 * np.ptp(expected.y)


def test_resets_and_saturation() -> None:
    net = lower(known_policy(8), 500)
    x = np.random.default_rng(0).uniform(-1, 1, (2, 9, 3))
    reset = np.zeros((2, 9), bool)
    reset[0, 4] = reset[1, 1] = reset[1, 8] = True
    x[0, 2, 1], x[1, 3, 0] = 7.0, np.nan
    found = predicted(net, Sequences(x, reset=reset))
    alone = predicted(net, Sequences(x[:1, 4:]))
    assert np.array_equal(found.raw_y[0, 4:], alone.raw_y[0])
    assert np.array_equal(found.raw_state[0, 4:], alone.raw_state[0])
    clipped = x.copy()
    clipped[0, 2, 1], clipped[1, 3, 0] = 1.0, 0.0
    assert np.array_equal(predicted(net, Sequences(clipped, reset=reset)).raw_y, found.raw_y)
    assert found.flags[0, 2] == 1
    assert found.flags[1, 3] == 2
    assert np.count_nonzero(found.flags) == 2


def test_auto_holds_the_tolerance_and_saves_units() -> None:
    known = known_policy(8)
    loose, tight = sized(known, "auto", 0.1), sized(known, "auto", 0.02)
    assert loose.units < tight.units
    for net, tolerance in ((loose, 0.1), (tight, 0.02)):
        assert error(known, net, generated(known.policy, 77)) <= tolerance


@pytest.mark.parametrize(("seed", "tolerance"), [(2, 0.05), (9, 0.05), (9, 0.02)])
def test_what_auto_chose_holds_where_the_verdict_looks(seed: int, tolerance: float) -> None:
    """On the sequences of verification, which sizing never saw: jumps, and the first steps after resets, too."""
    known = known_policy(seed)
    data = suite(known.policy, 6000, False)
    net = sized(known, "auto", tolerance)
    expected = run(lower_real(known.policy), Sequences(data.x, reset=data.reset)).y
    found = predicted(net, data).y
    assert np.abs(found - expected).max() <= tolerance * np.ptp(expected, axis=(0, 1)).max()
    assert net.units < 2000


def test_more_sequences_ask_for_more_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that passed the trials but not the confirmation grows until it does."""
    known = known_policy(8)
    found, asked = iter((0.5, 0.5, 0.001)), []
    monkeypatch.setattr("ncpc.targets.nir.sizing._cheapest", lambda known, tolerance, uniform: lower(known, 300))

    def told(known: Study, net: Spikes, *sequences: np.ndarray) -> float:
        asked.append((net.units, sum(x.shape[0] * x.shape[1] for x in sequences)))
        return next(found)

    monkeypatch.setattr("ncpc.targets.nir.sizing.error", told)
    net = sized(known, "auto", 0.02)
    assert [steps for _, steps in asked] == [2 * 4 * 12 * 200] * 3
    assert asked[0][0] < asked[1][0] < asked[2][0] == net.units


def test_refusals_say_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    known = known_policy(8)
    with pytest.raises(BadInput, match=r"--units 7: give 'auto' or a number from 48"):
        sized(known, "7", 0.02)
    with pytest.raises(BadInput, match="--units many"):
        sized(known, "many", 0.02)
    monkeypatch.setattr("ncpc.targets.nir.sizing.MOST_UNITS", 500)
    with pytest.raises(ProofFailed, match=r"500 units leave an error of .* larger --tolerance"):
        sized(known, "auto", 1e-4)


def test_layers_that_need_more_spikes_are_refused() -> None:
    policy, ltc = random_policy(1), random_ltc(1)
    two = dataclasses.replace(policy, layers=(ltc, Dense(np.eye(3, 2), np.zeros(3)), ltc))
    with pytest.raises(Unsupported, match=r"2 ltc layers in .*; use target 'nir-graded'"):
        cell_of(two)
    mixed = (ltc, Dense(np.ones((2, 2)), np.zeros(2)), Activation("tanh", 2))
    with pytest.raises(Unsupported, match=r"an activation of a sum of motor neurons .* 'nir-graded'"):
        cell_of(dataclasses.replace(policy, layers=mixed))
    with pytest.raises(Unsupported, match="'activation' behind the cell"):
        cell_of(dataclasses.replace(policy, layers=(ltc, Activation("tanh", 2), Activation("relu", 2))))
    with pytest.raises(Unsupported, match="solver 'rk4'"):
        cell_of(dataclasses.replace(policy, layers=(dataclasses.replace(ltc, solver="rk4"),)))
    deep = (Dense(np.eye(3), np.zeros(3)), Activation("tanh", 3), Dense(np.eye(3), np.zeros(3)), ltc)
    with pytest.raises(Unsupported, match="'dense' in front"):
        cell_of(dataclasses.replace(policy, layers=deep))
