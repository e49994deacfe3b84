"""What the readers of torch and Keras heads share: windows, normalization, layers that become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ncpc.errors import BadInput
from ncpc.ir.heads import Conv2d, Pool, Scale
from ncpc.ir.policy import F64, Activation, Dense, Layer
from ncpc.ir.windows import Windows

Frame = tuple[int, int, int]
"""Height, width, channels."""
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


def same_padding(frame: Frame, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> Padding:
    """What makes as many windows as the frame has rows and columns, divided by the stride; the odd one at the end."""
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    missing = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(frame[:2], span, stride, strict=True)]
    (rows, cols) = missing
    return rows // 2, rows - rows // 2, cols // 2, cols - cols // 2


def normalized(layers: Sequence[Layer], factor: F64, offset: F64, frame: Frame | None, layout: str) -> list[Layer]:
    """The layers with the last one's result times ``factor`` plus ``offset``, per filter or output.

    They go into a convolution or dense layer directly before; elsewhere they are a layer of their own, which
    ``merged`` moves into the next one where it can. ``frame`` is None for values without places.
    """
    last = layers[-1] if layers else None
    if isinstance(last, Conv2d) and not last.relu:
        weight, bias = last.weight * factor[:, None, None, None], last.bias * factor + offset
        return [*layers[:-1], replace(last, weight=weight, bias=bias)]
    if isinstance(last, Dense):
        return [*layers[:-1], Dense(last.weight * factor[:, None], last.bias * factor + offset)]
    height, width, channels = frame or (1, 1, len(factor))
    windows = Windows(height, width, channels, 1, 1, 1, 1, 0, 0, height, width, layout)
    return [*layers, Conv2d(windows, factor.reshape(-1, 1, 1, 1), offset)]


def normalization(gamma: F64 | float, beta: F64 | float, mean: F64, variance: F64, epsilon: float) -> tuple[F64, F64]:
    """Factor and offset of a batch normalization at inference, per channel."""
    factor = np.asarray(gamma / np.sqrt(variance + epsilon), np.float64)
    return factor, np.asarray(beta - mean * factor, np.float64)


def merged(layers: Sequence[Layer]) -> list[Layer]:
    """Fewer layers of the same meaning: per-channel factors go into the next layer, a relu into its convolution."""
    found: list[Layer] = []
    for layer in layers:
        found.append(layer)
        while len(found) > 1 and (fewer := _together(found[-2], found[-1])) is not None:
            found[-2:] = fewer
    return found


def _together(first: Layer, second: Layer) -> list[Layer] | None:
    """Two layers as one, or in the other order where that brings them closer to it; None where they stay."""
    if isinstance(second, Activation) and second.function == "relu" and isinstance(first, Conv2d):
        return [replace(first, relu=True)]
    if isinstance(first, Dense) and isinstance(second, Scale):
        return [Dense(first.weight * second.weight[:, None], first.bias * second.weight + second.bias)]
    if isinstance(first, Conv2d) and isinstance(second, Scale) and not first.relu:
        return _conv_before(first, second)
    if isinstance(first, Scale) and isinstance(second, Dense):
        return [Dense(*_behind(second.weight, second.bias, first.weight, first.bias))]
    if not _per_channel(first):
        return None
    assert isinstance(first, Conv2d)
    factor, offset = first.weight[:, 0, 0, 0], first.bias
    if isinstance(second, Dense):
        return [Dense(*_behind(second.weight, second.bias, *_spread(first, factor, offset)))]
    if isinstance(second, Conv2d) and second.windows.inside:
        return [_conv_behind(second, factor, offset)]
    if isinstance(second, Pool) and _commutes(second, factor):
        w = second.windows
        places = Windows(w.rows, w.cols, w.channels, 1, 1, 1, 1, 0, 0, w.rows, w.cols, w.layout)
        return [second, replace(first, windows=places)]
    return None


def _conv_before(layer: Conv2d, scale: Scale) -> list[Layer] | None:
    """The convolution with the factors of its filters in it, where all places of one have the same."""
    w, places = layer.windows, layer.windows.places
    shape = (layer.filters, places) if w.layout == "chw" else (places, layer.filters)
    factor, offset = (np.moveaxis(part.reshape(shape), 0 if w.layout == "chw" else 1, 0)
                      for part in (scale.weight, scale.bias))
    if (factor != factor[:, :1]).any() or (offset != offset[:, :1]).any():
        return None
    return normalized([layer], factor[:, 0], offset[:, 0], None, w.layout)


def _per_channel(layer: Layer) -> bool:
    """Whether it multiplies each channel and adds to it, and nothing else."""
    if not isinstance(layer, Conv2d) or layer.relu or layer.weight.shape[1:] != (1, 1, 1):
        return False
    w = layer.windows
    return (layer.filters, w.rows, w.cols, w.top, w.left) == (w.channels, w.height, w.width, 0, 0)


def _spread(layer: Conv2d, factor: F64, offset: F64) -> tuple[F64, F64]:
    """Per element of the flat frame."""
    w = layer.windows
    channels = np.arange(w.channels)
    order = np.tile(channels, w.places) if w.layout == "hwc" else np.repeat(channels, w.places)
    return factor[order], offset[order]


def _behind(weight: F64, bias: F64, factor: F64, offset: F64) -> tuple[F64, F64]:
    """``weight @ (factor*x + offset) + bias``."""
    return weight * factor, bias + weight @ offset


def _conv_behind(layer: Conv2d, factor: F64, offset: F64) -> Conv2d:
    """The convolution of ``factor*x + offset``: no window leaves the frame, so that the offset is in every place."""
    own = np.repeat(np.arange(layer.windows.channels).reshape(layer.groups, -1), layer.filters // layer.groups, axis=0)
    bias = layer.bias + np.einsum("fijc,fc->f", layer.weight, offset[own])
    return replace(layer, weight=layer.weight * factor[own][:, None, None, :], bias=bias)


def _commutes(pool: Pool, factor: F64) -> bool:
    """Whether pooling before or after a factor and an offset is the same."""
    if pool.function == "max":
        return bool((factor > 0).all())
    return pool.windows.inside or pool.function == "avg_inside"


def frame_of(shape: tuple[int, ...] | None, layout: str, where: str) -> tuple[int, int, int]:
    """(height, width, channels) of a shape in a layout; two numbers are a frame of one row."""
    wanted = "channels, height, width" if layout == "chw" else "height, width, channels"
    if shape is None:
        raise BadInput(f"{where}: the shape of one step's input is not known; give input_shape=({wanted})")
    if len(shape) not in (2, 3):
        raise BadInput(f"{where}: reads a frame of ({wanted}), but its input has shape {shape}")
    if len(shape) == 2:
        return (1, shape[1], shape[0]) if layout == "chw" else (1, shape[0], shape[1])
    return (shape[1], shape[2], shape[0]) if layout == "chw" else (shape[0], shape[1], shape[2])


def shape_of(rows: int, cols: int, channels: int, layout: str, flat: bool) -> tuple[int, ...]:
    """The shape after a layer over windows; ``flat``: its frames have one row that no one counts."""
    if flat:
        return (channels, cols) if layout == "chw" else (cols, channels)
    return (channels, rows, cols) if layout == "chw" else (rows, cols, channels)
