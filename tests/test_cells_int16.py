"""Every cell as integers: the proof closes, the error stays within the LTC's tolerance, bounded cells never flag."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

torch = pytest.importorskip("torch")
cells = pytest.importorskip("ncpc.cells")
ncps_cells = pytest.importorskip("ncps.torch")
wirings = pytest.importorskip("ncps.wirings")

from ncpc.frontend.ncps_torch import import_model  # noqa: E402

INPUTS, UNITS, TOLERANCE = 3, 8, 2e-3


def wiring() -> object:
    return wirings.AutoNCP(10, 2, seed=5)


MODELS = {
    **{f"cfc_{mode}": lambda mode=mode: ncps_cells.CfC(INPUTS, UNITS, mode=mode, backbone_units=12)
       for mode in ("default", "pure", "no_gate")},
    **{f"cfc_{name}": lambda name=name: ncps_cells.CfC(INPUTS, UNITS, activation=name, backbone_units=12)
       for name in ("tanh", "relu", "silu", "gelu")},
    **{f"wired_cfc_{mode}": lambda mode=mode: ncps_cells.CfC(INPUTS, wiring(), mode=mode)
       for mode in ("default", "pure", "no_gate")},
    "mixed_cfc": lambda: ncps_cells.CfC(INPUTS, UNITS, mixed_memory=True, backbone_units=12),
    "mixed_wired_cfc": lambda: ncps_cells.CfC(INPUTS, wiring(), mixed_memory=True),
    "ltc_exponential": lambda: cells.LTC(INPUTS, wiring(), solver="exponential"),
    "ltc_euler": lambda: cells.LTC(INPUTS, wiring(), solver="euler", unfolds=8),
    "ltc_rk4": lambda: cells.LTC(INPUTS, wiring(), solver="rk4", unfolds=4),
    "mixed_ltc": lambda: ncps_cells.LTC(INPUTS, wiring(), mixed_memory=True),
    "lstm": lambda: torch.nn.LSTM(INPUTS, UNITS),
    "gru": lambda: torch.nn.GRU(INPUTS, UNITS),
    "rnn": lambda: torch.nn.RNN(INPUTS, UNITS),
    "ct_rnn": lambda: cells.CtRnn(INPUTS, UNITS, feedback=True),
    "ct_rnn_rk4": lambda: cells.CtRnn(INPUTS, UNITS, feedback=True, solver="rk4"),
    "ct_rnn_published": lambda: cells.CtRnn(INPUTS, UNITS, tau="one"),
    "neural_ode": lambda: cells.NeuralOde(INPUTS, UNITS, clip=2.0),
    "ct_gru": lambda: cells.CtGru(INPUTS, UNITS, scales=4),
    "ct_gru_published": lambda: cells.CtGru(INPUTS, UNITS, decay="published"),
    "leaky_integrator": lambda: cells.LeakyIntegrator(INPUTS, UNITS, tau=3.0, ahead=0.5),
    "ode_lstm": lambda: cells.OdeRnn(INPUTS, UNITS),
    "ode_rnn": lambda: cells.OdeRnn(INPUTS, UNITS, cell="gru", first="ode", solver="rk4"),
    "lrc": lambda: cells.LRC(INPUTS, UNITS),
    "lrc_asymmetric": lambda: cells.LRC(INPUTS, UNITS, elastance="asymmetric", unfolds=2),
}

INTEGRATORS = ("neural_ode",)
"""Nothing in a neural ODE forgets an error, which grows with time: it is held to the tolerance over 40 steps."""


def sequences(seed: int, batch: int = 4, steps: int = 120) -> Sequences:
    """Noise and random walks."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (batch, steps, INPUTS))
    x[batch // 2 :] = np.clip(np.cumsum(x[batch // 2 :], axis=1) * 0.2, -1, 1)
    return Sequences(x)


def calm_model(name: str) -> object:
    """Weights at 0.7 of their initial ones: some initial networks amplify any rounding a hundredfold."""
    torch.manual_seed(1)
    model = MODELS[name]()
    for parameter in model.parameters():
        if parameter.requires_grad and name != "mixed_ltc":
            parameter.data *= 0.7
    return model


@pytest.mark.parametrize("name", MODELS)
def test_int16_is_accurate_and_proved(name: str) -> None:
    layers, ranges = import_model(calm_model(name)).layers, np.tile([-1.0, 1.0], (INPUTS, 1))
    policy = Policy("net", layers, ranges, DtRange(), calibration=sequences(0))
    lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    data = sequences(1)
    if name in INTEGRATORS:
        data = dataclasses.replace(data, reset=np.tile(np.arange(120) % 40 == 0, (4, 1)))
    want, got = run(lowered.real, data), run(lowered.program, data)
    assert np.abs(got.y - want.y).max() <= TOLERANCE * np.ptp(want.y)
    assert lowered.proved
    assert not got.flags.any()
    extreme = dataclasses.replace(data, x=np.sign(data.x[:, ::-1]))
    assert not run(lowered.program, extreme).flags.any()


def test_an_unbounded_state_is_limited_to_what_was_observed_and_flagged() -> None:
    """An integral of a tanh has no bound."""
    torch.manual_seed(1)
    layers = import_model(cells.NeuralOde(INPUTS, UNITS)).layers
    calibration = Sequences(0.1 * sequences(0).x[:, :20])
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(), calibration=calibration)
    lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    far = Sequences(np.ones((1, 400, INPUTS)))
    assert (run(lowered.program, far).flags[0, -1] & (1 << FLAGS.index("state_clamped"))) != 0
    assert not run(lowered.program, calibration).flags.any()


