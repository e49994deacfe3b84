"""Reads the elementwise modules of torch, and names the nearest one for those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ncpc.errors import Unsupported
from ncpc.ir.policy import Activation, Layer
from ncpc.ir.tensors import array_of, class_name
from ncpc.system.torch_library import torch_module

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al. 2017, equation 14 (and torch's documentation of SELU)."""
SIXTH = 1.0 / 6.0
NEAREST = {
    "InstanceNorm1d": "GroupNorm", "InstanceNorm2d": "GroupNorm", "LocalResponseNorm": "BatchNorm2d",
    "RMSNorm": "LayerNorm", "Mish": "SiLU", "CELU": "ELU", "RReLU": "LeakyReLU", "Softsign": "Tanh",
    "Hardshrink": "LeakyReLU", "Tanhshrink": "LeakyReLU", "Threshold": "ReLU", "LogSigmoid": "ELU",
    "LogSoftmax": "Softmax", "GLU": "SiLU",
    "LPPool2d": "AvgPool2d", "Conv3d": "Conv2d", "ConvTranspose2d": "Conv2d", "ZeroPad2d": "the convolution's padding",
    "Upsample": "a smaller stride",
}
"""By the name of a class: what could be used instead."""


def activation_readers() -> dict[Any, Callable[[Any], list[Layer]]]:
    """The reader of each class; widths are filled in later. Dropout does nothing once trained."""
    nn = torch_module().nn
    plain = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid", nn.SiLU: "silu"}
    nothing = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    return {
        **{kind: _plain(function) for kind, function in plain.items()},
        **dict.fromkeys(nothing, _nothing),
        nn.GELU: _gelu,
        nn.Softplus: _softplus,
        nn.LeakyReLU: lambda m: [Activation("leaky_relu", 0, (float(m.negative_slope),))],
        nn.PReLU: _prelu,
        nn.ELU: lambda m: [Activation("elu", 0, (float(m.alpha), 1.0))],
        nn.SELU: lambda _: [Activation("elu", 0, (SELU_ALPHA, SELU_SCALE))],
        nn.Hardtanh: lambda m: [Activation("hardtanh", 0, (float(m.min_val), float(m.max_val)))],
        nn.ReLU6: lambda _: [Activation("hardtanh", 0, (0.0, 6.0))],
        nn.Hardsigmoid: lambda _: [Activation("hard_sigmoid", 0, (SIXTH,))],
        nn.Hardswish: lambda _: [Activation("hard_silu", 0, (SIXTH,))],
    }


def instead_of(module: Any) -> str:
    """What to use instead of a module that cannot be read, as a part of a sentence; empty where nothing is known."""
    nearest = NEAREST.get(type(module).__name__)
    return f"; use {nearest} instead" if nearest else ""


def _plain(function: str) -> Callable[[Any], list[Layer]]:
    return lambda _: [Activation(function, 0)]


def _nothing(_: Any) -> list[Layer]:
    return []


def _gelu(module: Any) -> list[Layer]:
    if module.approximate != "none":
        raise Unsupported(f"{class_name(module)} with approximate={module.approximate!r} cannot be read; use 'none'")
    return [Activation("gelu", 0)]


def _softplus(module: Any) -> list[Layer]:
    """Beyond its threshold torch's is x itself: at 20, its default, 2e-9 less."""
    if module.beta != 1 or module.threshold < 20:
        raise Unsupported(f"{class_name(module)} with beta={module.beta} and threshold={module.threshold} cannot be "
                          "read; use beta=1 and threshold=20")
    return [Activation("softplus", 0)]


def _prelu(module: Any) -> list[Layer]:
    slope = array_of(module.weight)
    if slope.size != 1:
        raise Unsupported(f"{class_name(module)} with a slope per channel cannot be read; use num_parameters=1")
    return [Activation("leaky_relu", 0, (float(slope[0]),))]
