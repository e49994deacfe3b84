"""Random convolutional heads before a small cell: torch modules in order, and Keras models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ncps_cells = pytest.importorskip("ncps.torch")

nn = torch.nn
Frame = tuple[int, ...]


ACTIVATIONS: list[Callable[[], Any]] = [
    nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.ELU, lambda: nn.ELU(0.5), lambda: nn.LeakyReLU(0.2), nn.SiLU, nn.GELU,
    nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SELU, lambda: nn.PReLU(init=-0.3), lambda: nn.Hardtanh(-0.5, 0.7),
    nn.Dropout,
]


def frame_layers(rng: np.random.Generator, channels: int, row: bool) -> list[Any]:
    """Convolution, normalization before and after an activation, and pooling, each sometimes; ``row``: 1-D."""
    norm = nn.BatchNorm1d if row else nn.BatchNorm2d
    made = convolution(rng, channels, row)
    filters = made.out_channels
    layers = [norm(channels)] if rng.integers(4) == 0 else []
    layers += [made, *([norm(filters)] if rng.integers(2) else [])]
    layers += [ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))]()]
    layers += [norm(filters)] if rng.integers(3) == 0 else []
    return [*layers, *([pooling(rng, row)] if rng.integers(2) else [])]


def convolution(rng: np.random.Generator, channels: int, row: bool) -> Any:
    """Kernel, stride, padding, dilation, groups and bias at random."""
    groups = channels if rng.integers(3) == 0 else 1
    sides = tuple(int(n) for n in rng.integers(1, 4, 2))
    size: Any = sides[0] if row or rng.integers(2) else sides
    small = size if isinstance(size, int) else min(size)
    stride = int(rng.integers(1, 3))
    padding: Any = "same" if stride == 1 and rng.integers(4) == 0 else int(rng.integers(0, small))
    return (nn.Conv1d if row else nn.Conv2d)(
        channels, groups * int(rng.integers(1, 4)), size, stride=stride, padding=padding, groups=groups,
        dilation=int(rng.integers(1, 3)), bias=bool(rng.integers(2)))


def pooling(rng: np.random.Generator, row: bool) -> Any:
    """Largest elements or means, in windows side by side or not, with padding or without."""
    stride, padding, ceil = int(rng.integers(1, 3)), int(rng.integers(2)), bool(rng.integers(2))
    if rng.integers(2):
        pool = nn.MaxPool1d if row else nn.MaxPool2d
        return pool(2, stride, dilation=2) if rng.integers(3) == 0 else pool(2, stride, padding, ceil_mode=ceil)
    counted = bool(rng.integers(2)) and not ceil
    return (nn.AvgPool1d if row else nn.AvgPool2d)(2, stride, padding, ceil_mode=ceil, count_include_pad=counted)


def random_heads(seed: int) -> tuple[list[Any], Frame]:
    """Modules and the frame's shape (channels, height, width) or (channels, length)."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    row = bool(rng.integers(2))
    channels = int(rng.integers(1, 4))
    frame = (channels, *(int(n) for n in rng.integers(14, 19, 1 if row else 2)))
    modules = frame_layers(rng, channels, row)
    left = nn.Sequential(*modules).eval()(torch.zeros(1, *frame)).shape[2:]
    if rng.integers(2) and min(left) >= 8:  # room for another convolution and pooling
        filters = [module.out_channels for module in modules if hasattr(module, "out_channels")]
        modules += frame_layers(rng, filters[-1], row)
    modules += [nn.Flatten()]
    width = int(np.prod(nn.Sequential(*modules).eval()(torch.zeros(1, *frame)).shape))
    units = int(rng.integers(2, 5))
    tails: list[Callable[[], list[Any]]] = [list, lambda: [nn.Linear(units, 3), nn.Softmax(-1)]]
    modules += [nn.Linear(width, 4), nn.ReLU(), ncps_cells.CfC(4, units, backbone_units=4, backbone_layers=1)]
    modules += tails[int(rng.integers(2))]()
    for module in modules:
        _settle(module, rng)
    return modules, frame


def _settle(module: Any, rng: np.random.Generator) -> None:
    """Running statistics as after training."""
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
        for tensor, lo, hi in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0),
                               (module.weight.data, 0.5, 1.5), (module.bias.data, -0.3, 0.3)):
            tensor.copy_(torch.as_tensor(rng.uniform(lo, hi, tensor.shape)))
    module.eval()