def test_a_memory_cell_goes_as_far_as_its_32_bits_hold() -> None:
    """Nothing reads an LSTM's c in 16 bits: it may go far beyond what calibration showed. Its h is
    bounded by the equation, h = o*tanh(c), however far c goes.
    """
    torch.manual_seed(1)
    model = torch.nn.LSTM(INPUTS, UNITS)
    with torch.no_grad():
        model.weight_ih_l0 *= 4.0
        model.bias_ih_l0[UNITS : 2 * UNITS] += 6.0
    calibration = Sequences(0.1 * sequences(0).x[:, :20])
    policy = Policy("net", import_model(model).layers, np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(),
                    calibration=calibration)
    lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    h, _ = lowered.program.states
    assert np.abs(h.box * h.inp.type.lsb).max() <= 1.0
    far = Sequences(np.ones((1, 120, INPUTS)))
    want, got = run(lowered.real, far), run(lowered.program, far)
    seen, reached = (np.abs(run(lowered.real, data).state).max() for data in (calibration, far))
    assert reached > 12 * seen
    assert not got.flags.any()
    assert np.abs(got.y - want.y).max() <= TOLERANCE * np.ptp(want.y)


def test_the_largest_logarithm_of_a_ct_gru_is_not_rounded() -> None:
    """Strong gates give logarithms of hundreds, of which 16 bits would leave a thirtieth as the finest step."""
    torch.manual_seed(2)
    model = cells.CtGru(INPUTS, 6)
    for gate in (model.retrieve, model.store):
        gate.weight.data *= 8.0
    policy = Policy("net", import_model(model).layers, np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(),
                    calibration=sequences(0))
    lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    data = sequences(1)
    want, got = run(lowered.real, data).y, run(lowered.program, data).y
    assert np.abs(got - want).max() <= TOLERANCE * np.ptp(want)


@pytest.mark.parametrize(("name", "words"), [
    ("gru", []), ("cfc_default", []),
    ("ltc_rk4", ["no bound is proved from the equation of state v", "sets state_clamped"]),
    ("deep", ["is too wide for 16 bits", "sets activation_limited"]),
])
def test_the_proof_says_what_it_holds_by_limits(name: str, words: list[str]) -> None:
    torch.manual_seed(1)
    deep = ncps_cells.CfC(INPUTS, UNITS, activation="relu", backbone_layers=3, backbone_units=32)
    layers = import_model(deep if name == "deep" else calm_model(name)).layers
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(), calibration=sequences(0))
    proof = lower_for(Container(policy, None), CompileOptions(quant="int16")).proof
    assert proof is not None
    said = proof["assumptions"][3:]
    assert len(said) == bool(words)
    assert all(word in text for word in words for text in said)


@pytest.mark.parametrize(("solver", "unfolds"), [("euler", 30), ("rk4", 12)])
def test_short_steps_lose_no_accuracy(solver: str, unfolds: int) -> None:
    """A rate of change rounded to 16 bits would cost a thousandth of the range here."""
    torch.manual_seed(0)
    layers = import_model(cells.LTC(INPUTS, wirings.AutoNCP(10, 2, seed=1), solver=solver, unfolds=unfolds)).layers
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(), calibration=sequences(0, 2))
    lowered = lower_for(Container(policy, None), CompileOptions(quant="int16")).lowered
    data = sequences(1, 2)
    want, got = run(lowered.real, data).y, run(lowered.program, data).y
    assert np.abs(got - want).max() <= 6e-4 * np.ptp(want)
