"""Random networks of every kind whose parameters are drawn over many orders of magnitude."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ncpc.ir.cells import CtGru, CtRnn, LeakyIntegrator, Lif, Lrc, NeuralOde
from ncpc.ir.gated import Cfc, Gru, GruOde, Lstm, MixedMemory, OdeRnn, Rnn, WiredCfc
from ncpc.ir.heads import Conv2d, Softmax
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Ltc, Policy, Synapses
from ncpc.ir.windows import Windows

F64 = np.ndarray


class Draw:
    """Numbers of a seed; ``size(lo, hi)`` is one of a magnitude between 10**lo and 10**hi."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def size(self, lo: float, hi: float) -> float:
        return float(10.0 ** self.rng.uniform(lo, hi))

    def around(self, most: float, *shape: int) -> F64:
        return self.rng.uniform(-1, 1, shape) * most

    def share(self, most: float, *shape: int) -> F64:
        return self.rng.uniform(0, 1, shape) * most

    def count(self, lo: int, hi: int) -> int:
        return int(self.rng.integers(lo, hi + 1))

    def one_of(self, *names: str) -> str:
        return str(self.rng.choice(names))

    def number(self, *numbers: float) -> float:
        return float(self.rng.choice(numbers))

    def dense(self, outputs: int, inputs: int, most: float) -> Dense:
        return Dense(self.around(most, outputs, inputs), self.around(most, outputs))


def synapses(d: Draw, pre: int, post: int, sizes: dict[str, float]) -> Synapses:
    """About half of all pairs; none at all where chance gives none."""
    targets, sources = np.nonzero(d.rng.uniform(size=(post, pre)) < 0.5)
    n = len(targets)
    w = np.where(d.rng.random(n) < 0.1, 0.0, d.share(sizes["w"], n))
    return Synapses(sources.astype(np.int64), targets.astype(np.int64), w, d.around(sizes["sigma"], n),
                    d.around(sizes["mu"], n), d.around(sizes["erev"], n))


def ltc(d: Draw, n: int, inputs: int, solver: str = "fused") -> Ltc:
    wild = d.rng.random() < 0.5
    sizes = {"w": d.size(-3, 2), "sigma": d.size(-2, 3), "mu": d.size(-2, 2), "erev": d.size(-2, 2.5)} if wild else {
        "w": 1.0, "sigma": 8.0, "mu": 1.0, "erev": 1.0}
    outputs = d.count(1, n)
    gleak, cm = d.share(d.size(-4, 2), n), d.rng.uniform(0.1, 1, n) * d.size(-3, 4)
    return Ltc(
        synapses(d, inputs, n, sizes), synapses(d, n, n, sizes), cm, gleak * d.number(0, 1, 1),
        d.around(sizes["erev"], n), d.around(d.size(-1, 2), inputs), d.around(d.size(-1, 1), inputs),
        d.around(d.size(-2, 2), outputs), d.around(d.size(-1, 1), outputs),
        ("motor",) * outputs + ("inter",) * (n - outputs), tuple(f"n{k}" for k in range(n)),
        d.count(1, 6), d.number(0, 1e-8, 1e-3), solver,
    )


def cfc(d: Draw, n: int, inputs: int, name: str = "n") -> Cfc:
    mode, most, width = d.one_of("default", "pure", "no_gate"), d.size(-1, 1), inputs + n
    backbone: list[Dense] = []
    for units in range(3, 3 + d.count(0, 2)):
        backbone.append(d.dense(units, width, most))
        width = units
    pure = mode == "pure"
    ff1, ff2, time_a, time_b = (d.dense(n, width, most) for _ in range(4))
    gates = (None, None, None) if pure else (ff2, time_a, time_b)
    w_tau, a = (d.around(most, n) if pure else None for _ in range(2))
    return Cfc(tuple(backbone), ff1, *gates, w_tau, a, mode, d.one_of("lecun_tanh", "tanh", "relu", "silu", "gelu"),
               d.one_of("tanh", "linear", "lecun_tanh"), ("motor",) * n, tuple(f"{name}{k}" for k in range(n)))


