"""Random models of every recurrent cell of torch, ncps and ``ncpc.cells``, with parameters that look trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ncps_cells = pytest.importorskip("ncps.torch")
wirings = pytest.importorskip("ncps.wirings")
cells = pytest.importorskip("ncpc.cells")

Model = tuple[list[Any], int]
"""Modules in order, and the number of inputs."""


def sizes(rng: np.random.Generator) -> tuple[int, int]:
    """Inputs and units."""
    return int(rng.integers(1, 6)), int(rng.integers(1, 9))


def any_wiring(rng: np.random.Generator) -> Any:
    units, seed = int(rng.integers(6, 14)), int(rng.integers(1000))
    outputs = int(rng.integers(1, units - 4))
    kinds: list[Callable[[], Any]] = [
        lambda: wirings.FullyConnected(units, outputs, erev_init_seed=seed),
        lambda: wirings.AutoNCP(units, outputs, sparsity_level=float(rng.uniform(0.1, 0.9)), seed=seed),
        lambda: wirings.NCP(4, 3, 2, 2, 2, 3, 2, seed=seed),
    ]
    return kinds[int(rng.integers(len(kinds)))]()


def mode(rng: np.random.Generator) -> str:
    return str(rng.choice(["default", "pure", "no_gate"]))


def cfc(rng: np.random.Generator) -> Model:
    inputs, units = sizes(rng)
    model = ncps_cells.CfC(
        inputs, units, mode=mode(rng), mixed_memory=bool(rng.integers(2)), batch_first=bool(rng.integers(2)),
        activation=str(rng.choice(["lecun_tanh", "tanh", "relu", "silu", "gelu"])),
        backbone_units=int(rng.integers(1, 10)), backbone_layers=int(rng.integers(0, 4)),
        proj_size=int(rng.integers(1, 4)) if rng.integers(2) else None,
    )
    return [model], inputs


def wired_cfc(rng: np.random.Generator) -> Model:
    inputs, wiring = int(rng.integers(1, 6)), any_wiring(rng)
    model = ncps_cells.CfC(inputs, wiring, mode=mode(rng), mixed_memory=bool(rng.integers(2)))
    return [model], inputs


def mixed_ltc(rng: np.random.Generator) -> Model:
    inputs = int(rng.integers(1, 6))
    return [ncps_cells.LTC(inputs, any_wiring(rng), mixed_memory=True, ode_unfolds=int(rng.integers(1, 6)))], inputs


def gated(rng: np.random.Generator) -> Model:
    (inputs, units), nn, bias = sizes(rng), torch.nn, bool(rng.integers(2))
    layers, first = int(rng.integers(1, 3)), bool(rng.integers(2))
    function = str(rng.choice(["tanh", "relu"]))
    kinds: list[Callable[[], Any]] = [
        lambda: nn.LSTM(inputs, units, layers, bias=bias, batch_first=first),
        lambda: nn.GRU(inputs, units, layers, bias=bias, batch_first=first),
        lambda: nn.RNN(inputs, units, layers, nonlinearity=function, bias=bias, batch_first=first),
        lambda: nn.LSTMCell(inputs, units, bias),
        lambda: nn.GRUCell(inputs, units, bias),
        lambda: nn.RNNCell(inputs, units, bias, function),
    ]
    return [kinds[int(rng.integers(len(kinds)))]()], inputs


def ode(rng: np.random.Generator) -> Model:
    inputs, units = sizes(rng)
    options = {
        "unfolds": int(rng.integers(1, 8)), "step": float(rng.uniform(0.05, 0.2)),
        "solver": str(rng.choice(["euler", "rk4"])), "clip": float(rng.choice([0.0, 0.5])),
    }
    if rng.integers(2):
        return [cells.NeuralOde(inputs, units, **options)], inputs
    tau, feedback = str(rng.choice(["trained", "one"])), bool(rng.integers(2))
    return [cells.CtRnn(inputs, units, tau=tau, feedback=feedback, **options)], inputs


def solved_ltc(rng: np.random.Generator) -> Model:
    """A small LTC by an explicit solver, with enough unfolds for timespans up to 3."""
    inputs, units, solver = int(rng.integers(1, 3)), int(rng.integers(2, 4)), str(rng.choice(["euler", "rk4"]))
    wiring = wirings.FullyConnected(units, int(rng.integers(1, units + 1)), erev_init_seed=int(rng.integers(1000)))
    unfolds = {"euler": 16, "rk4": 12}[solver] + int(rng.integers(4))
    return [cells.LTC(inputs, wiring, solver=solver, unfolds=unfolds)], inputs


def exponential_ltc(rng: np.random.Generator) -> Model:
    """An LTC by exponential Euler, which no step makes unstable."""
    inputs, units = int(rng.integers(1, 5)), int(rng.integers(2, 8))
    wiring = wirings.FullyConnected(units, int(rng.integers(1, units + 1)), erev_init_seed=int(rng.integers(1000)))
    return [cells.LTC(inputs, wiring, solver="exponential", unfolds=int(rng.integers(1, 8)))], inputs


def ct_gru(rng: np.random.Generator) -> Model:
    inputs, units = sizes(rng)
    decay, clip = str(rng.choice(["tau", "published"])), float(rng.choice([0.0, 0.5]))
    return [cells.CtGru(inputs, units, scales=int(rng.integers(2, 9)), decay=decay, clip=clip)], inputs


def leaky(rng: np.random.Generator) -> Model:
    inputs, units = sizes(rng)
    function = str(rng.choice(["tanh", "sigmoid", "relu", "identity"]))
    ahead, tau = float(rng.choice([0.0, 0.5, 1.0])), float(rng.uniform(0.3, 5))
    return [cells.LeakyIntegrator(inputs, units, tau=tau, ahead=ahead, function=function)], inputs


def lif(rng: np.random.Generator) -> Model:
    """Neurons that fire now and then; every parameter differs from unit to unit."""
    inputs, units = sizes(rng)
    model = cells.LIF(inputs, units, recurrent=bool(rng.integers(2)), tau=float(rng.uniform(3.5, 9)), least_tau=3.0,
                      shared_tau=bool(rng.integers(2)))
    for name, lo, hi in (("r", 0.5, 4), ("v_leak", -0.3, 0.4), ("v_threshold", 0.2, 1), ("v_reset", -0.5, 0.1)):
        setattr(model, name, torch.tensor(rng.uniform(lo, hi, units), dtype=torch.float32))
    return [model], inputs


def lrc(rng: np.random.Generator) -> Model:
    """With enough unfolds for timespans up to 3; of fewer than 3 no bound is known beforehand."""
    inputs, units = sizes(rng)
    elastance = str(rng.choice(["symmetric", "asymmetric"]))
    return [cells.LRC(inputs, units, elastance=elastance, unfolds=int(rng.integers(2, 5)))], inputs


FAMILIES: dict[str, Callable[[np.random.Generator], Model]] = {
    "cfc": cfc, "wired_cfc": wired_cfc, "mixed_ltc": mixed_ltc, "gated": gated, "ode": ode,
    "solved_ltc": solved_ltc, "exponential_ltc": exponential_ltc, "ct_gru": ct_gru, "leaky": leaky, "lif": lif,
    "lrc": lrc,
}


def random_model(family: str, seed: int) -> Model:
    """A model of one family, every parameter moved away from its initial value; sometimes a Linear after it."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    modules, inputs = FAMILIES[family](rng)
    for module in modules:
        perturb(module, rng)
    return modules, inputs


def perturb(module: Any, rng: np.random.Generator) -> None:
    for name, parameter in module.named_parameters():
        if not name.endswith("sparsity_mask"):
            noise = torch.as_tensor(rng.normal(0, 0.1, tuple(parameter.shape)), dtype=parameter.dtype)
            parameter.data += noise
    cell = getattr(module, "rnn_cell", module)
    if hasattr(cell, "apply_weight_constraints"):
        cell.apply_weight_constraints()
