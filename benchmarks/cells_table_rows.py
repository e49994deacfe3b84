"""The networks of the table of what works where: each cell alone, those of Keras that differ, heads around a cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.ir.cells import CtGru, CtRnn, LeakyIntegrator, Lif, Lrc, NeuralOde
from ncpc.ir.gated import Cfc, Gru, GruOde, Lstm, MixedMemory, OdeRnn, Rnn, WiredCfc
from ncpc.ir.heads import Combine, History, Norm, Scale, Select, Softmax
from ncpc.ir.policy import F64, Activation, Dense, Layer, Ltc, Synapses

INPUTS, UNITS = 2, 4


def weights(*shape: int, draw: int = 0) -> F64:
    """Small enough for networks that forget; arrays of one shape in one layer take different draws."""
    return np.random.default_rng(sum(shape) + 1000 * draw).normal(0.0, 0.4, shape)


def dense(outputs: int, inputs: int, draw: int = 0) -> Dense:
    return Dense(weights(outputs, inputs, draw=draw), weights(outputs, draw=draw))


def cfc(mode: str = "default", inputs: int = INPUTS, backbone: bool = True, name: str = "inter",
        function: str = "tanh") -> Cfc:
    width = 5 if backbone else inputs + UNITS
    pure = mode == "pure"
    ff1, *others = (dense(UNITS, width, draw) for draw in range(4))
    ff2, time_a, time_b = (None if pure else other for other in others)
    w_tau, a = (weights(UNITS, draw=draw) if pure else None for draw in (4, 5))
    return Cfc(
        (dense(5, inputs + UNITS),) if backbone else (), ff1, ff2, time_a, time_b, w_tau, a, mode, "lecun_tanh",
        function, (name,) * UNITS, tuple(f"{name}_{i}" for i in range(UNITS)),
    )


def synapses(pre: int, post: int) -> Synapses:
    targets, sources = np.nonzero(np.ones((post, pre)))
    n = len(sources)
    return Synapses(sources, targets, np.full(n, 0.5), np.full(n, 4.0), np.full(n, 0.3), np.resize([1.0, -1.0], n))


def ltc(solver: str = "fused", unfolds: int = 6) -> Ltc:
    ones, zeros = np.ones, np.zeros
    return Ltc(
        synapses(INPUTS, UNITS), synapses(UNITS, UNITS), np.full(UNITS, 0.6), np.full(UNITS, 0.5), zeros(UNITS),
        ones(INPUTS), zeros(INPUTS), ones(1), zeros(1), ("motor",) + ("inter",) * (UNITS - 1),
        tuple(f"n{i}" for i in range(UNITS)), unfolds, 1e-8, solver,
    )


def lstm() -> Lstm:
    return Lstm(weights(4 * UNITS, INPUTS), weights(4 * UNITS, UNITS), weights(4 * UNITS))


def gru() -> Gru:
    return Gru(weights(3 * UNITS, INPUTS), weights(3 * UNITS, UNITS), weights(3 * UNITS), weights(3 * UNITS, draw=1))


def flow() -> tuple[Dense, Dense]:
    """The ODE of a state that decays."""
    return (Dense(weights(UNITS, UNITS, draw=1) + np.eye(UNITS), weights(UNITS)),
            Dense(weights(UNITS, UNITS) - 1.5 * np.eye(UNITS), weights(UNITS, draw=1)))


def lrc(shift: float | None = 1.0) -> Lrc:
    size = (UNITS, INPUTS + UNITS)
    return Lrc(np.full(size, 4.0), np.full(size, 0.3), np.abs(weights(*size)), weights(*size, draw=1),
               np.full(UNITS, 0.3), np.resize([0.8, -0.8], UNITS), dense(UNITS, INPUTS + UNITS),
               None if shift is None else np.full(UNITS, shift))


def square() -> tuple[F64, F64, F64]:
    return weights(UNITS, INPUTS), weights(UNITS, UNITS), weights(UNITS)


CELLS: dict[str, Callable[[], Layer]] = {
    "LTC": ltc,
    "LTC, exponential Euler": lambda: ltc("exponential"),
    "LTC, Euler": lambda: ltc("euler", 12),
    "LTC, Runge-Kutta": lambda: ltc("rk4", 8),
    "CfC": cfc,
    "CfC, pure": lambda: cfc("pure"),
    "CfC, no gate": lambda: cfc("no_gate"),
    "CfC, LeCun's heads": lambda: cfc(function="lecun_tanh"),
    "wired CfC": lambda: WiredCfc((cfc(backbone=False), cfc(inputs=UNITS, backbone=False, name="motor"))),
    "mixed memory, LTC": lambda: MixedMemory(lstm(), ltc(), "state"),
    "mixed memory, CfC": lambda: MixedMemory(lstm(), cfc(), "state"),
    "LSTM": lstm,
    "GRU": gru,
    "GRU-ODE": lambda: GruOde(*(dense(UNITS, INPUTS + UNITS, draw) for draw in range(3))),
    "ODE-LSTM": lambda: OdeRnn(lstm(), flow(), "cell"),
    "ODE-RNN": lambda: OdeRnn(gru(), flow(), "ode"),
    "RNN": lambda: Rnn(*square(), "tanh"),
    "CT-RNN": lambda: CtRnn(*square(), np.ones(UNITS)),
    "neural ODE": lambda: NeuralOde(weights(UNITS, INPUTS), weights(UNITS, UNITS) - 1.5 * np.eye(UNITS), weights(UNITS),
                                    clip=1.0),
    "CT-GRU": lambda: CtGru(dense(UNITS * 3, INPUTS + UNITS), dense(UNITS * 3, INPUTS + UNITS, draw=1),
                            dense(UNITS, INPUTS + UNITS), np.log([1.0, 3.0, 10.0]), np.exp([-1.0, -0.3, -0.1])),
    "leaky integrator": lambda: LeakyIntegrator(*square(), np.full(UNITS, 2.0), np.ones(UNITS), "tanh"),
    "LIF": lambda: Lif(*square(), np.full(UNITS, 2.0), np.full(UNITS, 3.0), np.zeros(UNITS), np.ones(UNITS),
                       np.zeros(UNITS)),
    "LRC": lrc,
    "LRC, asymmetric": lambda: lrc(None),
}


def keras_cfc(mode: str = "default", **options: Any) -> Cfc:
    """Heads without tanh."""
    return cfc(mode, function="linear", **options)


KERAS: dict[str, Callable[[], Layer]] = {
    "Keras CfC": keras_cfc,
    "Keras CfC, pure": lambda: keras_cfc("pure"),
    "Keras CfC, no gate": lambda: keras_cfc("no_gate"),
    "Keras wired CfC": lambda: WiredCfc((keras_cfc(backbone=False), keras_cfc(inputs=UNITS, backbone=False,
                                                                              name="motor")), 2),
    "Keras mixed memory, LTC": lambda: MixedMemory(lstm(), ltc_reading(UNITS), "input"),
    "Keras mixed memory, CfC": lambda: MixedMemory(lstm(), keras_cfc(inputs=UNITS), "input"),
}


def ltc_reading(inputs: int) -> Ltc:
    """An LTC with another number of inputs."""
    return dataclasses.replace(ltc(), sensory=synapses(inputs, UNITS), input_w=np.ones(inputs),
                               input_b=np.zeros(inputs))


Made = Callable[[], tuple[Layer, ...]]
STRONG = 3.0
"""Times a dense layer's initial weights: its features move as far as those of a trained one."""


