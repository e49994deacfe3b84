"""Activations of Keras by name, and as layers with options of their own."""

from __future__ import annotations

from ncpc.errors import Unsupported
from ncpc.frontend.keras.model import KerasLayer
from ncpc.ir.policy import Activation, Layer

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al. 2017, equation 14."""
SIXTH = 1.0 / 6.0
NAMED: dict[str, tuple[str, tuple[float, ...]]] = {
    "relu": ("relu", ()), "tanh": ("tanh", ()), "sigmoid": ("sigmoid", ()), "silu": ("silu", ()), "swish": ("silu", ()),
    "gelu": ("gelu", ()), "relu6": ("hardtanh", (0.0, 6.0)), "elu": ("elu", (1.0, 1.0)),
    "selu": ("elu", (SELU_ALPHA, SELU_SCALE)), "leaky_relu": ("leaky_relu", (0.2,)),
    "softplus": ("softplus", ()), "exponential": ("exp", ()), "hard_silu": ("hard_silu", (SIXTH,)),
    "hard_swish": ("hard_silu", (SIXTH,)), "hard_tanh": ("hardtanh", (-1.0, 1.0)),
}
"""As Keras defines them by default; hard_sigmoid is left out, since Keras 2 and 3 mean two functions by it."""
ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU")


def activation_of(layer: KerasLayer, name: str, where: str) -> list[Layer]:
    """What follows a layer: its activation by name, or the layer that is one; nothing for the identity."""
    if layer.kind in ACTIVATION_LAYERS:
        return [_LAYERS[layer.kind](layer, where)]
    if name == "linear":
        return []
    if name not in NAMED:
        raise Unsupported(f"{where} has the activation '{name}'; known are linear, {', '.join(NAMED)}, and softmax "
                          "where nothing is left of a frame")
    function, parameters = NAMED[name]
    return [Activation(function, 0, parameters)]


def _relu(layer: KerasLayer, where: str) -> Activation:
    options = layer.options
    most, slope, threshold = (options.get(name) for name in ("max_value", "negative_slope", "threshold"))
    if threshold or (slope and most is not None):
        raise Unsupported(f"{where} with threshold {threshold}, negative_slope {slope} and max_value {most} cannot be "
                          "read; use ReLU(max_value) or LeakyReLU")
    if most is not None:
        return Activation("hardtanh", 0, (0.0, float(most)))
    return Activation("leaky_relu", 0, (float(slope),)) if slope else Activation("relu", 0)


def _leaky(layer: KerasLayer, where: str) -> Activation:
    """Keras 2 calls the slope alpha."""
    options = layer.options
    return Activation("leaky_relu", 0, (float(options.get("negative_slope", options.get("alpha", 0.3))),))


def _elu(layer: KerasLayer, where: str) -> Activation:
    return Activation("elu", 0, (float(layer.options.get("alpha", 1.0)), 1.0))


_LAYERS = {"ReLU": _relu, "LeakyReLU": _leaky, "ELU": _elu}
