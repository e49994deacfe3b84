"""Reads torch modules over frames: convolutions, pooling, normalization, softmax. Frames are channel, row, column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.heads import frame_of, normalization, normalized, pair, shape_of, windows_over
from ncpc.frontend.torch_norms import group_norm, layer_norm
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import Layer
from ncpc.ir.tensors import array_of, class_name, dense_of
from ncpc.ir.windows import Windows
from ncpc.system.torch_library import torch_module

Shape = tuple[int, ...] | None
Read = tuple[list[Layer], Shape]
Reader = Callable[[Any, Shape, list[Layer]], Read]


def head_reader(module: Any) -> Reader | None:
    """The reader of a module of this kind: (module, shape, layers so far) -> (layers, shape after it)."""
    nn = torch_module().nn
    readers: dict[Any, Reader] = {
        nn.Conv2d: _conv, nn.Conv1d: _conv, nn.MaxPool2d: _max_pool, nn.MaxPool1d: _max_pool, nn.AvgPool2d: _avg_pool,
        nn.AvgPool1d: _avg_pool, nn.AdaptiveAvgPool1d: _adaptive, nn.AdaptiveAvgPool2d: _adaptive,
        nn.AdaptiveMaxPool1d: _adaptive, nn.AdaptiveMaxPool2d: _adaptive, nn.BatchNorm1d: _norm, nn.BatchNorm2d: _norm,
        nn.LayerNorm: layer_norm, nn.GroupNorm: group_norm, nn.Flatten: _flatten, nn.Softmax: _softmax,
        nn.Linear: _linear,
    }
    return readers.get(type(module))


def _conv(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    name = class_name(module)
    if module.padding_mode != "zeros":
        raise Unsupported(f"{name} with padding_mode {module.padding_mode!r} cannot be read; use 'zeros'")
    frame, kernel, stride = frame_of(shape, "chw", name), pair(module.kernel_size), pair(module.stride)
    _require_channels(module.in_channels, frame[2], shape, name)
    dilation, padding = pair(module.dilation), _padding(module, kernel)
    windows = windows_over(frame, kernel, stride, padding, "chw", name, dilation)
    weight = array_of(module.weight)
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    bias = np.zeros(len(weight)) if module.bias is None else array_of(module.bias)
    layer = Conv2d(windows, weight.transpose(0, 2, 3, 1).copy(), bias)
    return [*layers, layer], shape_of(windows.rows, windows.cols, layer.filters, "chw", _flat(shape))


def _require_channels(wanted: int, found: int, shape: Shape, name: str) -> None:
    if wanted != found:
        raise BadInput(f"{name}: reads {wanted} channels, but its input of shape {shape} has {found}; shapes are "
                       "(channels, height, width)")


def _linear(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    if shape is not None and len(shape) > 1:
        raise Unsupported(f"{class_name(module)} over a frame of shape {shape} cannot be read; put a Flatten before it")
    return [*layers, dense_of(module)], (int(module.out_features),)


def _flat(shape: Shape) -> bool:
    return shape is not None and len(shape) == 2


def _padding(module: Any, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
    if module.padding == "valid":
        return 0, 0, 0, 0
    if module.padding == "same":
        (rows, cols) = ((k - 1) * d for k, d in zip(kernel, pair(module.dilation), strict=True))
        return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2
    return _around(module.padding)


def _around(padding: Any) -> tuple[int, int, int, int]:
    """The same before and after; one number of a list counts along the columns."""
    rows, cols = (padding, padding) if isinstance(padding, int) else (0, padding[0]) if len(padding) == 1 else padding
    return rows, rows, cols, cols


def _max_pool(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    _require(module, class_name(module), return_indices=False)
    dilation = _sized(module.dilation, shape, 1)
    return _pool(module, "max", shape, layers, dilation)


def _avg_pool(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    _require(module, class_name(module), divisor_override=None)
    counted = module.count_include_pad and _around(_sized(module.padding, shape, 0)) != (0, 0, 0, 0)
    if module.ceil_mode and counted:
        raise Unsupported(f"{class_name(module)} with ceil_mode=True counts a part of its padding; use "
                          "count_include_pad=False or ceil_mode=False")
    return _pool(module, "avg" if counted else "avg_inside", shape, layers, (1, 1))


def _pool(module: Any, function: str, shape: Shape, layers: list[Layer], dilation: tuple[int, int]) -> Read:
    name = class_name(module)
    kernel, stride = _sized(module.kernel_size, shape, 1), _sized(module.stride, shape, 1)
    padding = _sized(module.padding, shape, 0)
    windows = windows_over(frame_of(shape, "chw", name), kernel, stride, _around(padding), "chw", name, dilation,
                           module.ceil_mode)
    function = "avg" if windows.inside and function == "avg_inside" else function
    return [*layers, Pool(windows, function)], _after(windows, shape)


def _adaptive(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    """Windows of one size side by side: the frame must be a multiple of the result."""
    name = class_name(module)
    height, width, channels = frame_of(shape, "chw", name)
    size = module.output_size
    sides = (size, size) if isinstance(size, int) or size is None else tuple(size)
    wanted = (1, sides[-1]) if _flat(shape) else sides
    rows, cols = (have if want is None else int(want) for want, have in zip(wanted, (height, width), strict=True))
    if height % rows or width % cols:
        raise Unsupported(f"{name} from {height} x {width} to {rows} x {cols} takes windows of different sizes; "
                          "use sizes that divide the frame")
    kernel = (height // rows, width // cols)
    windows = windows_over((height, width, channels), kernel, kernel, (0, 0, 0, 0), "chw", name)
    return [*layers, Pool(windows, "max" if "Max" in type(module).__name__ else "avg")], _after(windows, shape)


def _after(windows: Windows, shape: Shape) -> Shape:
    return shape_of(windows.rows, windows.cols, windows.channels, "chw", _flat(shape))


def _sized(value: Any, shape: Shape, across: int) -> tuple[int, int]:
    """A size: one number means both sides of a frame, or the only one of a row, whose other side is ``across``."""
    if _flat(shape):
        return across, int(value if isinstance(value, int) else value[0])
    return pair(value)


def _norm(module: Any, shape: Shape, layers: list[Layer]) -> Read:
    name = class_name(module)
    if module.running_mean is None:
        raise Unsupported(f"{name} without running statistics depends on the batch; train it with "
                          "track_running_stats=True")
    gamma, beta = (1.0, 0.0) if module.weight is None else (array_of(module.weight), array_of(module.bias))
    mean, variance = array_of(module.running_mean), array_of(module.running_var)
    frame = frame_of(shape, "chw", name) if shape is not None and len(shape) > 1 else None
    if shape is not None:
        _require_channels(module.num_features, frame[2] if frame else shape[0], shape, name)
    factor, offset = normalization(gamma, beta, mean, variance, module.eps)
    return normalized(layers, factor, offset, frame, "chw"), shape


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
