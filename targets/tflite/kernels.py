"""TFLite's integer reference kernels in NumPy, bit for bit: what an integer graph means.

Each function prepares one node, as the kernels' Prepare does, and returns what computes it on raw int64 arrays.
Sources: TensorFlow Lite's reference_integer_ops (conv, add, mul, logistic, tanh) and its op preparation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Node
from ncpc.targets.tflite import window_kernels
from ncpc.targets.tflite.activations import RELU
from ncpc.targets.tflite.graph import Quant, Tensor
from ncpc.targets.tflite.rounding import multipliers, quantize_multiplier, rescaler, wide_rescaler

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]
Kernel = Callable[[Sequence[I64]], I64]


def prepare(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """The function that computes ``node`` from the raw integers of its inputs."""
    kernel = KERNELS[node.kind](inputs, out) if node.kind in KERNELS else WINDOWED[node.kind](node, inputs, out)
    if node.attrs.get("fusedActivationFunction") != RELU:
        return kernel
    zero = _quant(out).zero_point
    return lambda a: np.maximum(kernel(a), zero)


def _reshape(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    return lambda a: a[0]


def _convolve(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """Exact sums, one multiplier per output channel."""
    source, weight, bias = inputs
    assert weight.quant is not None
    assert bias.data is not None
    add_up, start = window_kernels.sums(node, inputs, out), bias.data.astype(np.int64)
    real = _quant(source).step * weight.quant.scale.astype(np.float64) / _quant(out).step
    m, shift = (np.array(v, np.int64) for v in zip(*map(quantize_multiplier, real), strict=True))
    scaled = (wide_rescaler if out.dtype == "int16" else rescaler)(m, shift)
    zero, zero_out, limit = _quant(source).zero_point, _quant(out).zero_point, _limiter(out)


    def compute(a: Sequence[I64]) -> I64:
        found = limit(scaled(add_up(a[0] - zero) + start) + zero_out)
        return found.reshape(len(found), -1)

    return compute


def _add(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    return _sum(inputs, out, 1)


def _sub(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    return _sum(inputs, out, -1)


def _sum(inputs: Sequence[Tensor], out: Tensor, sign: int) -> Kernel:
    """a + sign*b: both brought to twice the larger scale, with 15 or 20 bits to spare."""
    qa, qb, qo = _quant(inputs[0]), _quant(inputs[1]), _quant(out)
    left, twice = (15 if out.dtype == "int16" else 20), 2.0 * max(qa.step, qb.step)
    first, second, last = (rescaler(*quantize_multiplier(real)) for real in
                           (qa.step / twice, qb.step / twice, twice / (2.0**left * qo.step)))
    limit = _limiter(out)

    def compute(a: Sequence[I64]) -> I64:
        one, two = first((a[0] - qa.zero_point) << left), second((a[1] - qb.zero_point) << left)
        return limit(last(one + sign * two) + qo.zero_point)

    return compute


def _multiply(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    qa, qb, qo = _quant(inputs[0]), _quant(inputs[1]), _quant(out)
    real, _ = multipliers(qa.step, qb.step, qo.step)  # scales are such that TFLite Micro's gives the same
    scaled, limit = rescaler(*quantize_multiplier(real)), _limiter(out)
    return lambda a: limit(scaled((a[0] - qa.zero_point) * (a[1] - qb.zero_point)) + qo.zero_point)


RAISED = (4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41, 43, 44, 45, 46,
          49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255)
"""Entries of the kernels' table that stand one above the nearest integer (measured on the runtime)."""


def sigmoid_table() -> I64:
    """65536*sigmoid(i/24), i = 0..255: the table of the 16-bit kernels over [0, 10.7]."""
    table = np.floor(65536.0 / (1.0 + np.exp(-np.arange(256) / 24.0)) + 0.5).astype(np.int64)
    table[list(RAISED)] += 1
    return np.minimum(table, 65535)


_TABLE = sigmoid_table()


