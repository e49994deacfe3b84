"""Causal convolutions over time: what was padded before the first step is what a tensor held some steps ago.

One step is watched. Of a tensor that has grown along time, the elements are the last of those that it has over a
sequence; zeros padded before them are then earlier values of its first element, 0 before the first step. What is padded
behind the last step stands for steps to come, which nothing may read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.traced.channels import LATER, Tensor, Traced, TracedGraph
from ncpc.frontend.traced.recorder import Recorder, user_line
from ncpc.ir.heads import Conv2d
from ncpc.ir.policy import Dense, Layer
from ncpc.ir.windows import Windows
from ncpc.system.torch_library import torch_module


def causally(recorder: Recorder, x: Traced, ends: list[int], how: str | float) -> tuple[Traced, list[int]]:
    """The tensor padded along time, and what is left to be padded along its other dimensions (``ends`` as F.pad has
    them); ``how`` is the mode, or the number to pad with.
    """
    k = len(ends) if x.time is None else 2 * (len(x.shape) - 1 - x.time)
    before, behind = (*ends[k : k + 2], 0, 0)[:2]
    if max(before, behind) <= 0:
        return x, ends
    if how != 0:
        raise Unsupported(f"pads time with {how}; zeros before the first step can be read")
    return padded(recorder, x, before, behind), [*ends[:k], min(before, 0), min(behind, 0), *ends[k + 2 :]]


def padded(recorder: Recorder, x: Traced, before: int, behind: int) -> Traced:
    """The tensor with ``before`` zeros before its first step and ``behind`` behind its last."""
    torch, axis = torch_module(), x.time
    assert axis is not None
    if before > 0:
        x = _with_earlier(recorder.graph, x, axis, before)
    if behind > 0:
        shape = [behind if k == axis else n for k, n in enumerate(x.shape)]
        later = torch.full(shape, float(recorder.graph.later(user_line())), dtype=torch.float64)
        parts = zip(x.parts, (later, torch.ones_like(later), torch.zeros_like(later)), strict=True)
        x = replace(Traced(*(torch.cat(pair, dim=axis) for pair in parts)), time=axis)
    return x


def _with_earlier(graph: TracedGraph, x: Traced, axis: int, count: int) -> Traced:
    """What the first element along time was up to ``count`` steps ago before it; gains stay, offsets do not: before the
    first step all was 0.
    """
    torch, first = torch_module(), x.moved(lambda part: part.narrow(axis, 0, 1))
    gain = first.gain
    if bool((first.offset != 0).any()) or bool((gain == 0).any()):
        channels, gain = graph.plain(first), torch.ones_like(gain)
    else:
        channels = graph.known(first)
    made = graph.delayed(channels, count)
    earlier = torch.as_tensor(made, dtype=torch.float64).reshape(count + 1, *first.channel.movedim(axis, 0).shape[1:])
    earlier = earlier.movedim(0, axis)
    own = Traced(earlier, gain.expand(earlier.shape), torch.zeros_like(earlier))
    rest = x.moved(lambda part: part.narrow(axis, 1, part.shape[axis] - 1))
    parts = zip(own.parts, rest.parts, strict=True)
    return replace(Traced(*(torch.cat(pair, dim=axis) for pair in parts)), time=axis)


def on_time(x: Traced, dims: int) -> int | None:
    """Which of the last ``dims`` dimensions, those of a frame, is time; None where none is known to be."""
    return None if x.time is None or x.time < len(x.shape) - dims else x.time - (len(x.shape) - dims)


def sides(padding: Any, dim: int, reach: int) -> tuple[int, int]:
    """Zeros before and behind along a dimension in which a kernel reaches over ``reach`` + 1 places."""
    if padding == "same":
        return reach // 2, reach - reach // 2
    each = 0 if padding == "valid" else padding[dim] if isinstance(padding, (tuple, list)) else padding
    return int(each), int(each)


def require_every_step(stride: int, what: str) -> None:
    """Raises Unsupported for what gives something at some of the steps alone."""
    if stride != 1:
        raise Unsupported(f"{what} over time by strides of {stride}, so that it gives something at every {stride}th "
                          "step only; use stride 1, or let the last steps together be the input of one step "
                          "(input_shape)")


def require_pooled_causally(x: Traced, module: Any, dim: int) -> None:
    """Raises Unsupported for pooling over time by strides, over steps to come, or over all steps."""
    def along(value: Any) -> int:
        return int(value[dim] if isinstance(value, (tuple, list)) else value)

    if not hasattr(module, "kernel_size"):
        require_not_over_time(x, [x.time or 0], "mean or the largest")
    require_every_step(along(module.stride), "pools")
    if along(module.padding):
        raise Unsupported("pools over time padded on both sides; pad it before the first step with zeros instead")


def require_not_over_time(x: Traced, axes: Sequence[int], what: str) -> None:
    """Raises Unsupported for what is taken over all steps of a sequence."""
    if x.time in {axis % max(len(x.shape), 1) for axis in axes}:
        raise Unsupported(f"takes the {what} over all steps of time, of which a policy sees one after another; take "
                          "the last step, a convolution over the last ones, or a cell that forgets slowly")


def reading(x: Traced, reach: int) -> tuple[Traced, int]:
    """What of the tensor may be read, without steps to come, and at how many places a kernel of this reach fits."""
    assert x.time is not None
    axis = x.time
    later = (x.channel <= LATER).movedim(axis, 0).flatten(1).any(1)
    count = int((~later).sum())
    return replace(x.moved(lambda part: part.narrow(axis, 0, count)), time=axis), max(count - reach, 0)


def convolved(recorder: Recorder, x: Traced, weight: Tensor, bias: Tensor | None, groups: int) -> Traced:
    """A convolution of (1, channels, taps) that fits once: a Dense over the taps, tap by tap as histories hold them;
    grouped, a convolution of one place.
    """
    torch, (filters, _, taps) = torch_module(), weight.shape
    rows = x.moved(lambda part: part.reshape(-1, taps).T.reshape(-1))
    kernel = np.asarray(weight.detach().double().permute(0, 2, 1))
    start = np.zeros(filters) if bias is None else np.asarray(bias.detach().double())
    if groups == 1:
        matrix = kernel.reshape(filters, -1)
        layer: Layer = Dense(matrix * np.asarray(rows.gain), start + matrix @ np.asarray(rows.offset))
        channels = recorder.graph.known(rows)
    else:
        frame = Windows(1, taps, len(rows.channel) // taps, 1, taps, 1, 1, 0, 0, 1, 1, "hwc", 1, 1)
        layer, channels = Conv2d(frame, kernel[:, None], start), recorder.graph.plain(rows)
    channel = torch.as_tensor(recorder.graph.row([layer], channels), dtype=torch.float64)
    return Traced(channel, torch.ones_like(channel), torch.zeros_like(channel))
