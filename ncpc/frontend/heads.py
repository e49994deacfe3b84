"""What the readers of torch and Keras heads share: windows, folded normalization, merged activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.heads import Conv2d
from ncpc.ir.policy import F64, Activation, Dense, Layer
from ncpc.ir.windows import Windows

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
"""Top, bottom, left, right."""


def pair(value: object) -> Pair:
    """A size given once for both sides or for each; a single one of a list counts along the columns."""
    if isinstance(value, int):
        return value, value
    numbers = [int(v) for v in value]  # type: ignore[attr-defined]
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def windows_over(
    frame: tuple[int, int, int], kernel: Pair, stride: Pair, padding: Padding, layout: str, where: str,
    dilation: Pair = (1, 1), ceil: bool = False,
) -> Windows:
    """All windows that fit a frame of (height, width, channels); with ``ceil`` also those that reach over its end.

    Raises ``BadInput`` when none does.
    """
    height, width, channels = frame
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    rows = _places(height, padding[0], padding[1], span[0], stride[0], ceil)
    cols = _places(width, padding[2], padding[3], span[1], stride[1], ceil)
    if rows < 1 or cols < 1:
        raise BadInput(f"{where}: a window of {span[0]} x {span[1]} does not fit its input of {height} x {width}")
    return Windows(height, width, channels, *kernel, *stride, padding[0], padding[2], rows, cols, layout, *dilation)


def _places(size: int, before: int, after: int, span: int, stride: int, ceil: bool) -> int:
    """How many windows fit; one that reaches over the end must begin within the frame or the padding before it."""
    room = size + before + after - span
    places = (-(-room // stride) if ceil else room // stride) + 1
    return places - 1 if ceil and (places - 1) * stride >= size + before else places


def same_padding(frame: tuple[int, int, int], kernel: Pair, stride: Pair) -> Padding:
    """What makes as many windows as the frame has rows and columns, divided by the stride; the odd one at the end."""
    missing = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(frame[:2], kernel, stride, strict=True)]
    (rows, cols) = missing
    return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2


def folded(layers: Sequence[Layer], factor: F64, offset: F64, where: str) -> list[Layer]:
    """The layers with the last one's result times ``factor`` plus ``offset``, per filter or output."""
    last = layers[-1] if layers else None
    if isinstance(last, Conv2d) and not last.relu:
        weight, bias = last.weight * factor[:, None, None, None], last.bias * factor + offset
        return [*layers[:-1], replace(last, weight=weight, bias=bias)]
    if isinstance(last, Dense):
        return [*layers[:-1], Dense(last.weight * factor[:, None], last.bias * factor + offset)]
    raise Unsupported(f"{where}: a batch normalization can be folded only into a convolution or dense layer directly "
                      "before it; put it before the activation")


def normalization(gamma: F64 | float, beta: F64 | float, mean: F64, variance: F64, epsilon: float) -> tuple[F64, F64]:
    """Factor and offset of a batch normalization at inference."""
    factor = np.asarray(gamma / np.sqrt(variance + epsilon), np.float64)
    return factor, np.asarray(beta - mean * factor, np.float64)


def merged(layers: Sequence[Layer]) -> list[Layer]:
    """A relu after a convolution becomes part of it."""
    found: list[Layer] = []
    for layer in layers:
        last = found[-1] if found else None
        if isinstance(layer, Activation) and layer.function == "relu" and isinstance(last, Conv2d):
            found[-1] = replace(last, relu=True)
        else:
            found.append(layer)
    return found


def frame_of(shape: tuple[int, ...] | None, layout: str, where: str) -> tuple[int, int, int]:
    """(height, width, channels) of a shape in a layout; two numbers are a frame of one row."""
    if shape is None or len(shape) not in (2, 3):
        wanted = "channels, height, width" if layout == "chw" else "height, width, channels"
        raise BadInput(f"{where}: the shape of one step's input is not known; give input_shape=({wanted})")
    if len(shape) == 2:
        return (1, shape[1], shape[0]) if layout == "chw" else (1, shape[0], shape[1])
    return (shape[1], shape[2], shape[0]) if layout == "chw" else (shape[0], shape[1], shape[2])


def shape_of(rows: int, cols: int, channels: int, layout: str, flat: bool) -> tuple[int, ...]:
    """The shape after a layer over windows; ``flat``: its frames have one row that no one counts."""
    if flat:
        return (channels, cols) if layout == "chw" else (cols, channels)
    return (channels, rows, cols) if layout == "chw" else (rows, cols, channels)
