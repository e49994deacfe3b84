"""Layers over frames as NIR's own nodes: Conv2d, Conv1d for frames of one row, AvgPool2d. NIR's frames are (C, H, W).

NIR pads both sides alike and nir 1.0.8 checks types as if kernels were square, so a kernel that is neither gets rows
and columns of zeros, which add nothing to a sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.windows import Windows

F32 = NDArray[np.float32]
Zeros = tuple[int, int]
"""Before and after a kernel along one axis."""


def channels_first(height: int, width: int, channels: int, layout: str) -> NDArray[np.int64]:
    """For every element of a flat (C, H, W) frame the index of the same element in ``layout``."""
    index = np.arange(height * width * channels)
    if layout == "chw":
        return index
    return index.reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)


def one_row(w: Windows) -> bool:
    """Whether it slides along one row only."""
    return w.height == w.kernel_h == w.rows == 1 and w.top == 0


def frame_shape(w: Windows) -> tuple[int, ...]:
    """(C, N) for one row, else (C, H, W)."""
    return (w.channels, w.width) if one_row(w) else (w.channels, w.height, w.width)


def frame_node(nir: Any, layer: Conv2d | Pool, name: str) -> Any:
    """The node of a layer over frames; raises Unsupported for one that NIR has not."""
    w = layer.windows
    if (w.dilation_h, w.dilation_w) != (1, 1):
        raise Unsupported(f"target 'nir-graded': '{name}', a dilation of {w.dilation_h} x {w.dilation_w}: only windows "
                          "without gaps are written; use a larger kernel, or target 'c'")
    if isinstance(layer, Conv2d) and layer.groups > 1:
        raise Unsupported(f"target 'nir-graded': '{name}', a convolution in {layer.groups} groups: only those over all "
                          "channels are written; use groups=1, or target 'c'")
    if isinstance(layer, Pool):
        if not w.inside:
            raise Unsupported(f"target 'nir-graded': '{name}', pooling with padding: simulators divide by different "
                              "numbers there; use none, or target 'c'")
        if layer.function == "max":
            raise Unsupported(f"target 'nir-graded': '{name}', {layer.function} pooling: NIR has none; use average "
                              "pooling, or target 'c'")
        return _mean(nir, layer, name)
    if layer.relu:
        raise Unsupported(f"target 'nir-graded': '{name}', a convolution with relu: NIR has no relu; leave it out and "
                          "train again, or use target 'c'")
    weight = layer.weight.transpose(0, 3, 1, 2)
    bias = np.asarray(layer.bias, np.float32)
    if one_row(w):
        before, after = _zeros(w, 1, name)[1]
        row = np.pad(weight[:, :, 0], ((0, 0), (0, 0), (before, after)))
        return nir.Conv1d(w.width, _single(row), w.stride_w, w.left + before, 1, 1, bias)
    rows, cols = _zeros(w, 2, name)
    grown = _single(np.pad(weight, ((0, 0), (0, 0), rows, cols)))
    padding = (w.top + rows[0], w.left + cols[0])
    return nir.Conv2d((w.height, w.width), grown, (w.stride_h, w.stride_w), padding, (1, 1), 1, bias)


def _mean(nir: Any, layer: Pool, name: str) -> Any:
    """AvgPool2d; along one row, where NIR has no pooling, a Conv1d from each channel to itself."""
    w = layer.windows
    if not one_row(w):
        return nir.AvgPool2d(kernel_size=np.array([w.kernel_h, w.kernel_w]), stride=np.array([w.stride_h, w.stride_w]),
                             padding=np.array([0, 0]))
    weight = np.repeat(np.eye(w.channels)[:, None, None, :], w.kernel_w, axis=2) / w.kernel_w
    return frame_node(nir, Conv2d(w, weight, np.zeros(w.channels)), name)


def _single(x: NDArray[np.float64]) -> F32:
    return np.asarray(x, np.float32)


def _zeros(w: Windows, axes: int, name: str) -> tuple[Zeros, Zeros]:
    """The fewest zeros around a kernel with which alike padding, and for two axes a square kernel, do."""
    least = max(w.kernel_h, w.kernel_w) if axes == 2 else w.kernel_w
    for size in range(least, 3 * least + w.top + w.left + 2):
        cols = _grown(w.width, w.kernel_w, w.stride_w, w.left, w.cols, size)
        rows = (0, 0) if axes == 1 else _grown(w.height, w.kernel_h, w.stride_h, w.top, w.rows, size)
        if rows is not None and cols is not None:
            return rows, cols
    raise Unsupported(f"target 'nir-graded': '{name}', a kernel of {w.kernel_h} x {w.kernel_w}: nir takes a kernel's "
                      "height for its width; use a square one, or target 'c'")


def _grown(frame: int, kernel: int, stride: int, before: int, count: int, size: int) -> Zeros | None:
    """Zeros before and after a kernel grown to ``size`` that leave as many windows in the same places, if any do."""
    for lead in range(size - kernel + 1):
        room = frame + 2 * (before + lead) - size
        if room >= 0 and room // stride + 1 == count:
            return lead, size - kernel - lead
    return None


def run_frame(node: Any, x: F32) -> F32:
    """A node over (B, C, N) or (B, C, H, W), in float32."""
    if x.ndim == 3:  # one row
        width, stride, padding = int(node.weight.shape[2]), int(node.stride), int(node.padding)
        views = _views(x[:, :, None], (1, width), (1, stride), (0, padding))
        return _sums(node.weight[:, :, None], node.bias, views)[:, :, 0]
    if hasattr(node, "weight"):
        return _sums(node.weight, node.bias, _views(x, node.weight.shape[2:], node.stride, node.padding))
    views = _views(x, node.kernel_size, node.stride, node.padding)
    return np.asarray(views.mean((-2, -1), dtype=np.float32), np.float32)


def _views(x: F32, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> F32:
    """Windows (B, C, rows, cols, kernel_h, kernel_w)."""
    (kh, kw), (sh, sw), (top, left) = ((int(a), int(b)) for a, b in (kernel, stride, padding))
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kh, kw), (2, 3))[:, :, ::sh, ::sw]


def _sums(weight: F32, bias: F32, views: F32) -> F32:
    sums = np.einsum("bcyxhw,fchw->bfyx", views, weight, optimize=True)
    return np.asarray(sums + bias[:, None, None], np.float32)
