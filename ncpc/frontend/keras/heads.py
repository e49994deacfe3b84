"""Keras layers around a cell, step by step. Frames are row, column, channel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.heads import (
    Padding,
    Pair,
    folded,
    frame_of,
    normalization,
    pair,
    same_padding,
    shape_of,
    windows_over,
)
from ncpc.frontend.keras.cells import function_of
from ncpc.frontend.keras.model import KerasLayer
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import Activation, Dense, Layer
from ncpc.ir.windows import Windows

Shape = tuple[int, ...] | None
Read = tuple[list[Layer], Shape]
FUNCTIONS = ("relu", "tanh", "sigmoid")


def read_head(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    """The layers so far with this one, and the shape of one step's values after it."""
    if layer.kind not in _READERS:
        raise Unsupported(f"{where}: layer '{layer.name}' of class {layer.kind} cannot be read; "
                          f"known are {', '.join(_READERS)}")
    return _READERS[layer.kind](layer, shape, before, f"{where}: layer '{layer.name}'")


def _dense(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    if shape is not None and len(shape) > 1:
        raise Unsupported(f"{where} is a Dense over a frame of shape {shape}; put a Flatten before it")
    kernel = layer.weights["kernel"]
    dense = Dense(kernel.T.copy(), layer.weights.get("bias", np.zeros(kernel.shape[1])))
    return _activated(layer, [*before, dense], (dense.outputs,), where)


def _activation(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    return _activated(layer, before, shape, where)


def _activated(layer: KerasLayer, layers: list[Layer], shape: Shape, where: str) -> Read:
    name = {"ReLU": "relu", "Softmax": "softmax"}.get(layer.kind) or function_of(layer.options.get("activation"))
    if name == "linear":
        return layers, shape
    if name == "softmax" and (shape is None or len(shape) == 1):
        return [*layers, Softmax(layers[-1].outputs if layers else int(np.prod(shape or ())))], shape
    if name not in FUNCTIONS:
        raise Unsupported(f"{where} has the activation '{name}'; known are linear, {', '.join(FUNCTIONS)}, and softmax "
                          "where nothing is left of a frame")
    return [*layers, Activation(name, 0)], shape


def _conv(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    options, kernel = layer.options, layer.weights["kernel"]
    for option in ("dilation_rate", "groups"):
        if pair(options.get(option, 1)) not in ((1, 1),):
            raise Unsupported(f"{where} with {option} {options[option]} cannot be read; use 1")
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    windows = _windows(layer, (kernel.shape[0], kernel.shape[1]), pair(_listed(options["strides"])), shape, where)
    bias = layer.weights.get("bias", np.zeros(kernel.shape[3]))
    made = Conv2d(windows, kernel.transpose(3, 0, 1, 2).copy(), bias)
    return _activated(layer, [*before, made], _after(windows, made.filters, shape), where)


def _listed(value: object) -> object:
    """One number of a list of one counts along the columns."""
    return (value[0],) if isinstance(value, list | tuple) and len(value) == 1 else value


def _windows(layer: KerasLayer, kernel: Pair, stride: Pair, shape: Shape, where: str) -> Windows:
    if layer.options.get("data_format") not in (None, "channels_last"):
        raise Unsupported(f"{where} with data_format {layer.options['data_format']} cannot be read; use channels_last")
    frame, padding = frame_of(shape, "hwc", where), str(layer.options.get("padding", "valid"))
    if padding not in ("valid", "same"):
        raise Unsupported(f"{where} with padding {padding} cannot be read; use valid or same")
    ends: Padding = same_padding(frame, kernel, stride) if padding == "same" else (0, 0, 0, 0)
    return windows_over(frame, kernel, stride, ends, "hwc", where)


def _after(windows: Windows, channels: int, shape: Shape) -> Shape:
    return shape_of(windows.rows, windows.cols, channels, "hwc", shape is not None and len(shape) == 2)


def _pool(function: str) -> Callable[[KerasLayer, Shape, list[Layer], str], Read]:
    def read(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
        if layer.kind.startswith("Global"):
            height, width, _ = frame_of(shape, "hwc", where)
            kernel = stride = (height, width)
        else:
            kernel = pair(_listed(layer.options["pool_size"]))
            stride = pair(_listed(layer.options.get("strides") or layer.options["pool_size"]))
        windows = _windows(layer, kernel, stride, shape, where)
        if not windows.inside:
            raise Unsupported(f"{where} with padding same cannot be read; use valid")
        after = _after(windows, windows.channels, shape)
        flat = (windows.channels,) if layer.kind.startswith("Global") else after
        return [*before, Pool(windows, function)], flat

    return read


def _norm(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    w = layer.weights
    found = normalization(w.get("gamma", 1.0), w.get("beta", 0.0), w["moving_mean"], w["moving_variance"],
                          float(layer.options.get("epsilon", 1e-3)))
    return folded(before, *found, where), shape


def _flatten(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    return before, None if shape is None else (int(np.prod(shape)),)


_READERS: dict[str, Callable[[KerasLayer, Shape, list[Layer], str], Read]] = {
    "Dense": _dense, "Activation": _activation, "ReLU": _activation, "Softmax": _activation, "Conv2D": _conv,
    "Conv1D": _conv, **dict.fromkeys(("MaxPooling2D", "MaxPooling1D", "GlobalMaxPooling2D"), _pool("max")),
    **dict.fromkeys(("AveragePooling2D", "AveragePooling1D", "GlobalAveragePooling2D"), _pool("avg")),
    "BatchNormalization": _norm, "Flatten": _flatten,
}
