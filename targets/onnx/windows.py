"""Convolution and pooling: flat frames become ONNX's (batch, channels, height, width) and flat again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.program import Op
from ncpc.ir.windows import Windows, windows_of
from ncpc.semantics.windows import groups_of
from ncpc.targets.onnx import linear
from ncpc.targets.onnx.linear import Linear

if TYPE_CHECKING:
    from ncpc.targets.onnx.translate import Translation


def conv2d(t: Translation, op: Op) -> Linear:
    """Conv, in groups where the weights cover a part of the channels, with Relu where the op has one."""
    w = windows_of(op.attrs)
    taps, bias = (t.program.constants[name][1].astype(np.float64) for name in (op.args[0], op.args[2]))
    groups = groups_of(w, taps)
    part = w.channels // groups
    ordered = taps.reshape(-1, w.kernel_h, w.kernel_w, part).transpose(0, 3, 1, 2) if w.layout == "hwc" \
        else taps.reshape(-1, part, w.kernel_h, w.kernel_w)
    weight = t.writer.const(op.args[0], np.ascontiguousarray(ordered))
    shape = (len(bias), w.rows, w.cols)
    grouped = {"group": groups} if groups > 1 else {}
    y = t.writer.node("Conv", [_frame(t, op.args[1], w), weight, t.writer.const(op.args[2], bias)],
                      f"{op.out.name}_frame", shape, **_places(w), **grouped)
    if op.attrs["relu"]:
        y = t.writer.node("Relu", [y], f"{op.out.name}_relu", shape)
    return _flat(t, y, op, w)


def pool(t: Translation, op: Op) -> Linear:
    """MaxPool or AveragePool, which counts zeros around the frame or not."""
    w, function = windows_of(op.attrs), str(op.attrs["function"])
    if max(w.top, w.bottom) >= w.kernel_h or max(w.left, w.right) >= w.kernel_w:
        raise Unsupported(f"target 'onnx': {op.out.name}, pooling with padding as large as its kernel of "
                          f"{w.kernel_h} x {w.kernel_w}: onnxruntime refuses it; use less padding or no dilation, "
                          "or target 'c'")
    shape, frame = (w.channels, w.rows, w.cols), _frame(t, op.args[0], w)
    if function == "max":
        y = t.writer.node("MaxPool", [frame], f"{op.out.name}_frame", shape, **_places(w))
    else:
        counted = {"count_include_pad": 1} if function == "avg" and not w.inside else {}
        y = t.writer.node("AveragePool", [frame], f"{op.out.name}_frame", shape, **_places(w), **counted)
    return _flat(t, y, op, w)


def _places(w: Windows) -> dict[str, tuple[int, ...]]:
    """Where windows stand; padding below and to the right is as much as they reach over the frame, at least 0."""
    spread = {} if (w.dilation_h, w.dilation_w) == (1, 1) else {"dilations": (w.dilation_h, w.dilation_w)}
    return {"kernel_shape": (w.kernel_h, w.kernel_w), "strides": (w.stride_h, w.stride_w),
            "pads": (w.top, w.left, max(0, w.bottom), max(0, w.right)), **spread}


def _frame(t: Translation, name: str, w: Windows) -> str:
    shape = (w.channels, w.height, w.width)
    if w.layout != "hwc":
        return _reshape(t, t.tensor(name), f"{name}_image", shape)
    image = _reshape(t, t.tensor(name), f"{name}_rows", (w.height, w.width, w.channels))
    return t.writer.node("Transpose", [image], f"{name}_image", shape, perm=(0, 3, 1, 2))


def _flat(t: Translation, y: str, op: Op, w: Windows) -> Linear:
    filters, rows, cols = t.writer.shapes[y]
    if w.layout == "hwc":
        y = t.writer.node("Transpose", [y], f"{op.out.name}_rows", (rows, cols, filters), perm=(0, 2, 3, 1))
    size = filters * rows * cols
    return linear.of_tensor(_reshape(t, y, op.out.name, (size,)), size)


def _reshape(t: Translation, tensor: str, name: str, shape: tuple[int, ...]) -> str:
    sizes = t.writer.const("shape_" + "_".join(map(str, shape)), np.array([-1, *shape], np.int64))
    return t.writer.node("Reshape", [tensor, sizes], name, shape)
