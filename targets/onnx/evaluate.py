"""The graph's operators in NumPy, binary32: what constants are folded with, and the target's own model of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Attribute
from ncpc.targets.onnx.graph import OnnxGraph

Arr = NDArray[Any]
Attrs = Mapping[str, Attribute]
Kernel = Callable[[Sequence[Arr], Attrs], Sequence[Arr]]


def evaluate(graph: OnnxGraph, feeds: Mapping[str, Arr]) -> dict[str, Arr]:
    """Every tensor of one step; ``feeds`` holds the inputs, (B, width) each."""
    env: dict[str, Arr] = {**graph.constants, **feeds}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            env.update(zip(node.outputs, KERNELS[node.kind]([env[i] for i in node.inputs], node.attrs), strict=True))
    return env


def _plain(function: Callable[..., Arr]) -> Kernel:
    return lambda a, attrs: [function(*a)]


def _gemm(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    product = a[0] @ (a[1].T if attrs.get("transB") else a[1])
    return [product + a[2] if len(a) > 2 else product]


def _sigmoid(a: Arr) -> Arr:
    value: Arr = (1.0 / (1.0 + np.exp(-a))).astype(a.dtype)
    return value


def _split(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    return np.split(a[0], np.cumsum(a[1])[:-1], axis=-1)


def _gather(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    return [np.take(a[0], a[1], axis=1)]


def _reduce_sum(a: Arr, axes: Arr) -> Arr:
    total: Arr = a.sum(axis=int(axes[0]), dtype=a.dtype)
    return total


def _windows(a: Arr, attrs: Attrs, empty: float) -> Arr:
    """(B, channels, rows, cols, kernel_h, kernel_w); what lies outside of the frame is ``empty``."""
    (kh, kw), (sh, sw), (top, left, bottom, right) = (_ints(attrs, n) for n in ("kernel_shape", "strides", "pads"))
    dh, dw = _ints(attrs, "dilations") if "dilations" in attrs else (1, 1)
    padded = np.pad(a, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=empty)
    span = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    found = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    return found[:, :, ::sh, ::sw, ::dh, ::dw]


def _ints(attrs: Attrs, name: str) -> tuple[int, ...]:
    found = attrs[name]
    assert isinstance(found, tuple)
    return found


def _conv(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    groups = attrs.get("group", 1)
    assert isinstance(groups, int)
    found = np.split(_windows(a[0], attrs, 0.0), groups, axis=1)
    sums = [np.einsum("bcrskl,fckl->bfrs", x, w) for x, w in zip(found, np.split(a[1], groups), strict=True)]
    return [np.concatenate(sums, axis=1) + a[2][:, None, None]]


def _max_pool(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    return [_windows(a[0], attrs, -np.inf).max(axis=(4, 5))]


def _average_pool(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    """Zeros around the frame count where the node says so."""
    total = _windows(a[0], attrs, 0.0)
    if attrs.get("count_include_pad"):
        return [total.mean(axis=(4, 5))]
    return [total.sum(axis=(4, 5)) / _windows(np.ones_like(a[0][:1]), attrs, 0.0).sum(axis=(4, 5))]


def _transpose(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    return [a[0].transpose(_ints(attrs, "perm"))]


def _quantize(a: Arr, scale: Arr, zero: Arr) -> Arr:
    info = np.iinfo(zero.dtype)
    number: Arr = np.clip(np.rint(a / scale) + zero, info.min, info.max).astype(zero.dtype)
    return number


def _dequantize(a: Sequence[Arr], attrs: Attrs) -> Sequence[Arr]:
    """One scale for all, or one for each index of the first axis."""
    q, scale, zero = a
    rows = (-1, *[1] * (q.ndim - 1)) if scale.ndim else ()
    whole = q.astype(np.int64) - zero.reshape(rows)
    return [(whole * scale.reshape(rows)).astype(scale.dtype)]


KERNELS: dict[str, Kernel] = {
    "Abs": _plain(np.abs),
    "Add": _plain(np.add),
    "AveragePool": _average_pool,
    "Clip": _plain(lambda a, lo, hi: np.minimum(np.maximum(a, lo), hi)),
    "Concat": lambda a, attrs: [np.concatenate(a, axis=-1)],
    "Conv": _conv,
    "DequantizeLinear": _dequantize,
    "Div": _plain(np.divide),
    "Exp": _plain(np.exp),
    "Gather": _gather,
    "Gemm": _gemm,
    "Identity": _plain(lambda a: a),
    "Less": _plain(np.less),
    "Max": _plain(np.maximum),
    "MaxPool": _max_pool,
    "Min": _plain(np.minimum),
    "Mul": _plain(np.multiply),
    "Neg": _plain(np.negative),
    "QuantizeLinear": _plain(_quantize),
    "Reciprocal": _plain(lambda a: (1.0 / a).astype(a.dtype)),
    "ReduceSum": _plain(_reduce_sum),
    "Relu": _plain(lambda a: np.maximum(a, a.dtype.type(0))),
    "Reshape": _plain(lambda a, shape: a.reshape(shape)),
    "Sigmoid": _plain(_sigmoid),
    "Split": _split,
    "Sqrt": _plain(np.sqrt),
    "Sub": _plain(np.subtract),
    "Tanh": _plain(np.tanh),
    "Transpose": _transpose,
    "Unsqueeze": _plain(lambda a, axes: np.expand_dims(a, tuple(axes))),
    "Where": _plain(np.where),
}
