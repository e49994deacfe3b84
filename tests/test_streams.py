"""Frames that exist only in part: fused and streamed C equals the program, and what it is fused from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.frontend.heads import windows_over
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.policy import Activation, Dense, Layer, Policy
from ncpc.passes.fold import fold_constants
from tests.c_programs import assert_c_is_program, fixed_program, float_program

Chain = list[Layer]
SEEDS = range(6)


def conv(rng: np.random.Generator, frame: tuple[int, int, int], layout: str, filters: int, groups: int = 1,
         dilation: tuple[int, int] = (1, 1), relu: bool | None = None) -> Conv2d:
    """A random convolution over a frame of (height, width, channels)."""
    kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
    stride = tuple(int(n) for n in rng.integers(1, 3, 2))
    padding = tuple(int(n) for n in rng.integers(0, max(min(kernel), 1), 4))
    windows = windows_over(frame, kernel, stride, padding, layout, "conv", dilation)  # type: ignore[arg-type]
    weight = rng.normal(size=(filters, *kernel, frame[2] // groups))
    return Conv2d(windows, weight, rng.normal(size=filters), bool(rng.integers(2)) if relu is None else relu)


def pool(rng: np.random.Generator, frame: tuple[int, int, int], layout: str) -> Pool:
    """A random pooling, side by side or not, sometimes with padding."""
    kernel = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
    stride = kernel if rng.integers(2) else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = (kernel[0] // 2, kernel[0] // 2, 0, 0) if rng.integers(3) == 0 else (0, 0, 0, 0)
    function = ("max", "avg", "avg_inside")[int(rng.integers(3))]
    return Pool(windows_over(frame, kernel, stride, padding, layout, "pool"), function)


def chain(seed: int) -> Chain:
    """Convolutions, activations and pooling of every form, then a dense layer."""
    rng = np.random.default_rng(seed)
    layout = ("hwc", "chw")[int(rng.integers(2))]
    frame = (int(rng.integers(12, 17)), int(rng.integers(12, 17)), int(rng.integers(1, 4)))
    layers: Chain = []
    for _ in range(int(rng.integers(1, 4))):
        if min(frame[:2]) < 6:
            break
        groups = frame[2] if rng.integers(3) == 0 else 1
        dilation = (2, 2) if rng.integers(4) == 0 else (1, 1)
        made = conv(rng, frame, layout, groups * int(rng.choice([1, 2, 3, 4])), groups, dilation)
        layers.append(made)
        frame = (made.windows.rows, made.windows.cols, made.filters)
        if rng.integers(2):
            layers.append(Activation(("tanh", "relu", "sigmoid")[int(rng.integers(3))], made.outputs))
        if rng.integers(2) and min(frame[:2]) >= 4:
            pooled = pool(rng, frame, layout)
            layers.append(pooled)
            frame = (pooled.windows.rows, pooled.windows.cols, frame[2])
    width = layers[-1].outputs
    return [*layers, Dense(rng.normal(size=(3, width)) / np.sqrt(width), rng.normal(size=3))]


def policy_of(layers: Chain) -> Policy:
    return Policy("net", tuple(layers), np.tile([-1.0, 1.0], (layers[0].inputs, 1)))


def require_equal(seed: int, folder: Path) -> None:
    policy = policy_of(chain(seed))
    for program in (float_program(policy), fixed_program(policy), fixed_program(policy, "int8")):
        assert_c_is_program(fold_constants(program), folder, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_c_of_layers_over_frames_equals_the_program(seed: int, tmp_path: Path) -> None:
    require_equal(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_c_of_many_layers_over_frames_equals_the_program(seed: int, tmp_path: Path) -> None:
    require_equal(seed, tmp_path)
