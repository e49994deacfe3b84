"""What each torch function makes of the channels it is given, by the function's name.

Three sorts: those that only move elements about, arithmetic with constants, which changes gains and offsets, and those
that become a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.torch_activations import activation_readers
from ncpc.frontend.torch_heads import head_reader
from ncpc.frontend.traced import arithmetic, composed, contractions, moves, products
from ncpc.frontend.traced.arithmetic import affine
from ncpc.frontend.traced.channels import Traced, of_channels
from ncpc.frontend.traced.over_time import require_not_over_time
from ncpc.frontend.traced.recorder import Handler, Recorder, TorchCall, depends
from ncpc.frontend.traced.windows import WINDOWS
from ncpc.ir.heads import Softmax
from ncpc.ir.policy import Activation, Layer
from ncpc.system.torch_library import torch_module


def clamp(recorder: Recorder, call: TorchCall) -> Traced:
    """With both ends a hard tanh; with one, a relu from there on: ``lo + relu(x - lo)``."""
    x, lo, hi = call.args[0], call.arg(1, "min"), call.arg(2, "max")
    if any(torch_module().is_tensor(end) or isinstance(end, Traced) for end in (lo, hi)):
        raise Unsupported("limits each element to an end of its own; use numbers")
    if lo is not None and hi is not None:
        return layer_on(recorder, x, lambda width: [Activation("hardtanh", width, (float(lo), float(hi)))])
    end, sign = (float(lo), 1.0) if hi is None else (float(hi), -1.0)
    beyond = affine(x, sign, -sign * end, x.shape)
    return affine(layer_on(recorder, beyond, lambda width: [Activation("relu", width)]), sign, end, x.shape)


def clamp_from(recorder: Recorder, call: TorchCall) -> Traced:
    """``clamp_min``."""
    return clamp(recorder, TorchCall("clamp", call.func, (call.args[0], call.arg(1, "min"), None), {}, call.result))


def clamp_to(recorder: Recorder, call: TorchCall) -> Traced:
    """``clamp_max``."""
    return clamp(recorder, TorchCall("clamp", call.func, (call.args[0], None, call.arg(1, "max")), {}, call.result))


def layer_on(recorder: Recorder, x: Traced, layers: Callable[[int], Sequence[Layer]],
             shape: Sequence[int] | None = None) -> Traced:
    """All elements of a tensor through layers of their number, into ``shape`` (its own)."""
    channels = recorder.graph.plain(x)
    made = recorder.graph.row(layers(len(channels)), channels)
    return of_channels(int(made[0]), x.shape if shape is None else shape)


def activation(kind: str, *options: str, **renamed: str) -> Handler:
    """A function that torch has as a module too, with ``options`` as its arguments after the tensor; the module's
    reader says what it means.
    """
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        module_type = getattr(torch_module().nn, kind)
        given = {renamed.get(o, o): call.arg(k + 1, o) for k, o in enumerate(options) if call.arg(k + 1, o) is not None}
        layer: Any = activation_readers()[module_type](module_type(**given))[0]
        return layer_on(recorder, call.args[0], lambda width: [Activation(layer.function, width, layer.parameters)])
    return handler


def elementwise(function: str) -> Handler:
    """An ``Activation`` that torch has no module for."""
    def handler(recorder: Recorder, call: TorchCall) -> Traced:
        return layer_on(recorder, call.args[0], lambda width: [Activation(function, width)])
    return handler


def prelu(recorder: Recorder, call: TorchCall) -> Traced:
    """One slope for all."""
    slope = call.arg(1, "weight")
    if depends(slope) or slope.numel() != 1:
        raise Unsupported("prelu with a slope per channel cannot be read; use one slope")
    return layer_on(recorder, call.args[0], lambda width: [Activation("leaky_relu", width, (float(slope),))])


def batch_norm(recorder: Recorder, call: TorchCall) -> Traced:
    """Gains and offsets per channel (Ioffe and Szegedy 2015, with the statistics of training)."""
    torch = torch_module()
    x, mean, variance, weight, bias = (call.arg(k, name) for k, name in enumerate(
        ("input", "running_mean", "running_var", "weight", "bias")))
    if mean is None or call.arg(5, "training", False):
        raise Unsupported("normalizes by the batch at hand; put the module into eval() mode, with running statistics")
    factor = torch.rsqrt(variance.double() + float(call.arg(7, "eps", 1e-5)))
    factor = factor if weight is None else factor * weight.double()
    offset = -mean.double() * factor + (0.0 if bias is None else bias.double())
    along = (1, -1, *(1,) * (len(x.shape) - 2))
    return affine(x, factor.reshape(along), offset.reshape(along), x.shape)


def layer_norm(recorder: Recorder, call: TorchCall) -> Traced:
    """Over the last dimensions; what is before them are parts of their own."""
    module = torch_module().nn.LayerNorm(call.arg(1, "normalized_shape"), call.arg(4, "eps", 1e-5), device="meta")
    return _norm(recorder, call, module, call.args[0].shape)


def group_norm(recorder: Recorder, call: TorchCall) -> Traced:
    """Over groups of channels of one frame, all places together."""
    x, groups = call.args[0], int(call.arg(1, "num_groups"))
    if x.shape[0] != 1:
        raise Unsupported(f"normalizes {x.shape[0]} frames in one step; one can be read")
    module = torch_module().nn.GroupNorm(groups, x.shape[1], call.arg(4, "eps", 1e-5), device="meta")
    return _norm(recorder, call, module, x.shape[1:])


def _norm(recorder: Recorder, call: TorchCall, module: Any, shape: Sequence[int]) -> Traced:
    """What the module's reader says, with the weights of the call."""
    frozen = partial(torch_module().nn.Parameter, requires_grad=False)
    module.weight, module.bias = (None if part is None else frozen(part.detach())
                                  for part in (call.arg(2, "weight"), call.arg(3, "bias")))
    reader = head_reader(module)
    assert reader is not None
    return layer_on(recorder, call.args[0], lambda _: reader(module, tuple(shape), [])[0])


