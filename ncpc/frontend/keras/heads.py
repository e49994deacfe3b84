"""Keras layers around a cell, step by step. Frames are row, column, channel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.heads import (
    Padding,
    Pair,
    frame_of,
    normalization,
    normalized,
    pair,
    same_padding,
    shape_of,
    windows_over,
)
from ncpc.frontend.keras.activations import ACTIVATION_LAYERS, activation_of
from ncpc.frontend.keras.cells import function_of
from ncpc.frontend.keras.model import F64, KerasLayer
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import Activation, Dense, Layer
from ncpc.ir.windows import Windows

Shape = tuple[int, ...] | None
Read = tuple[list[Layer], Shape]
NEAREST = {
    "LayerNormalization": "BatchNormalization", "GroupNormalization": "BatchNormalization", "Conv3D": "Conv2D",
    "UnitNormalization": "BatchNormalization", "PReLU": "LeakyReLU", "ZeroPadding2D": "padding same",
    "Conv2DTranspose": "Conv2D",
}
"""By class: what could be used instead."""
KERAS_EPSILON = 1e-7
"""``keras.config.epsilon()``, below which a Normalization lets no deviation go."""


def read_head(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    """The layers so far with this one, and the shape of one step's values after it."""
    if layer.kind not in _READERS:
        nearest = NEAREST.get(layer.kind)
        raise Unsupported(f"{where}: layer '{layer.name}' of class {layer.kind} cannot be read"
                          f"{f'; use {nearest} instead' if nearest else ''}; known are {', '.join(_READERS)}")
    return _READERS[layer.kind](layer, shape, before, f"{where}: layer '{layer.name}'")


