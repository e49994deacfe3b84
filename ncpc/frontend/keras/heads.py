"""Keras layers around a cell, step by step: dense ones, convolutions, pooling, activations."""

from __future__ import annotations

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.keras.cells import function_of
from ncpc.frontend.keras.model import KerasLayer
from ncpc.ir.policy import Activation, Dense, Layer

Shape = tuple[int, ...] | None
FUNCTIONS = ("relu", "tanh", "sigmoid")


def read_head(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> tuple[list[Layer], Shape]:
    """The layers so far with this one, and the shape of one step's values after it."""
    if layer.kind == "Dense":
        kernel = layer.weights["kernel"]
        dense = Dense(kernel.T.copy(), layer.weights.get("bias", np.zeros(kernel.shape[1])))
        return [*before, dense, *_activation(layer, where)], (dense.outputs,)
    if layer.kind in ("Activation", "ReLU"):
        return [*before, *_activation(layer, where)], shape
    raise Unsupported(f"{where}: layer '{layer.name}' of class {layer.kind} cannot be read; "
                      "known are Dense, Activation, ReLU")


def _activation(layer: KerasLayer, where: str) -> list[Layer]:
    name = "relu" if layer.kind == "ReLU" else function_of(layer.options.get("activation"))
    if name == "linear":
        return []
    if name not in FUNCTIONS:
        raise Unsupported(f"{where}: layer '{layer.name}' has the activation '{name}'; "
                          f"known are linear, {', '.join(FUNCTIONS)}")
    return [Activation(name, 0)]