def softmax(recorder: Recorder, call: TorchCall) -> Traced:
    """Over one dimension of a tensor whose others are 1."""
    x, dim = call.args[0], call.arg(1, "dim", -1)
    require_not_over_time(x, [dim], "softmax")
    if x.shape[dim] != int(np.prod(x.shape)):
        raise Unsupported(f"softmax over dimension {dim} of {x.shape}: over the one that is not 1 it can be read")
    return layer_on(recorder, x, lambda width: [Softmax(width)])


def _named(handler: Handler, *names: str) -> dict[str, Handler]:
    return dict.fromkeys(names, handler)


HANDLERS: Mapping[str, Handler] = {
    **_named(moves.move, *moves.MOVES), **_named(moves.same, *moves.SAME), "pad": moves.pad, "setitem": moves.setitem,
    "copy": moves.copied, "where": moves.where, "masked_fill": moves.masked_fill,
    **_named(arithmetic.add, "add", "iadd", "radd"), **_named(arithmetic.subtract, "sub", "subtract", "isub"),
    "rsub": arithmetic.subtract_from, **_named(arithmetic.multiply, "mul", "multiply", "imul", "rmul"),
    **_named(arithmetic.divide, "div", "divide", "true_divide", "truediv", "itruediv", "rdiv", "rtruediv"),
    **_named(arithmetic.negate, "neg", "negative"), **_named(arithmetic.power, "pow", "square", "ipow"),
    **_named(arithmetic.extreme("min"), "minimum", "min"), **_named(arithmetic.extreme("max"), "maximum", "max"),
    **_named(clamp, "clamp", "clip"), "clamp_min": clamp_from, "clamp_max": clamp_to,
    "relu": activation("ReLU"), "tanh": activation("Tanh"), "sigmoid": activation("Sigmoid"),
    "silu": activation("SiLU"), "gelu": activation("GELU", "approximate"), "selu": activation("SELU"),
    "leaky_relu": activation("LeakyReLU", "negative_slope"), "elu": activation("ELU", "alpha"),
    "relu6": activation("ReLU6"), "hardtanh": activation("Hardtanh", "min_val", "max_val"),
    "softplus": activation("Softplus", "beta", "threshold"), "exp": elementwise("exp"), "abs": elementwise("abs"),
    "absolute": elementwise("abs"), "hardsigmoid": activation("Hardsigmoid"), "hardswish": activation("Hardswish"),
    "prelu": prelu,
    "linear": products.linear, **_named(products.matmul, "matmul", "mm", "rmatmul"), "addmm": products.addmm,
    **_named(contractions.batched, "bmm"), "einsum": contractions.einsum,
    **_named(contractions.linear_map, "baddbmm", "mv", "dot", "tensordot", "inner", "interpolate", "conv_transpose1d",
             "conv_transpose2d"),
    "glu": composed.glu, **_named(composed.log_sigmoid, "log_sigmoid", "logsigmoid"), "mish": composed.mish,
    "celu": composed.celu, "tanhshrink": composed.tanhshrink, "softshrink": composed.softshrink,
    "lerp": composed.lerp, "addcmul": composed.addcmul, "rms_norm": composed.rms_norm,
    "amax": composed.most("max"), "amin": composed.most("min"),
    "mean": products.reduction(mean=True), "sum": products.reduction(mean=False),
    "batch_norm": batch_norm, "layer_norm": layer_norm, "group_norm": group_norm, "softmax": softmax, **WINDOWS,
}
