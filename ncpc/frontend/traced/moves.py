"""Functions that only move elements about: applied to the parts of what they move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.traced import over_time
from ncpc.frontend.traced.channels import Tensor, Traced
from ncpc.frontend.traced.recorder import Recorder, TorchCall, as_traced, depends
from ncpc.system.torch_library import torch_module

MOVES = (
    "view", "reshape", "flatten", "unflatten", "ravel", "permute", "transpose", "swapaxes", "swapdims", "movedim",
    "moveaxis", "t", "T", "mT", "H", "squeeze", "unsqueeze", "getitem", "select", "narrow", "split", "chunk", "unbind",
    "tensor_split", "split_with_sizes", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack",
    "expand", "expand_as", "broadcast_to", "view_as", "reshape_as", "repeat", "tile", "repeat_interleave", "flip",
    "fliplr", "flipud", "roll", "clone", "contiguous", "detach", "data", "alias", "atleast_1d", "atleast_2d",
    "atleast_3d", "index_select", "gather", "take", "diagonal", "unfold", "pixel_shuffle", "pixel_unshuffle",
    "column_stack", "as_strided", "cpu", "channel_shuffle", "rot90", "adjoint", "positive", "broadcast_tensors",
)
SAME = ("to", "float", "double", "half", "bfloat16", "type_as", "dropout", "dropout1d", "dropout2d", "alpha_dropout",
        "feature_alpha_dropout", "feature_dropout", "cuda", "requires_grad", "nan_to_num", "real")
"""What leaves numbers as they are: a trained network drops nothing."""


def _components(call: TorchCall, convert: Callable[[Traced], Tensor], constant: Callable[[Tensor], Tensor]) -> Any:
    """The function's result on one part of everything it moves."""
    torch = torch_module()

    def one(value: Any) -> Any:
        if isinstance(value, Traced):
            return convert(value)
        if isinstance(value, (list, tuple)) and any(map(depends, value)):
            return type(value)(constant(v) if torch.is_tensor(v) and not depends(v) else one(v) for v in value)
        return value

    return call.func(*map(one, call.args), **{key: one(value) for key, value in call.kwargs.items()})


def move(recorder: Recorder, call: TorchCall) -> Any:
    """The same function on channels, gains and offsets."""
    torch = torch_module()
    if any(map(depends, call.args[1:])) and call.name not in ("expand_as", "view_as", "reshape_as", "cat"):
        pieces = [a for a in call.args[1:] if isinstance(a, Traced)]
        if pieces and call.name.strip("_") in ("getitem", "gather", "index_select", "take"):
            raise Unsupported("which elements are taken depends on the numbers of a step; use a fixed index")
    if call.name in ("expand_as", "view_as", "reshape_as") and not depends(call.args[0]):
        return as_traced(call.result)  # the shape alone is that of what was observed
    parts = [
        _components(call, lambda t: t.channel.clone(), lambda v: torch.zeros(v.shape, dtype=torch.float64)),
        _components(call, lambda t: t.gain.clone(), lambda v: torch.zeros(v.shape, dtype=torch.float64)),
        _components(call, lambda t: t.offset.clone(), lambda v: v.detach().to(torch.float64)),
    ]
    return _zipped(parts)


def _zipped(parts: Sequence[Any]) -> Any:
    if torch_module().is_tensor(parts[0]):
        return Traced(*parts)
    return [_zipped(column) for column in zip(*parts, strict=True)]


def same(recorder: Recorder, call: TorchCall) -> Traced:
    """The numbers as they are, whatever their precision: the graph is exact."""
    if not call.result.is_floating_point():
        raise Unsupported(f"converts to {call.result.dtype}, which rounds; leave it floating")
    traced: Traced = call.args[0]
    return traced


def pad(recorder: Recorder, call: TorchCall) -> Traced:
    """Constants around, or elements of the tensor itself."""
    functional, x, sides = torch_module().nn.functional, call.args[0], call.arg(1, "pad")
    mode, value = call.arg(2, "mode", "constant"), call.arg(3, "value") or 0.0
    x, sides = over_time.causally(recorder, x, list(sides), mode if mode != "constant" else value)
    if mode != "constant":
        return Traced(*(functional.pad(part, sides, mode=mode) for part in x.parts))
    channel, gain = (functional.pad(part, sides) for part in (x.channel, x.gain))
    return Traced(channel, gain, functional.pad(x.offset, sides, value=value))


def setitem(recorder: Recorder, call: TorchCall) -> Traced:
    """A tensor of which some elements were replaced."""
    target, index, value = as_traced(call.args[0]), call.args[1], as_traced(call.args[2])
    if depends(index):
        raise Unsupported("which elements are set depends on the numbers of a step; use a fixed index")
    parts = [part.clone() for part in target.parts]
    for part, new in zip(parts, value.parts, strict=True):
        part[index] = new
    return Traced(*parts)


def copied(recorder: Recorder, call: TorchCall) -> Traced:
    """What a tensor holds after ``copy_``."""
    shape = call.result.shape
    return as_traced(call.args[1]).moved(lambda part: part.broadcast_to(shape))


def where(recorder: Recorder, call: TorchCall) -> Traced:
    """A fixed choice of elements."""
    torch = torch_module()
    choice, left, right = call.args
    if depends(choice):
        raise Unsupported("which of two is taken depends on the numbers of a step; use clamp, relu or min and max")
    pairs = zip(as_traced(left).parts, as_traced(right).parts, strict=True)
    return Traced(*(torch.where(choice, a, b) for a, b in pairs))


def masked_fill(recorder: Recorder, call: TorchCall) -> Traced:
    """Elements under a fixed mask become constants."""
    x, mask, value = call.args[0], call.arg(1, "mask"), float(call.arg(2, "value"))
    if depends(mask):
        raise Unsupported("which elements are filled depends on the numbers of a step")
    return Traced(x.channel.masked_fill(mask, 0.0), x.gain.masked_fill(mask, 0.0), x.offset.masked_fill(mask, value))
