"""Policies that read frames: random heads, and the driving architecture at any size, from torch and from Keras."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.ir.policy import DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from tests.head_models import nn, random_heads, torch

Size = tuple[int, int]


def images(seed: int, frame: tuple[int, int, int], steps: int, batch: int = 2) -> Sequences:
    """Coarse patterns that drift, and a little noise, between 0 and 1; ``frame`` is (height, width, channels)."""
    rng, (height, width, channels) = np.random.default_rng(seed), frame
    coarse = np.cumsum(rng.normal(0.0, 0.4, (batch, steps, -(-height // 8), -(-width // 8), channels)), axis=1)
    wide = np.clip(0.5 + coarse, 0, 1).repeat(8, axis=2).repeat(8, axis=3)[:, :, :height, :width]
    noisy = np.clip(wide + 0.1 * rng.normal(size=wide.shape), 0, 1)
    return Sequences(noisy.reshape(batch, steps, -1))


def random_head(seed: int) -> Policy:
    """A random convolutional head before a small cell; inputs between -1 and 1."""
    from ncpc.frontend.ncps_torch import import_model

    modules, frame = random_heads(seed)
    inputs = int(np.prod(frame))
    return Policy("net", import_model(modules, frame).layers, np.tile([-1.0, 1.0], (inputs, 1)), DtRange())


def noise(seed: int, policy: Policy, steps: int = 25) -> Sequences:
    """Independent numbers across the input range."""
    lo, hi = policy.input_range.T
    return Sequences(np.random.default_rng(seed).uniform(lo, hi, (2, steps, policy.inputs)))


def driving(source: str, size: Size = (38, 64), filters: Size = (6, 8)) -> Policy:
    """Conv2d - MaxPool - Conv2d - MaxPool - Flatten - Dense - NCP, its output moving by a good part of 1."""
    layers = {"torch": _from_torch, "keras": _from_keras}[source](size, filters)
    frame = (*size, 3)
    inputs = int(np.prod(frame))
    return Policy("drive", layers, np.tile([0.0, 1.0], (inputs, 1)), DtRange(), calibration=images(0, frame, 20))


def _from_torch(size: Size, filters: Size) -> tuple[Layer, ...]:
    from ncpc.frontend.ncps_torch import import_model

    cells, wirings = pytest.importorskip("ncps.torch"), pytest.importorskip("ncps.wirings")
    torch.manual_seed(0)
    head = [nn.Conv2d(3, filters[0], 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(*filters, 5), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten()]
    width = int(np.prod(nn.Sequential(*head)(torch.zeros(1, 3, *size)).shape))
    dense = nn.Linear(width, 32)
    dense.weight.data *= 30.0
    return import_model([*head, dense, cells.LTC(32, wirings.AutoNCP(19, 1))], (3, *size)).layers


def _from_keras(size: Size, filters: Size) -> tuple[Layer, ...]:
    from ncpc.frontend.keras.read import import_model
    from tests.keras_models import keras, ncps_keras, wirings

    keras.utils.set_random_seed(0)
    make = keras.layers
    head = [make.Conv2D(filters[0], 5, activation="relu"), make.MaxPooling2D(2),
            make.Conv2D(filters[1], 5, activation="relu"), make.MaxPooling2D(2), make.Flatten(),
            make.Dense(32, kernel_initializer=keras.initializers.VarianceScaling(10.0, seed=1))]
    cell = ncps_keras.LTC(wirings.AutoNCP(19, 1), return_sequences=True)
    model = keras.Sequential([make.Input((None, *size, 3)), *(make.TimeDistributed(layer) for layer in head), cell])
    return import_model(model).layers
