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


def frame_layers(rng: np.random.Generator, channels: int, row: bool) -> list[Any]:
    """Convolution, normalization, activation and pooling, each sometimes; ``row``: in one dimension."""
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if row else (nn.Conv2d, nn.BatchNorm2d)
    pools = (nn.MaxPool1d, nn.AvgPool1d) if row else (nn.MaxPool2d, nn.AvgPool2d)
    filters = int(rng.integers(1, 4))
    sides = tuple(int(n) for n in rng.integers(1, 4, 2))
    size: Any = sides[0] if row or rng.integers(2) else sides
    small = size if isinstance(size, int) else min(size)
    layers = [conv(channels, filters, size, stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, small)),
                   bias=bool(rng.integers(2)))]
    layers += [norm(filters)] if rng.integers(2) else []
    layers += [[nn.ReLU(), nn.Tanh(), nn.Sigmoid(), nn.Identity()][int(rng.integers(4))]]
    layers += [pools[int(rng.integers(2))](2, stride=int(rng.integers(1, 3)))] if rng.integers(2) else []
    return layers


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
        modules += frame_layers(rng, modules[0].out_channels, row)
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