def _interpolated(magnitude: I64, bits: int) -> I64:
    """The table at ``magnitude / 2**bits``, with ``bits`` more bits of fraction."""
    index = np.minimum(magnitude >> bits, 254)
    low, high = _TABLE[index], _TABLE[index + 1]
    value: I64 = (low << bits) + (magnitude & ((1 << bits) - 1)) * (high - low)
    return value


def _logistic(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    if out.dtype == "int8":
        return _lookup(inputs, out, lambda v: np.float32(1) / (np.float32(1) + np.exp(-v)))
    argument = _argument(inputs)

    def compute(a: Sequence[I64]) -> I64:
        z = argument(a[0])
        size = np.abs(z)
        high = np.where(size >> 9 >= 255, 0x7FFF << 10, _interpolated(size, 9))
        rounded: I64 = np.where(z >= 0, high + (1 << 9), (1 << 25) - high + (1 << 9) - 1) >> 10
        return rounded

    return compute


def _tanh(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """At 16 bits 2*sigmoid(2x) - 1 from the same table."""
    if out.dtype == "int8":
        return _lookup(inputs, out, np.tanh)
    argument = _argument(inputs)

    def compute(a: Sequence[I64]) -> I64:
        z = argument(a[0])
        size = np.abs(z)
        high = np.where(size >> 8 >= 255, 0xFFFF << 8, _interpolated(size, 8)) - (1 << 23)
        rounded: I64 = np.where(z >= 0, high + (1 << 7), -high + (1 << 7) - 1) >> 8
        return rounded

    return compute


def _argument(inputs: Sequence[Tensor]) -> Callable[[I64], I64]:
    """Brings an argument to units of 1/(3*4096) by a 15-bit multiplier, which is cut, not rounded."""
    real, shift = _quant(inputs[0]).step * 4096.0 * 3.0, 0
    while real <= 32767.0 / 2.0 and shift <= 30:
        real, shift = real * 2.0, shift + 1
    m, half = int(real), (1 << shift) >> 1
    return lambda x: (x * m + half) >> shift


def _lookup(inputs: Sequence[Tensor], out: Tensor, function: Callable[[F32], F32]) -> Kernel:
    """The 256-entry table of the 8-bit kernels, made in binary32."""
    quant, target = _quant(inputs[0]), _quant(out)
    real = np.float32(quant.step) * (np.arange(-128, 128) - quant.zero_point).astype(np.float32)
    scaled = (function(real) * np.float32(1 / target.step)).astype(np.float64)
    nearest = (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)).astype(np.int64)
    table = _limiter(out)(nearest + target.zero_point)
    return lambda a: table[a[0] + 128]


def _maximum(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    return lambda a: np.maximum(a[0], a[1])


def _minimum(inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    return lambda a: np.minimum(a[0], a[1])


def _quant(tensor: Tensor) -> Quant:
    assert tensor.quant is not None
    return tensor.quant


def _limiter(out: Tensor) -> Callable[[I64], I64]:
    """The nearest number the tensor's type holds."""
    low, high = int(np.iinfo(out.dtype).min), int(np.iinfo(out.dtype).max)
    return lambda raw: np.maximum(np.minimum(raw, high), low)


KERNELS: dict[str, Callable[[Sequence[Tensor], Tensor], Kernel]] = {
    "RESHAPE": _reshape, "ADD": _add, "SUB": _sub, "MUL": _multiply, "LOGISTIC": _logistic, "TANH": _tanh,
    "MAXIMUM": _maximum, "MINIMUM": _minimum,
}
WINDOWED: dict[str, Callable[[Node, Sequence[Tensor], Tensor], Kernel]] = {
    "CONV_2D": _convolve, "MAX_POOL_2D": window_kernels.max_pool, "AVERAGE_POOL_2D": window_kernels.average_pool,
    "PAD": window_kernels.pad, "PADV2": window_kernels.pad, "TRANSPOSE": window_kernels.transpose,
    "SLICE": window_kernels.cut, "CONCATENATION": window_kernels.joined,
}
"""Kernels that also read their node's options."""