def _dense(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    kernel = layer.weights["kernel"]
    bias = layer.weights.get("bias", np.zeros(kernel.shape[1]))
    if shape is None or len(shape) == 1:
        return _activated(layer, [*before, Dense(kernel.T.copy(), bias)], (kernel.shape[1],), where)
    # Over a frame it reads the channels of each place: a convolution of one place.
    windows = windows_over(frame_of(shape, "hwc", where), (1, 1), (1, 1), (0, 0, 0, 0), "hwc", where)
    made = Conv2d(windows, kernel.T[:, None, None, :].copy(), bias)
    return _activated(layer, [*before, made], _after(windows, made.filters, shape), where)


def _activation(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    return _activated(layer, before, shape, where)


def _activated(layer: KerasLayer, layers: list[Layer], shape: Shape, where: str) -> Read:
    name = function_of({"Softmax": "softmax"}.get(layer.kind) or layer.options.get("activation"))
    if name == "softmax" and (shape is None or len(shape) == 1):
        return [*layers, Softmax(layers[-1].outputs if layers else int(np.prod(shape or ())))], shape
    return [*layers, *activation_of(layer, name, where)], shape


def _conv(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    kernel = layer.weights["kernel"]
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    bias = layer.weights.get("bias", np.zeros(kernel.shape[3]))
    windows = _windows(layer, (kernel.shape[0], kernel.shape[1]), shape, where)
    made = Conv2d(windows, kernel.transpose(3, 0, 1, 2).copy(), bias)
    return _activated(layer, [*before, made], _after(windows, made.filters, shape), where)


def _depthwise(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    kernel = layer.weights["kernel" if "kernel" in layer.weights else "depthwise_kernel"]
    made, after = _per_channel(layer, kernel, shape, where)
    bias = layer.weights.get("bias", made.bias)
    return _activated(layer, [*before, replace(made, bias=bias)], after, where)


def _separable(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    """Depthwise, then a convolution of one place."""
    made, after = _per_channel(layer, layer.weights["depthwise_kernel"], shape, where)
    point = layer.weights["pointwise_kernel"]
    weight = point.reshape(-1, point.shape[-1]).T[:, None, None, :].copy()
    windows = windows_over(frame_of(after, "hwc", where), (1, 1), (1, 1), (0, 0, 0, 0), "hwc", where)
    second = Conv2d(windows, weight, layer.weights.get("bias", np.zeros(len(weight))))
    return _activated(layer, [*before, made, second], _after(windows, second.filters, shape), where)


def _per_channel(layer: KerasLayer, kernel: F64, shape: Shape, where: str) -> tuple[Conv2d, Shape]:
    """A depthwise kernel (height, width, channels, filters of each) as a convolution of as many groups as channels."""
    kernel = kernel[None] if kernel.ndim == 3 else kernel
    windows = _windows(layer, (kernel.shape[0], kernel.shape[1]), shape, where)
    filters = kernel.shape[2] * kernel.shape[3]
    weight = kernel.transpose(2, 3, 0, 1).reshape(filters, kernel.shape[0], kernel.shape[1], 1).copy()
    return Conv2d(windows, weight, np.zeros(filters)), _after(windows, filters, shape)


def _listed(value: object) -> object:
    """One number of a list of one counts along the columns."""
    return (value[0],) if isinstance(value, list | tuple) and len(value) == 1 else value


def _windows(layer: KerasLayer, kernel: Pair, shape: Shape, where: str) -> Windows:
    if layer.options.get("data_format") not in (None, "channels_last"):
        raise Unsupported(f"{where} with data_format {layer.options['data_format']} cannot be read; use channels_last")
    frame, padding = frame_of(shape, "hwc", where), str(layer.options.get("padding", "valid"))
    if padding not in ("valid", "same"):
        raise Unsupported(f"{where} with padding {padding} cannot be read; use valid or same")
    stride = pair(_listed(layer.options.get("strides") or kernel))
    dilation = pair(_listed(layer.options.get("dilation_rate", 1)))
    ends: Padding = same_padding(frame, kernel, stride, dilation) if padding == "same" else (0, 0, 0, 0)
    return windows_over(frame, kernel, stride, ends, "hwc", where, dilation)


def _after(windows: Windows, channels: int, shape: Shape) -> Shape:
    return shape_of(windows.rows, windows.cols, channels, "hwc", shape is not None and len(shape) == 2)


def _pool(function: str) -> Callable[[KerasLayer, Shape, list[Layer], str], Read]:
    def read(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
        if layer.kind.startswith("Global"):
            height, width, _ = frame_of(shape, "hwc", where)
            windows = _windows(layer, (height, width), shape, where)
        else:
            windows = _windows(layer, pair(_listed(layer.options["pool_size"])), shape, where)
        if function != "max":
            _require_one_meaning(windows, where)
        whole = layer.kind.startswith("Global") and not layer.options.get("keepdims")
        after = (windows.channels,) if whole else _after(windows, windows.channels, shape)
        return [*before, Pool(windows, "avg" if windows.inside and function != "max" else function)], after

    return read


def _require_one_meaning(w: Windows, where: str) -> None:
    """Where padding is larger behind than before, Keras on torch repeats the border, on TensorFlow leaves it out."""
    for kernel, before, behind in ((w.kernel_h, w.top, w.bottom), (w.kernel_w, w.left, w.right)):
        if max(behind, 0) != before and kernel > 2:
            raise Unsupported(f"{where} averages windows of {kernel} with padding same, of which Keras' backends make "
                              "different means; use padding valid, or strides=1 and an odd pool_size")


def _norm(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    w, axis = layer.weights, layer.options.get("axis", -1)
    axis = axis[0] if isinstance(axis, list | tuple) else axis
    if axis not in (-1, 1 + len(shape or (0,)), len(shape or (0,))):
        raise Unsupported(f"{where} with axis {axis} cannot be read; use -1, the channels")
    found = normalization(w.get("gamma", 1.0), w.get("beta", 0.0), w["moving_mean"], w["moving_variance"],
                          float(layer.options.get("epsilon", 1e-3)))
    frame = frame_of(shape, "hwc", where) if shape is not None and len(shape) > 1 else None
    return normalized(before, *found, frame, "hwc"), shape


def _rescaling(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    """``x*scale + offset``, each one number or one per channel."""
    return _by_channel(layer.options["scale"], layer.options.get("offset", 0.0), shape, before, where)


def _normalization(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    """``(x - mean) / max(sqrt(variance), 1e-7)``: what was given when the layer was made, or adapted to data."""
    if layer.options.get("invert"):
        raise Unsupported(f"{where} with invert cannot be read; use Rescaling")
    mean, variance = (_given(layer, name) for name in ("mean", "variance"))
    factor = 1.0 / np.maximum(np.sqrt(variance), KERAS_EPSILON)
    return _by_channel(factor, -mean * factor, shape, before, where)


def _given(layer: KerasLayer, name: str) -> F64:
    told = layer.options.get(name)
    return np.asarray(layer.weights[name] if told is None else told, np.float64).reshape(-1)


def _by_channel(factor: object, offset: object, shape: Shape, before: list[Layer], where: str) -> Read:
    factors, offsets = np.broadcast_arrays(np.asarray(factor, np.float64), np.asarray(offset, np.float64))
    known = (layer.outputs for layer in reversed(before) if not isinstance(layer, Activation))
    channels = shape[-1] if shape is not None else next(known, factors.size)
    if factors.size not in (1, channels):
        raise Unsupported(f"{where} has {factors.size} numbers for {channels} channels; use axis -1, the channels")
    frame = frame_of(shape, "hwc", where) if shape is not None and len(shape) > 1 else None
    each = [np.broadcast_to(np.ravel(values), (channels,)).copy() for values in (factors, offsets)]
    return normalized(before, each[0], each[1], frame, "hwc"), shape


def _flatten(layer: KerasLayer, shape: Shape, before: list[Layer], where: str) -> Read:
    return before, None if shape is None else (int(np.prod(shape)),)


_READERS: dict[str, Callable[[KerasLayer, Shape, list[Layer], str], Read]] = {
    "Dense": _dense, "Activation": _activation, "Softmax": _activation, "Conv2D": _conv, "Conv1D": _conv,
    **dict.fromkeys(ACTIVATION_LAYERS, _activation),
    **dict.fromkeys(("DepthwiseConv2D", "DepthwiseConv1D"), _depthwise),
    **dict.fromkeys(("SeparableConv2D", "SeparableConv1D"), _separable),
    **dict.fromkeys(("MaxPooling2D", "MaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling1D"), _pool("max")),
    **dict.fromkeys(("AveragePooling2D", "AveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling1D"),
                    _pool("avg_inside")),
    "BatchNormalization": _norm, "Flatten": _flatten, "Rescaling": _rescaling, "Normalization": _normalization,
}
