"""Functions that are several layers, written in terms of simpler ones."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.frontend.traced.arithmetic import affine, combine, varies
from ncpc.frontend.traced.channels import Traced, of_channels
from ncpc.frontend.traced.over_time import require_not_over_time
from ncpc.frontend.traced.recorder import Recorder, TorchCall, as_traced
from ncpc.frontend.traced.windows import WINDOWS
from ncpc.ir.heads import Norm
from ncpc.ir.policy import Activation
from ncpc.system.torch_library import torch_module


def applied(recorder: Recorder, function: str, x: Traced, *parameters: float) -> Traced:
    """An ``Activation`` of all elements."""
    channels = recorder.graph.plain(x)
    made = recorder.graph.row([Activation(function, len(channels), parameters)], channels)
    return of_channels(int(made[0]), x.shape)


def glu(recorder: Recorder, call: TorchCall) -> Traced:
    """``a * sigmoid(b)`` of the two halves (Dauphin et al. 2017, equation 1)."""
    x: Traced = call.args[0]
    dim = call.arg(1, "dim", -1)
    a, b = (Traced(*halves) for halves in zip(*(part.chunk(2, dim) for part in x.parts), strict=True))
    return combine(recorder, "mul", a, applied(recorder, "sigmoid", b), a.shape)


def log_sigmoid(recorder: Recorder, call: TorchCall) -> Traced:
    """``-softplus(-x)``."""
    x: Traced = call.args[0]
    return affine(applied(recorder, "softplus", affine(x, -1.0, 0.0, x.shape)), -1.0, 0.0, x.shape)


def mish(recorder: Recorder, call: TorchCall) -> Traced:
    """``x * tanh(softplus(x))`` (Misra 2020, equation 1)."""
    x: Traced = call.args[0]
    return combine(recorder, "mul", x, applied(recorder, "tanh", applied(recorder, "softplus", x)), x.shape)


def celu(recorder: Recorder, call: TorchCall) -> Traced:
    """``alpha * elu(x / alpha)`` (Barron 2017, equation 2)."""
    x, alpha = call.args[0], float(call.arg(1, "alpha", 1.0))
    return affine(applied(recorder, "elu", affine(x, 1 / alpha, 0.0, x.shape), 1.0, 1.0), alpha, 0.0, x.shape)


def tanhshrink(recorder: Recorder, call: TorchCall) -> Traced:
    """``x - tanh(x)``."""
    x: Traced = call.args[0]
    return combine(recorder, "sub", x, applied(recorder, "tanh", x), x.shape)


def softshrink(recorder: Recorder, call: TorchCall) -> Traced:
    """``x`` without its part between -lambda and lambda."""
    x, limit = call.args[0], float(call.arg(1, "lambd", 0.5))
    return combine(recorder, "sub", x, applied(recorder, "hardtanh", x, -limit, limit), x.shape)


def lerp(recorder: Recorder, call: TorchCall) -> Traced:
    """``a + weight * (b - a)``."""
    a, b, weight = as_traced(call.args[0]), as_traced(call.args[1]), as_traced(call.arg(2, "weight"))
    shape = tuple(call.result.shape)
    return _added(recorder, a, _times(recorder, weight, _added(recorder, b, affine(a, -1.0, 0.0, a.shape), shape),
                                      shape), shape)


def addcmul(recorder: Recorder, call: TorchCall) -> Traced:
    """``x + value * a * b``."""
    x, a, b = (as_traced(part) for part in call.args[:3])
    shape = tuple(call.result.shape)
    product = affine(_times(recorder, a, b, shape), float(call.kwargs.get("value", 1)), 0.0, shape)
    return _added(recorder, x, product, shape)


def _times(recorder: Recorder, a: Traced, b: Traced, shape: Any) -> Traced:
    if varies(a) and varies(b):
        return combine(recorder, "mul", a, b, shape)
    return affine(b, a.offset, 0.0, shape) if varies(b) else affine(a, b.offset, 0.0, shape)


def _added(recorder: Recorder, a: Traced, b: Traced, shape: Any) -> Traced:
    if varies(a) and varies(b):
        return combine(recorder, "add", a, b, shape)
    return affine(b, 1.0, a.offset, shape) if varies(b) else affine(a, 1.0, b.offset, shape)


def rms_norm(recorder: Recorder, call: TorchCall) -> Traced:
    """``weight * x / sqrt(mean(x^2) + eps)`` (Zhang and Sennrich 2019, equation 4).

    The mean of x and -x together is 0 and their variance the mean square, so it is the first half of their ``Norm``.
    """
    torch = torch_module()
    x: Traced = call.args[0]
    size = int(np.prod(call.arg(1, "normalized_shape")))
    weight, eps = call.arg(2, "weight"), call.arg(3, "eps")
    eps = float(torch.finfo(torch.float32).eps if eps is None else eps)
    rows = x.moved(lambda part: part.reshape(-1, size))
    both = Traced(torch.cat([rows.channel, rows.channel], 1), torch.cat([rows.gain, -rows.gain], 1),
                  torch.cat([rows.offset, -rows.offset], 1))
    factor = np.ones(size) if weight is None else np.asarray(weight.detach().double()).reshape(-1)
    parts = len(rows.channel)
    layer = Norm(np.tile(factor, 2 * parts), np.zeros(2 * size * parts), parts, eps)
    made = recorder.graph.row([layer], recorder.graph.plain(both))
    halves = of_channels(int(made[0]), (parts, 2, size)).moved(lambda part: part[:, 0])
    return halves.moved(lambda part: part.reshape(x.shape))


def most(function: str) -> Any:
    """``amax`` or ``amin`` over dimensions: of a frame as pooling, else of halves, again and again."""
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        x: Traced = call.args[0]
        dims = call.arg(1, "dim", ())
        dims = [dims] if isinstance(dims, int) else list(dims) or list(range(len(x.shape)))
        require_not_over_time(x, dims, "largest" if function == "max" else "least")
        rest = sorted(d % len(x.shape) for d in dims)
        if function == "max" and rest == [2, 3] and len(x.shape) == 4 and x.shape[0] == 1:
            pooled = TorchCall("amax", call.func, (x, 1), {}, torch_module().empty(*x.shape[:2], 1, 1))
            frame: Traced = WINDOWS["adaptive_max_pool2d"](recorder, pooled)
            return frame.moved(lambda part: part.reshape(call.result.shape))
        kept = [d for d in range(len(x.shape)) if d not in rest]
        found = x.moved(lambda part: part.permute(*rest, *kept).reshape(-1, *(x.shape[d] for d in kept)))
        while (count := found.shape[0]) > 1:
            half = count // 2
            low, high, odd = (Traced(*(part[lo:hi] for part in found.parts)) for lo, hi in (
                (0, half), (half, 2 * half), (2 * half, count)))
            less: Traced = combine(recorder, function, low, high, low.shape)
            found = Traced(*(torch_module().cat(parts) for parts in zip(less.parts, odd.parts, strict=True)))
        return found.moved(lambda part: part.reshape(call.result.shape))
    return handler