def head(modules: Callable[[Any], list[Any]], frame: tuple[int, ...], weak: bool = False) -> Made:
    """Torch modules over a frame (channels, rows, columns), then a dense layer and an NCP.

    Most untrained NCPs of this size move their outputs by a tenth of what their states may, or less; trained ones, and
    this one, by a third and more. ``weak`` is one of the others: docs/heads.md says what they err by.
    """

    def made() -> tuple[Layer, ...]:
        import torch
        from ncps.torch import LTC
        from ncps.wirings import AutoNCP

        from ncpc.frontend.ncps_torch import import_model

        nn = torch.nn
        torch.manual_seed(0 if weak else 3)
        cell = LTC(UNITS, AutoNCP(8, 2, seed=1 if weak else 2))
        before = [*modules(nn), nn.Flatten()]
        dense = nn.Linear(nn.Sequential(*before).eval()(torch.zeros(1, *frame)).shape[1], UNITS)
        dense.weight.data *= 1.0 if weak else STRONG
        model = [*before, dense, nn.ReLU(), cell]
        return tuple(import_model([module.eval() for module in model], frame).layers)

    return made


def around() -> tuple[Layer, ...]:
    """A dense layer before a cell, a softmax behind it."""
    return dense(UNITS, INPUTS), Activation("relu", UNITS), cfc(inputs=UNITS), dense(3, UNITS), Softmax(3)


def joined() -> tuple[Layer, ...]:
    """Channels combined, scaled and chosen around a cell."""
    return (dense(2 * UNITS, INPUTS), Combine("mul", UNITS), Scale(weights(UNITS) + 1.0, weights(UNITS, draw=1)),
            cfc(inputs=UNITS), Select(np.array([3, 0, 1, 0]), UNITS), Combine("max", 2))


def standing() -> tuple[Layer, ...]:
    """Features normalized before a cell."""
    return dense(UNITS, INPUTS), Norm(weights(UNITS) + 1.0, weights(UNITS, draw=1)), ltc_reading(UNITS), dense(2, 1)


def remembering() -> tuple[Layer, ...]:
    """A causal convolution over time, of two taps three steps apart, and a dense layer on it."""
    return History(np.array([3, 0]), INPUTS), dense(UNITS, 2 * INPUTS), Activation("tanh", UNITS), dense(1, UNITS)


FRAMES: dict[str, tuple[Callable[[Any], list[Any]], tuple[int, ...]]] = {
    "Conv1d, NCP": (lambda nn: [nn.Conv1d(2, 3, 3), nn.ReLU()], (2, 16)),
    "Conv2d, NCP": (lambda nn: [nn.Conv2d(2, 3, 3, padding=1), nn.ReLU()], (2, 8, 8)),
    "Conv2d, BatchNorm2d, NCP": (lambda nn: [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh()], (2, 8, 8)),
    "Conv2d, MaxPool2d, NCP": (lambda nn: [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2)], (2, 8, 8)),
    "Conv2d, AvgPool2d, NCP": (lambda nn: [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AvgPool2d(2)], (2, 8, 8)),
    "driving head (small frames), NCP": (
        lambda nn: [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 5), nn.ReLU(), nn.MaxPool2d(2)],
        (3, 18, 24)),
}
HEADS: dict[str, Made] = {"Dense, CfC, Dense, softmax": around, "Combine, Scale, CfC, Select": joined,
                          "Dense, Norm, LTC, Dense": standing, "History, Dense, tanh, Dense": remembering,
                          **{name: head(*made) for name, made in FRAMES.items()}}

ROWS: dict[str, Callable[[], tuple[Layer, ...]]] = {
    **{name: lambda made=made: (made(),) for name, made in {**CELLS, **KERAS}.items()}, **HEADS,
}
"""Name -> layers, of everything that the table tries."""
