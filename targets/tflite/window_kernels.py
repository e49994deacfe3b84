"""TFLite's integer reference kernels over frames in NumPy, bit for bit: convolution, pooling, padding, transposition.

Raw arrays are flat, (B, n); a node's tensors say what frame they stand for. Sources: TensorFlow Lite's
reference_integer_ops (conv, pooling), reference pad and transpose, and their op preparation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Node
from ncpc.targets.tflite.graph import Tensor
from ncpc.targets.tflite.placing import SAME

I64 = NDArray[np.int64]
Kernel = Callable[[Sequence[I64]], I64]

EXACT = 2**53
"""Integers below it are exact in float64, so that sums of them may be computed by its fast matrix product."""


def sums(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Callable[[I64], I64]:
    """What a convolution of frames (B, n), their zero point taken off, adds up: (B, places, filters)."""
    weight = inputs[1]
    assert weight.data is not None
    kernel = (weight.shape[1], weight.shape[2])
    view = _windows(node, inputs[0].shape, out.shape, kernel, 0)
    filters, depth = weight.shape[0], weight.shape[3]
    groups = inputs[0].shape[3] // depth
    rows = weight.data.astype(np.int64).reshape(groups, filters // groups, -1)
    most = np.abs(rows).sum(axis=2).max(initial=0)

    def compute(x: I64) -> I64:
        taken = view(x)  # (B, rows, cols, channels, kernel rows, kernel cols)
        batch, places = len(taken), taken.shape[1] * taken.shape[2]
        parts = taken.reshape(batch, places, groups, depth, *kernel).transpose(2, 0, 1, 4, 5, 3)
        columns = parts.reshape(groups, batch, places, -1)
        return np.concatenate([_product(columns[g], rows[g], int(most)) for g in range(groups)], axis=-1)

    return compute


def _product(columns: I64, rows: I64, most: int) -> I64:
    if most * int(np.abs(columns).max(initial=0)) >= EXACT:
        return columns @ rows.T
    exact: I64 = (columns.astype(np.float64) @ rows.T.astype(np.float64)).astype(np.int64)
    return exact


def max_pool(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """The largest in each window; what lies outside of the frame is passed over."""
    view = _windows(node, inputs[0].shape, out.shape, _filter(node), int(np.iinfo(out.dtype).min))
    return lambda a: _flat(view(a[0]).max(axis=(4, 5)))


def average_pool(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """The mean of what lies in the frame, halves away from zero."""
    view = _windows(node, inputs[0].shape, out.shape, _filter(node), 0)
    ones = np.ones((1, int(np.prod(inputs[0].shape))), np.int64)
    count = view(ones).sum(axis=(4, 5))

    def compute(a: Sequence[I64]) -> I64:
        total = view(a[0]).sum(axis=(4, 5))
        return _flat(np.sign(total) * ((np.abs(total) + count // 2) // count))

    return compute


def pad(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """PAD writes the integer that stands for 0, PADV2 its third argument."""
    around, shape = inputs[1].data, inputs[0].shape
    assert around is not None
    value = 0 if out.quant is None else out.quant.zero_point
    if len(inputs) > 2:
        assert inputs[2].data is not None
        value = int(inputs[2].data.reshape(-1)[0])
    return lambda a: _flat(np.pad(a[0].reshape(-1, *shape[1:]), around, constant_values=value))


def transpose(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """Axes in the order of the second argument; the first one stays first, it is the batch."""
    order, shape = inputs[1].data, inputs[0].shape
    assert order is not None
    return lambda a: _flat(a[0].reshape(-1, *shape[1:]).transpose(order.tolist()))


def cut(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """SLICE: a box of a frame from where the second argument says, as large as the result."""
    begin, shape = inputs[1].data, inputs[0].shape
    assert begin is not None
    box = tuple(slice(int(start), int(start) + size) for start, size in zip(begin[1:], out.shape[1:], strict=True))
    return lambda a: _flat(a[0].reshape(-1, *shape[1:])[:, *box])


def joined(node: Node, inputs: Sequence[Tensor], out: Tensor) -> Kernel:
    """CONCATENATION along the last dimension, of tensors with the scale of the result: they are copied."""
    sizes = [int(np.prod(tensor.shape)) for tensor in inputs]
    return lambda a: np.concatenate([part.reshape(-1, n) for part, n in zip(a, sizes, strict=True)], axis=1)


def _flat(y: I64) -> I64:
    return np.ascontiguousarray(y).reshape(len(y), -1)


def _filter(node: Node) -> tuple[int, int]:
    height, width = node.attrs["filterHeight"], node.attrs["filterWidth"]
    assert isinstance(height, int)
    assert isinstance(width, int)
    return height, width


def _windows(node: Node, source: tuple[int, ...], target: tuple[int, ...], kernel: tuple[int, int],
             outside: int) -> Callable[[I64], I64]:
    """Frames (B, n) as (B, rows, cols, channels, kernel rows, kernel cols), ``outside`` where a window leaves them."""
    strides, dilations = _pair(node, "stride{}"), _pair(node, "dilation{}Factor")
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    total = [max(0, (target[1 + i] - 1) * strides[i] + spans[i] - source[1 + i]) for i in (0, 1)]
    same = node.attrs["padding"] == SAME
    around = [(n // 2, n - n // 2) if same else (0, 0) for n in total]

    def view(x: I64) -> I64:
        frames = np.pad(x.reshape(-1, *source[1:]), ((0, 0), *around, (0, 0)), constant_values=outside)
        taken = sliding_window_view(frames, spans, axis=(1, 2))
        steps = tuple(slice(None, (target[1 + i] - 1) * strides[i] + 1, strides[i]) for i in (0, 1))
        return taken[:, steps[0], steps[1], :, :: dilations[0], :: dilations[1]]

    return view


def _pair(node: Node, name: str) -> tuple[int, int]:
    """An option for rows and for columns; 1 where the operator has none."""
    found = [node.attrs.get(name.format(side), 1) for side in "HW"]
    rows, cols = found
    assert isinstance(rows, int)
    assert isinstance(cols, int)
    return rows, cols
