"""Max-pooling whose elements lie apart, which TFLite's operator cannot do: rearranged so that they lie side by side.

Every ``d``-th row forms a frame of its own. Written as (rows / d, d * columns) these frames stand side by side, and
a plain pool over the first axis sees what lies ``d`` rows apart; columns likewise, as d times the channels. That gives
the largest element at every place; a pool of one element with the stride takes those that were asked for.
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.windows import Windows
from ncpc.targets.graph.nodes import Attribute
from ncpc.targets.tflite.graph import GraphBuilder
from ncpc.targets.tflite.tensors import Shape, reshape

VALID = 1


def everywhere(b: GraphBuilder, source: str, w: Windows, name: str) -> str:
    """The largest of the window that begins at each place, as far as windows begin; ``source`` is padded already."""
    channels = w.channels
    _, height, width, _ = b.tensors[source].shape
    found = _apart(b, source, (w.kernel_h, 1), (1, height // w.dilation_h, w.dilation_h * width, channels),
                   f"{name}/rows")
    height -= (w.kernel_h - 1) * w.dilation_h
    found = _shaped(b, found, (1, height, width, channels), f"{name}/by_row")
    found = _apart(b, found, (1, w.kernel_w), (1, height, width // w.dilation_w, w.dilation_w * channels),
                   f"{name}/columns")
    width -= (w.kernel_w - 1) * w.dilation_w
    found = _shaped(b, found, (1, height, width, channels), f"{name}/by_column")
    return _cropped(b, found, (1, (w.rows - 1) * w.stride_h + 1, (w.cols - 1) * w.stride_w + 1, channels), name)


def pads(w: Windows) -> tuple[int, int, int, int]:
    """Rows and columns to add (top, bottom, left, right): what windows reach, rounded up to whole dilations."""
    bottom, right = max(0, w.bottom), max(0, w.right)
    bottom += -(w.top + w.height + bottom) % w.dilation_h
    right += -(w.left + w.width + right) % w.dilation_w
    return w.top, bottom, w.left, right


def _apart(b: GraphBuilder, source: str, kernel: tuple[int, int], shape: Shape, name: str) -> str:
    """A pool with stride 1 over the frame in another shape."""
    if kernel == (1, 1):
        return source
    frame = _shaped(b, source, shape, f"{name}/frame")
    tensor = b.tensors[frame]
    target = b.tensor(name, (1, shape[1] - kernel[0] + 1, shape[2] - kernel[1] + 1, shape[3]), tensor.dtype,
                      tensor.quant)
    options: dict[str, Attribute] = {"padding": VALID, "strideW": 1, "strideH": 1, "filterHeight": kernel[0],
                                  "filterWidth": kernel[1]}
    return b.node("MAX_POOL_2D", [frame], target, **options)


def _shaped(b: GraphBuilder, source: str, shape: Shape, name: str) -> str:
    tensor = b.tensors[source]
    return source if tensor.shape == shape else reshape(b, source, b.tensor(name, shape, tensor.dtype, tensor.quant))


def _cropped(b: GraphBuilder, source: str, shape: Shape, name: str) -> str:
    tensor = b.tensors[source]
    if tensor.shape == shape:
        return source
    begin, size = b.constant("origin", np.zeros(4, np.int32)), b.constant(f"{name}/size", np.array(shape, np.int32))
    return b.node("SLICE", [source, begin, size], b.tensor(f"{name}/cropped", shape, tensor.dtype, tensor.quant))
