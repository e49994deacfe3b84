"""Policies around layers that scale, combine, select, bend and normalize, for the tests of all targets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ncpc.ir.heads import Combine, History, Norm, Scale, Select
from ncpc.ir.policy import F64, INPUT, Activation, Dense, Layer, Policy, Tap
from ncpc.ir.sequences import Sequences

RNG = np.random.default_rng(1)
WEIGHT, BIAS = RNG.normal(size=6), RNG.normal(size=6)
INDEX, PART = np.array([5, 0, 0, 3]), np.array([2, 3, 4])
COMBINATIONS: dict[str, Callable[[F64, F64], F64]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
}


def ago(x: F64, steps: int) -> F64:
    """Sequences (B, T, n) some steps later, 0 before they begin."""
    return np.concatenate([np.zeros_like(x), x], axis=1)[:, x.shape[1] - steps : 2 * x.shape[1] - steps]


LAYERS: dict[str, tuple[Layer, Callable[[F64], F64]]] = {
    "scale": (Scale(WEIGHT, BIAS), lambda x: WEIGHT * x + BIAS),
    **{name: (Combine(name, 3), lambda x, f=f: f(x[..., :3], x[..., 3:])) for name, f in COMBINATIONS.items()},
    "exp": (Activation("exp", 6), np.exp), "abs": (Activation("abs", 6), np.abs),
    "softplus": (Activation("softplus", 6), lambda x: np.log1p(np.exp(x))),
    "select": (Select(INDEX, 6), lambda x: x[..., INDEX]),
    "select a part": (Select(PART, 6), lambda x: x[..., PART]),
    "history": (History(np.array([4, 3, 1, 0]), 6), lambda x: np.concatenate([ago(x, k) for k in (4, 3, 1, 0)], -1)),
    "one step ago": (History(np.array([1]), 6), lambda x: ago(x, 1)),
}
"""Layers, and what NumPy says of each."""


def between(layer: Layer) -> Policy:
    """The layer between two dense ones; an exponential of small numbers, as it makes large ones of their errors."""
    rng = np.random.default_rng(2)
    size = 0.2 if getattr(layer, "function", None) == "exp" else 1.0
    first = Dense(size * rng.normal(size=(layer.inputs, 4)), size * rng.normal(size=layer.inputs))
    last = Dense(rng.normal(size=(2, layer.outputs)), rng.normal(size=2))
    return Policy("net", (first, layer, last), np.tile([-1.0, 1.0], (4, 1)))


def alone(layer: Layer) -> Policy:
    """The layer and nothing else."""
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)))


def sequences(inputs: int) -> Sequences:
    """Noise over the input range."""
    return Sequences(np.random.default_rng(3).uniform(-1, 1, (2, 20, inputs)), np.ones((2, 20)))


EVERY: dict[str, Layer] = {
    **{name: layer for name, (layer, _) in LAYERS.items()},
    "norm of 1 part": Norm(np.abs(WEIGHT) + 0.5, BIAS), "norm of 2 parts": Norm(np.abs(WEIGHT) + 0.5, BIAS, 2, 1e-3),
}
STILL = (Scale(0 * WEIGHT, BIAS), Activation("tanh", 6))
"""Layers whose outputs never change, though they read inputs."""
FORMS: dict[str, Policy] = {
    **{f"{name}, {how.__name__}": how(layer) for name, layer in EVERY.items() for how in (between, alone)},
    "a gate that never changes": Policy(
        "net", (*STILL, Combine("mul", 6)), np.tile([-1.0, 1.0], (6, 1)),
        wires=((Tap(INPUT, 0, 6),), (Tap(0, 0, 6),), (Tap(1, 0, 6), Tap(INPUT, 0, 6)), (Tap(2, 0, 6),))),
}
"""Every layer between dense ones, and alone."""