def lstm(d: Draw, n: int, inputs: int) -> Lstm:
    most = d.size(-1, 1.5)
    return Lstm(d.around(most, 4 * n, inputs), d.around(most, 4 * n, n), d.around(most, 4 * n))


def square(d: Draw, n: int, inputs: int) -> tuple[F64, F64, F64]:
    most = d.size(-1, 1)
    return d.around(most, n, inputs), d.around(most, n, n), d.around(most, n)


def gru(d: Draw, n: int, inputs: int) -> Gru:
    most = d.size(-1, 1.5)
    return Gru(d.around(most, 3 * n, inputs), d.around(most, 3 * n, n), *(d.around(most, 3 * n) for _ in range(2)))


def gru_ode(d: Draw, n: int, inputs: int) -> GruOde:
    return GruOde(*(d.dense(n, inputs + n, d.size(-1, 1.5)) for _ in range(3)), d.count(1, 4))


def ode_rnn(d: Draw, n: int, inputs: int) -> OdeRnn:
    hidden, most = d.count(1, 5), d.size(-1, 1)
    cell = (lstm, gru, lambda d, n, i: Rnn(*square(d, n, i), "tanh"))[d.count(0, 2)](d, n, inputs)
    return OdeRnn(cell, (d.dense(hidden, n, most), d.dense(n, hidden, most)), d.one_of("ode", "cell"), d.count(1, 4),
                  d.one_of("euler", "heun", "rk38", "rk4"))


def mixed(d: Draw, n: int, inputs: int, how: str) -> MixedMemory:
    reads = n if how == "input" else inputs
    return MixedMemory(lstm(d, n, inputs), ltc(d, n, reads) if d.rng.random() < 0.5 else cfc(d, n, reads), how)


def ct_gru(d: Draw, n: int, inputs: int) -> CtGru:
    scales, most, tau = d.count(1, 4), d.size(-1, 1), np.sort(d.rng.uniform(-2, 5, 4))
    return CtGru(*(d.dense(n * scales, inputs + n, most) for _ in range(2)), d.dense(n, inputs + n, most), tau[:scales],
                 np.exp(-1 / np.exp(tau[:scales])))


def leaky(d: Draw, n: int, inputs: int) -> LeakyIntegrator:
    tau = d.rng.uniform(0.1, 1, n) * d.size(-1, 2)
    return LeakyIntegrator(*square(d, n, inputs), tau, tau * d.share(d.number(0, 1), n),
                           d.one_of("tanh", "sigmoid", "relu", "identity"))


def lif(d: Draw, n: int, inputs: int) -> Lif:
    tau, rest = d.rng.uniform(1, 5, n) * d.size(0, 1), d.around(1.0, n)
    return Lif(*square(d, n, inputs), tau, d.around(d.size(-1, 1), n), d.around(1.0, n),
               rest + d.rng.uniform(0.01, 1, n) * d.size(-1, 1), rest)


def lrc(d: Draw, n: int, inputs: int) -> Lrc:
    size, most = (n, inputs + n), d.size(-1, 1.5)
    return Lrc(d.around(d.size(-2, 3), *size), d.around(d.size(-2, 2), *size), d.share(most, *size) * d.number(0, 1, 1),
               d.around(most, *size), d.share(d.size(-3, 1), n), d.around(d.size(-2, 2), n),
               d.dense(n, inputs + n, d.size(-1, 1)), d.share(d.size(-2, 1), n) if d.rng.random() < 0.5 else None,
               d.count(1, 4))


def solved(d: Draw) -> tuple[int, float, str, float]:
    return d.count(1, 6), d.number(0.1, 0.5, 1.0), d.one_of("euler", "rk4"), d.number(0, 1, 10)


