"""Random Keras models of ncps.keras and of Keras itself, in double precision, with parameters that look trained."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
import pytest

torch = pytest.importorskip("torch")
keras = pytest.importorskip("keras")
ncps_keras = pytest.importorskip("ncps.keras")
wirings = pytest.importorskip("ncps.wirings")
dtypes = pytest.importorskip("keras.src.backend.common.dtypes")

Layers = list[Any]


def any_wiring(rng: np.random.Generator, stored: bool = False) -> Any:
    """``stored``: only those whose seed survives being saved."""
    units, seed = int(rng.integers(6, 14)), int(rng.integers(1000))
    outputs = int(rng.integers(1, units - 4))
    kinds: list[Callable[[], Any]] = [
        lambda: wirings.FullyConnected(units, outputs, erev_init_seed=seed),
        lambda: wirings.AutoNCP(units, outputs, sparsity_level=float(rng.uniform(0.1, 0.9)), seed=seed),
        lambda: wirings.Random(units, outputs, sparsity_level=0.5, random_seed=seed),
        lambda: wirings.NCP(4, 3, 2, 2, 2, 3, 2, seed=seed),
    ]
    return kinds[int(rng.integers(len(kinds) - stored))]()


def ltc(rng: np.random.Generator) -> Layers:
    mapping = ("affine", "linear", None)
    return [ncps_keras.LTC(
        any_wiring(rng), return_sequences=True, ode_unfolds=int(rng.integers(1, 7)), mixed_memory=bool(rng.integers(2)),
        input_mapping=mapping[int(rng.integers(3))], output_mapping=mapping[int(rng.integers(3))],
    )]


def cfc(rng: np.random.Generator) -> Layers:
    return [ncps_keras.CfC(
        int(rng.integers(1, 9)), return_sequences=True, mode=_mode(rng), mixed_memory=bool(rng.integers(2)),
        activation=str(rng.choice(["lecun_tanh", "tanh", "relu", "silu", "gelu"])),
        backbone_units=int(rng.integers(1, 9)), backbone_layers=int(rng.integers(0, 4)),
    )]


def wired_cfc(rng: np.random.Generator) -> Layers:
    return [ncps_keras.CfC(any_wiring(rng, stored=True), return_sequences=True, mode=_mode(rng),
                           mixed_memory=bool(rng.integers(2)))]


def around(rng: np.random.Generator) -> Layers:
    """A cell of ncps or of Keras between dense layers."""
    layers, units = keras.layers, int(rng.integers(1, 7))
    kinds: list[Callable[[], Any]] = [
        lambda: layers.LSTM(units, return_sequences=True, use_bias=bool(rng.integers(2))),
        lambda: layers.GRU(units, return_sequences=True, use_bias=bool(rng.integers(2))),
        lambda: layers.SimpleRNN(units, return_sequences=True, activation=str(rng.choice(["tanh", "relu"]))),
        lambda: layers.RNN(ncps_keras.LTCCell(any_wiring(rng)), return_sequences=True),
    ]
    before = layers.TimeDistributed(layers.Dense(4, str(rng.choice(["relu", "tanh", "sigmoid"]))))
    return [before, kinds[int(rng.integers(len(kinds)))](), layers.Dropout(0.5), layers.Dense(2)]


def _mode(rng: np.random.Generator) -> str:
    return str(rng.choice(["default", "pure", "no_gate"]))


FAMILIES: dict[str, Callable[[np.random.Generator], Layers]] = {
    "ltc": ltc, "cfc": cfc, "wired_cfc": wired_cfc, "around": around,
}


def random_model(family: str, seed: int) -> tuple[Any, int]:
    """A model whose every parameter was moved away from its initial value, those that a mask hides too."""
    rng = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    inputs = int(rng.integers(1, 6))
    return model_of(FAMILIES[family](rng), inputs, rng), inputs


def model_of(layers: Layers, inputs: int, rng: np.random.Generator) -> Any:
    """The layers as a model, its parameters moved."""
    model = keras.Sequential([keras.layers.Input((None, inputs)), *layers])
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if weight.path.endswith("erev"):
            value = value * rng.uniform(0.5, 1.5, value.shape)
        elif weight.dtype == "float32":
            value = value + rng.normal(0, 0.1, value.shape)
        positive = weight.path.rpartition("/")[2] in ("w", "sensory_w", "cm", "gleak")
        weight.assign((np.abs(value) + 0.01 if positive else value).astype(np.float32))
    return model


def in_double(model: Any, x: np.ndarray) -> np.ndarray:
    """The model's own outputs with every weight and operation in double precision, in so far as its code lets it."""
    return outputs(model, x, double=True)


def outputs(model: Any, x: np.ndarray, *, double: bool) -> np.ndarray:
    """The model's own outputs over sequences (B, T, ...), in binary32 or in double precision.

    Keras spends milliseconds on each step of a cell of ncps; so its operations are recorded once and replayed.
    ``tests/test_keras.py`` holds the replay to the model's own call, bit for bit.
    """
    kept = [weight._value.data for weight in model.weights]
    requires = [weight._value.requires_grad for weight in model.weights]
    if double:
        _set_precision(model, "float64")
    for weight in model.weights:
        weight._value.requires_grad_(False)  # a recording may hold no trainable tensor
        weight._value.data = weight._value.data.double() if double else weight._value.data
    try:
        with torch.no_grad():
            y = torch.as_tensor(x, dtype=torch.float64 if double else torch.float32)
            for layer in (layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)):
                y = _over_time(layer, y) if _is_stepped(layer) else layer(y)
            return keras.ops.convert_to_numpy(y)
    finally:
        _set_precision(model, "float32")
        for weight, value, trained in zip(model.weights, kept, requires, strict=True):
            weight._value.data = value
            weight._value.requires_grad_(trained)


def _is_stepped(layer: Any) -> bool:
    return type(getattr(layer, "cell", None)).__module__.startswith("ncps.") and layer.return_sequences


def _over_time(layer: Any, x: Any) -> Any:
    """A layer's cell, recorded on the first step and replayed over all of them."""
    tree, cell = keras.tree, layer.cell
    zeros = tree.map_structure(lambda units: torch.zeros(len(x), units, dtype=x.dtype), cell.state_size)
    zeros = zeros if isinstance(zeros, (list, tuple)) else [zeros]

    def step(now: Any, *flat: Any) -> Any:
        y, after = cell(now, tree.pack_sequence_as(zeros, list(flat)))
        return (y, *tree.flatten(after))

    states, ys = tree.flatten(zeros), []
    with warnings.catch_warnings():  # that sizes become constants is meant
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        recorded = torch.jit.trace(step, (x[:, 0], *states), check_trace=False)
    for t in range(x.shape[1]):
        y, *states = recorded(x[:, t], *states)
        ys.append(y)
    return torch.stack(ys, dim=1)


def _set_precision(model: Any, name: str) -> None:
    # Keras makes 64-bit results of its ops 32 bits wide, whatever the precision it is set to.
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = name
    for layer in model._flatten_layers():
        layer.dtype_policy = keras.DTypePolicy(name)
    keras.config.set_floatx(name)
    keras.config.set_dtype_policy(name)
