"""Reads torch modules over frames: convolutions, pooling, normalization, softmax. Frames are channel, row, column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.heads import folded, frame_of, normalization, pair, shape_of, windows_over
from ncpc.frontend.tensors import array_of, class_name
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import Layer
from ncpc.torch_library import torch_module

Shape = tuple[int, ...] | None
Read = tuple[list[Layer], Shape]
Reader = Callable[[Any, Shape, list[Layer]], Read]


def head_reader(module: Any) -> Reader | None:
    """The reader of a module of this kind: (module, shape, layers so far) -> (layers, shape after it)."""
    nn = torch_module().nn
    readers: dict[Any, Reader] = {
        nn.Conv2d: _conv, nn.Conv1d: _conv, nn.MaxPool2d: _max_pool, nn.MaxPool1d: _max_pool, nn.AvgPool2d: _avg_pool,
        nn.AvgPool1d: _avg_pool, nn.BatchNorm1d: _norm, nn.BatchNorm2d: _norm, nn.Flatten: _flatten,
        nn.Softmax: _softmax,
    }
    return readers.get(type(module))


def _conv(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    name = class_name(module)
    _require(module, name, groups=1, dilation=1)
    if module.padding_mode != "zeros":
        raise Unsupported(f"{name} with padding_mode {module.padding_mode!r} cannot be read; use 'zeros'")
    frame, kernel, stride = frame_of(shape, "chw", name), pair(module.kernel_size), pair(module.stride)
    windows = windows_over(frame, kernel, stride, _padding(module, kernel), "chw", name)
    weight = array_of(module.weight)
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    bias = np.zeros(len(weight)) if module.bias is None else array_of(module.bias)
    layer = Conv2d(windows, weight.transpose(0, 2, 3, 1).copy(), bias)
    return [*layers, layer], shape_of(windows.rows, windows.cols, layer.filters, "chw", _flat(shape))


def _flat(shape: Shape) -> bool:
    return shape is not None and len(shape) == 2


def _padding(module: Any, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    if module.padding == "valid":
        return 0, 0, 0, 0
    if module.padding == "same":
        (rows, cols) = (k - 1 for k in kernel)
        return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2
    rows, cols = (0, module.padding[0]) if len(module.padding) == 1 else module.padding
    return rows, rows, cols, cols


def _max_pool(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    _require(module, class_name(module), padding=0, dilation=1, ceil_mode=False, return_indices=False)
    return _pool(module, "max", shape, layers)


def _avg_pool(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    _require(module, class_name(module), padding=0, ceil_mode=False, divisor_override=None)
    return _pool(module, "avg", shape, layers)


def _pool(module: Any, function: str, shape: Shape, layers: list[Layer]) -> Read:
    name = class_name(module)
    kernel, stride = _sized(module.kernel_size, shape), _sized(module.stride, shape)
    windows = windows_over(frame_of(shape, "chw", name), kernel, stride, (0, 0, 0, 0), "chw", name)
    after = shape_of(windows.rows, windows.cols, windows.channels, "chw", _flat(shape))
    return [*layers, Pool(windows, function)], after


def _sized(value: Any, shape: Shape) -> tuple[int, int]:
    """A pool's size: one number means both sides of a frame, or the only one of a row."""
    return (1, value) if isinstance(value, int) and _flat(shape) else pair(value)


def _norm(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    name = class_name(module)
    if module.running_mean is None:
        raise Unsupported(f"{name} without running statistics depends on the batch; train it with "
                          "track_running_stats=True")
    gamma, beta = (1.0, 0.0) if module.weight is None else (array_of(module.weight), array_of(module.bias))
    mean, variance = array_of(module.running_mean), array_of(module.running_var)
    return folded(layers, *normalization(gamma, beta, mean, variance, module.eps), name), shape


def _flatten(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    _require(module, class_name(module), start_dim=1, end_dim=-1)
    return layers, None if shape is None else (int(np.prod(shape)),)


def _softmax(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    if module.dim not in (-1, 1) or (shape is not None and len(shape) > 1):
        raise Unsupported(f"{class_name(module)} over dimension {module.dim} of a frame cannot be read; flatten first")
    return [*layers, Softmax(layers[-1].outputs if layers else int(np.prod(shape or ())))], shape


def _require(module: Any, name: str, **expected: Any) -> None:
    for option, value in expected.items():
        found = getattr(module, option, value)
        if found not in (value, (value,), (value, value)):
            raise Unsupported(f"{name} with {option}={found} cannot be read; use {option}={value}")