Make = Callable[[Draw, int, int], Layer]
CELLS: dict[str, Make] = {
    "ltc": ltc, "euler": lambda d, n, i: ltc(d, n, i, "euler"), "rk4": lambda d, n, i: ltc(d, n, i, "rk4"),
    "exponential": lambda d, n, i: ltc(d, n, i, "exponential"), "cfc": cfc,
    "wired": lambda d, n, i: WiredCfc((cfc(d, 3, i, "a"), cfc(d, 2, 3, "b")), d.count(1, 2)),
    "lstm": lstm, "gru": gru, "rnn": lambda d, n, i: Rnn(*square(d, n, i), d.one_of("tanh", "relu")),
    "mixed": lambda d, n, i: mixed(d, n, i, "state"), "mixed input": lambda d, n, i: mixed(d, n, i, "input"),
    "ct-rnn": lambda d, n, i: CtRnn(*square(d, n, i), d.rng.uniform(0.1, 1, n) * d.size(-1, 2), *solved(d)),
    "ode": lambda d, n, i: NeuralOde(*square(d, n, i), *solved(d)),
    "ct-gru": ct_gru, "gru-ode": gru_ode, "ode-rnn": ode_rnn, "leaky": leaky, "lif": lif, "lrc": lrc,
    "large": lambda d, n, i: ltc(d, 40, i),
}
PARAMETERS = {"leaky_relu": (0.1,), "elu": (1.0, 1.0), "hardtanh": (-1.0, 1.0), "hard_sigmoid": (0.2,),
              "hard_silu": (1 / 6,)}


def stack(d: Draw, n: int, inputs: int) -> tuple[Layer, ...]:
    """Dense, a function, a cell, dense, sometimes softmax."""
    width, most = d.count(1, 11), d.size(-1, 1)
    name = d.one_of("relu", "tanh", "sigmoid", "silu", "gelu", *PARAMETERS)
    cell = CELLS[d.one_of("ltc", "cfc", "gru", "lstm")](d, n, width)
    layers = (d.dense(width, inputs, most), Activation(name, width, PARAMETERS.get(name, ())), cell,
              d.dense(3, cell.outputs, most))
    return (*layers, Softmax(3)) if d.rng.random() < 0.5 else layers


def conv(d: Draw, n: int, _inputs: int) -> tuple[Layer, ...]:
    """A convolution over a small frame, then a cell."""
    height, width, channels, kernel, filters, pad = (d.count(*ends) for ends in (
        (3, 6), (3, 6), (1, 2), (1, 3), (1, 4), (0, 1)))
    w = Windows(height, width, channels, kernel, kernel, 1, 1, pad, pad, height + 2 * pad - kernel + 1,
                width + 2 * pad - kernel + 1, d.one_of("chw", "hwc"), 1, 1)
    most = d.size(-1, 1.3)
    head = Conv2d(w, d.around(most, filters, kernel, kernel, channels), d.around(most, filters), d.rng.random() < 0.5)
    return head, CELLS[d.one_of("ltc", "cfc")](d, n, head.outputs)


HEADS = {"stack": stack, "conv": conv}
KINDS = (*CELLS, *HEADS)


def extreme_policy(seed: int) -> Policy:
    """A network of kind ``KINDS[seed % len(KINDS)]``; ranges and timespans of any width."""
    d, kind = Draw(seed), KINDS[seed % len(KINDS)]
    n, inputs = d.count(1, 8), d.count(1, 4)
    layers = HEADS[kind](d, n, inputs) if kind in HEADS else (CELLS[kind](d, n, inputs),)
    most = d.size(-2, 3) if d.rng.random() < 0.4 else 1.0
    ranges = np.stack([-most * d.share(1.0, layers[0].inputs), np.full(layers[0].inputs, most)], axis=1)
    spans = [DtRange(), DtRange(0.5, 2.0, 1.0), DtRange(0.01, 10.0, 1.0), DtRange(1e-4, 1e4, 1.0)]
    span = DtRange(0.1, 1.0, 0.5) if kind == "lif" else spans[d.count(0, 3)]
    return replace(Policy("net", layers, ranges), dt=span)
