"""Convolutions and pooling over the frames of a step: the readers of torch's modules say what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.heads import merged, normalized
from ncpc.frontend.torch_heads import head_reader
from ncpc.frontend.traced import over_time
from ncpc.frontend.traced.channels import Tensor, Traced, of_channels
from ncpc.frontend.traced.recorder import Handler, Recorder, TorchCall, depends
from ncpc.ir.policy import Layer
from ncpc.system.torch_library import torch_module


def _read(recorder: Recorder, call: TorchCall, module: Any, dims: int) -> Traced:
    """A module over the one frame of a tensor (1, channels, ...)."""
    x = call.args[0]
    shape = x.shape[-dims - 1 :]
    if int(np.prod(x.shape[: -dims - 1], dtype=np.int64)) != 1:
        raise Unsupported(f"reads {x.shape[0]} frames in one step; one can be read, its images as channels")
    reader = head_reader(module)
    assert reader is not None
    before, source = _scaled(recorder, x, shape)
    layers, _ = reader(module, shape, before)
    made = recorder.graph.row(merged(layers), recorder.graph.known(source))
    return of_channels(int(made[0]), tuple(call.result.shape))


def _scaled(recorder: Recorder, x: Traced, shape: tuple[int, ...]) -> tuple[list[Layer], Traced]:
    """Gains and offsets of a frame, where each channel has one of either, as a layer that merges into what follows."""
    if x.plain:
        return [], x
    torch = torch_module()
    gain, offset = (np.asarray(part).reshape(shape[0], -1) for part in (x.gain, x.offset))
    uniform = (gain == gain[:, :1]).all() and (offset == offset[:, :1]).all() and (gain != 0).all()
    if not uniform:
        plain = torch.as_tensor(recorder.graph.plain(x), dtype=torch.float64).reshape(x.shape)
        return [], Traced(plain, torch.ones_like(plain), torch.zeros_like(plain))
    frame = (1, shape[1], shape[0]) if len(shape) == 2 else (shape[1], shape[2], shape[0])
    return normalized([], gain[:, 0], offset[:, 0], frame, "chw"), x


def convolution(dims: int) -> Handler:
    """``conv1d``, ``conv2d``."""
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        nn, weight, bias = torch_module().nn, call.arg(1, "weight"), call.arg(2, "bias")
        if depends(weight) or depends(bias):
            raise Unsupported("convolves with weights that depend on the inputs; use fixed ones")
        stride, padding, dilation, groups = (call.arg(k, name, default) for k, name, default in (
            (3, "stride", 1), (4, "padding", 0), (5, "dilation", 1), (6, "groups", 1)))
        kind = nn.Conv1d if dims == 1 else nn.Conv2d
        module = kind(weight.shape[1] * groups, len(weight), tuple(weight.shape[2:]), stride, padding, dilation, groups,
                      bias is not None, device="meta")
        module.weight = nn.Parameter(weight.detach(), requires_grad=False)
        module.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        dim = over_time.on_time(call.args[0], dims)
        return _read(recorder, call, module, dims) if dim is None else _over_time(recorder, call, module, dims, dim)
    return handler


def _over_time(recorder: Recorder, call: TorchCall, module: Any, dims: int, dim: int) -> Traced:
    """A convolution of which one dimension is time; what reads steps to come is such a step itself."""
    over_time.require_every_step(module.stride[dim], "convolves")
    torch, shape = torch_module(), tuple(call.result.shape)
    reach = (module.kernel_size[dim] - 1) * module.dilation[dim]
    x = over_time.padded(recorder, call.args[0], *over_time.sides(module.padding, dim, reach))
    seen, places = over_time.reading(x, reach)
    channel = torch.full(shape, float(x.channel.min()), dtype=torch.float64)
    if places:
        module.padding = tuple(0 if k == dim else pad for k, pad in enumerate(_evenly(module)))
        found = _fitted(recorder, call, module, seen, (dims, dim), places)
        part = channel.narrow(x.time, 0, places)
        part.copy_(found.reshape(part.shape))
    return Traced(channel, torch.ones_like(channel), torch.zeros_like(channel))


def _evenly(module: Any) -> list[int]:
    """Zeros on either side of each dimension."""
    pairs = [over_time.sides(module.padding, k, (n - 1) * d)
             for k, (n, d) in enumerate(zip(module.kernel_size, module.dilation, strict=True))]
    return [before for before, _ in pairs]


def _fitted(recorder: Recorder, call: TorchCall, module: Any, x: Traced, time: tuple[int, int], places: int) -> Tensor:
    """The channels of a convolution that is to fit ``places`` times; once, only the taps that it needs are read."""
    (dims, dim), axis = time, x.time
    assert axis is not None
    if places == 1:
        every = (slice(None),) * axis + (slice(None, None, module.dilation[dim]),)
        x = x.moved(lambda part: part[every])
        module.dilation = tuple(1 if k == dim else n for k, n in enumerate(module.dilation))
    if places == 1 and dims == 1:
        return over_time.convolved(recorder, x, module.weight, module.bias, module.groups).channel
    with torch_module().no_grad():
        result = module(x.channel)
    return _read(recorder, replace(call, args=(x, *call.args[1:]), result=result), module, dims).channel


def pooling(kind: str, *options: str) -> Handler:
    """A function with the arguments of torch's module of this kind, after the tensor."""
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        given = {name: call.arg(k + 1, name) for k, name in enumerate(options)}
        module = getattr(torch_module().nn, kind)(**{name: v for name, v in given.items() if v is not None})
        if (dim := over_time.on_time(call.args[0], int(kind[-2]))) is not None:
            over_time.require_pooled_causally(call.args[0], module, dim)
        return _read(recorder, call, module, int(kind[-2]))
    return handler


def mean_of_frame(recorder: Recorder, call: TorchCall) -> Traced:
    """The mean over all places of a frame (1, channels, height, width)."""
    return _read(recorder, call, torch_module().nn.AdaptiveAvgPool2d(1), 2)


MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVG = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
WINDOWS: Mapping[str, Handler] = {
    "conv1d": convolution(1), "conv2d": convolution(2),
    "max_pool1d": pooling("MaxPool1d", *MAX), "max_pool2d": pooling("MaxPool2d", *MAX),
    "avg_pool1d": pooling("AvgPool1d", *AVG), "avg_pool2d": pooling("AvgPool2d", *AVG, "divisor_override"),
    **{f"adaptive_{name}_pool{d}d": pooling(f"Adaptive{name.title()}Pool{d}d", "output_size")
       for name in ("avg", "max") for d in (1, 2)},
}
