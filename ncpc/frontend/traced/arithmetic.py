"""Arithmetic: with constants it changes gains and offsets, of two tensors of the step it is a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.traced.channels import Tensor, Traced, of_channels
from ncpc.frontend.traced.recorder import Handler, Recorder, TorchCall, as_traced
from ncpc.ir.heads import Combine
from ncpc.system.torch_library import torch_module


def affine(x: Traced, gain: Tensor | float, offset: Tensor | float, shape: Sequence[int]) -> Traced:
    """``gain*x + offset`` in ``shape``."""
    scaled = Traced(x.channel, x.gain * gain, x.offset * gain + offset)
    return scaled.moved(lambda part: part.broadcast_to(tuple(shape)))


def factor_of(value: Any) -> Any:
    """A constant operand, exact."""
    torch = torch_module()
    return as_traced(value).offset if isinstance(value, Traced) or torch.is_tensor(value) else float(value)


def _sum(recorder: Recorder, call: TorchCall, sign: float) -> Traced:
    """``a + sign*alpha*b``."""
    left, right, shape = call.args[0], call.args[1], tuple(call.result.shape)
    scale = sign * float(call.kwargs.get("alpha", 1))
    if not varies(right):
        return affine(left, 1.0, scale * factor_of(right), shape)
    if not varies(left):
        return affine(right, scale, factor_of(left), shape)
    if scale != 1.0 and scale != -1.0:
        right, scale = affine(right, scale, 0.0, right.shape), 1.0
    return combine(recorder, "add" if scale > 0 else "sub", left, right, shape)


def varies(value: Any) -> bool:
    """Whether a value depends on the inputs."""
    return isinstance(value, Traced) and not value.constant


def combine(recorder: Recorder, function: str, left: Traced, right: Traced, shape: Sequence[int]) -> Traced:
    """Two tensors element by element, as a layer. Factors of a product come out of it."""
    left, right = (t.moved(lambda part: part.broadcast_to(tuple(shape))) for t in (left, right))
    gain: Any = 1.0
    if function == "mul":
        (left, a), (right, b) = (_apart(t) for t in (left, right))
        gain = a * b
    channels = np.concatenate([recorder.graph.plain(left), recorder.graph.plain(right)])
    first = recorder.graph.add(Combine(function, len(channels) // 2), channels)
    made = of_channels(first, shape)
    return affine(made, gain, 0.0, shape)


def _apart(x: Traced) -> tuple[Traced, Any]:
    """A tensor without its gain, and the gain, where no offset stands in between."""
    if bool((x.offset != 0).any()) or bool((x.gain == 0).any()):
        return x, 1.0
    torch = torch_module()
    return Traced(x.channel, torch.ones_like(x.gain), x.offset), x.gain


def add(recorder: Recorder, call: TorchCall) -> Traced:
    """``a + alpha*b``."""
    return _sum(recorder, call, 1.0)


def subtract(recorder: Recorder, call: TorchCall) -> Traced:
    """``a - alpha*b``."""
    return _sum(recorder, call, -1.0)


def subtract_from(recorder: Recorder, call: TorchCall) -> Traced:
    """``b - a``."""
    turned = TorchCall(call.name, call.func, (call.args[1], call.args[0]), call.kwargs, call.result)
    if not varies(turned.args[0]):
        return affine(call.args[0], -1.0, factor_of(call.args[1]), tuple(call.result.shape))
    return _sum(recorder, turned, -1.0)


def multiply(recorder: Recorder, call: TorchCall) -> Traced:
    """``a * b``, element by element."""
    left, right, shape = call.args[0], call.args[1], tuple(call.result.shape)
    if not varies(right):
        return affine(left, factor_of(right), 0.0, shape)
    if not varies(left):
        return affine(right, factor_of(left), 0.0, shape)
    return combine(recorder, "mul", left, right, shape)


def divide(recorder: Recorder, call: TorchCall) -> Traced:
    """By constants only."""
    if call.name in ("__rdiv__", "__rtruediv__"):
        raise Unsupported("divides by what depends on the inputs; multiply by a gate, or divide by a constant")
    if call.kwargs.get("rounding_mode"):
        raise Unsupported("divides with rounding; leave out rounding_mode")
    if varies(call.args[1]):
        raise Unsupported("divides by what depends on the inputs; multiply by a gate, or divide by a constant")
    return affine(as_traced(call.args[0]), 1.0 / factor_of(call.args[1]), 0.0, tuple(call.result.shape))


def negate(recorder: Recorder, call: TorchCall) -> Traced:
    """``-a``."""
    return affine(call.args[0], -1.0, 0.0, call.args[0].shape)


def power(recorder: Recorder, call: TorchCall) -> Traced:
    """Small whole powers, as products."""
    x: Traced = call.args[0]
    exponent = call.arg(1, "exponent", 2)
    if not isinstance(exponent, (int, float)) or exponent not in (1, 2, 3, 4):
        raise Unsupported(f"takes the power {exponent}; powers 1 to 4 can be read")
    found = x
    for _ in range(int(exponent) - 1):
        found = combine(recorder, "mul", found, x, x.shape)
    return found


def extreme(function: str) -> Handler:
    """``min`` or ``max`` of two, one of which may be a constant."""
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        if len(call.args) != 2 or call.kwargs or isinstance(call.args[1], int):
            raise Unsupported(f"takes the {function} over a dimension; {function}imum of two tensors can be read")
        left, right = map(as_traced, call.args)
        return combine(recorder, function, left, right, tuple(call.result.shape))
    return handler
