"""What each operator of ONNX computes, in functions of torch (onnx/onnx docs/Operators.md). Needs torch.

Options are attributes in some versions and inputs in others; ``told`` looks in both places.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.onnx_graph.file import OnnxNode
from ncpc.frontend.onnx_graph.frames import FRAMES
from ncpc.frontend.onnx_graph.told import require_size, tensor_of, told
from ncpc.system.torch_library import torch_module

torch: Any = torch_module()
functional: Any = torch.nn.functional
Given = Sequence[Any]
Operator = Callable[[OnnxNode, Given], Any]

FLOATS = (1, 10, 11, 16)
"""TensorProto's FLOAT, FLOAT16, DOUBLE, BFLOAT16: the reading is in double precision throughout."""
BOOL = 9
FAR = 3e38
"""A limit that far out limits nothing: exporters write the largest float for none."""


def _elementwise(function: Callable[..., Any]) -> Operator:
    def operator(node: OnnxNode, given: Given) -> Any:
        require_size(np.broadcast_shapes(*(tuple(x.shape) for x in given)))
        return function(*given)
    return operator


def _many(function: Callable[[Any, Any], Any]) -> Operator:
    """One of any number of inputs."""
    def operator(node: OnnxNode, given: Given) -> Any:
        return reduce(lambda a, b: _elementwise(function)(node, (a, b)), given)
    return operator


def _extreme(low: bool) -> Operator:
    """Min or Max: with a single constant a limit."""
    def two(a: Any, b: Any) -> Any:
        if b.ndim == 0 or b.numel() == 1:
            a, b = b, a
        if a.numel() == 1 and b.ndim >= a.ndim and isinstance(limit := _number(a), float):
            return torch.clamp(b, max=limit) if low else torch.clamp(b, min=limit)
        return torch.minimum(a, b) if low else torch.maximum(a, b)
    return _many(two)


def _number(value: Any) -> float | None:
    """A constant number; None for what depends on the inputs."""
    try:
        return float(value)
    except Unsupported:
        return None


def divide(node: OnnxNode, given: Given) -> Any:
    """Of whole numbers, without the rest."""
    a, b = given
    if a.is_floating_point():
        return _elementwise(torch.div)(node, given)
    return torch.div(a, b, rounding_mode="trunc")


def power(node: OnnxNode, given: Given) -> Any:
    """By a constant number where that is one."""
    x, exponent = given
    if exponent.numel() != 1:
        return _elementwise(torch.pow)(node, given)
    value = float(exponent)
    return torch.pow(x, int(value) if value.is_integer() else value)


def matmul(node: OnnxNode, given: Given) -> Any:
    """NumPy's product of matrices."""
    a, b = given
    require_size((*a.shape[:-1], *b.shape[-1:]))
    return torch.matmul(a, b)


def gemm(node: OnnxNode, given: Given) -> Any:
    """``alpha*A*B + beta*C``."""
    a, b = given[:2]
    a, b = a.T if node.get("transA") else a, b.T if node.get("transB") else b
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    require_size((len(a), b.shape[1]))
    b = b if alpha == 1.0 else alpha * b
    if len(given) < 3 or given[2] is None:
        return torch.matmul(a, b)
    c = given[2] if beta == 1.0 else beta * given[2]
    if c.numel() in (1, b.shape[1]) and c.shape[-1:] in ((), (1,), (b.shape[1],)):
        return functional.linear(a, b.T, c.reshape(-1).expand(b.shape[1]))
    return torch.matmul(a, b) + c


def clip(node: OnnxNode, given: Given) -> Any:
    """Between two numbers, either of which may be left out."""
    ends = [told(node, given, k, name) for k, name in ((1, "min"), (2, "max"))]
    lo, hi = (None if end is None or abs(float(np.asarray(end))) > FAR else float(np.asarray(end)) for end in ends)
    return given[0] if lo is None and hi is None else torch.clamp(given[0], lo, hi)


def hard_sigmoid(node: OnnxNode, given: Given) -> Any:
    """``max(0, min(1, alpha*x + beta))``."""
    return torch.clamp(node.get("alpha", 0.2) * given[0] + node.get("beta", 0.5), 0.0, 1.0)


def gelu(node: OnnxNode, given: Given) -> Any:
    """``x*Phi(x)``, or its approximation by tanh (Hendrycks and Gimpel 2016), written out."""
    x = given[0]
    if node.get("approximate", "none") == "none":
        return functional.gelu(x)
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))


def selu(node: OnnxNode, given: Given) -> Any:
    """``gamma*elu(x)``, of any alpha."""
    return node.get("gamma", 1.0507010221481323) * functional.elu(given[0], node.get("alpha", 1.6732631921768188))


def softmax(node: OnnxNode, given: Given) -> Any:
    """Over one axis; before version 13 over it and all that follow."""
    x = given[0]
    if node.opset >= 13:
        return torch.softmax(x, node.get("axis", -1))
    axis = node.get("axis", 1) % max(x.ndim, 1)
    return torch.softmax(x.flatten(axis), axis).reshape(x.shape)


def cast(node: OnnxNode, given: Given) -> Any:
    """Floating numbers of any kind are double ones here."""
    kind = node.get("to")
    if node.op == "CastLike":
        return given[0].to(given[1].dtype)
    return given[0].to(torch.float64 if kind in FLOATS else torch.bool if kind == BOOL else torch.int64)


def constant(node: OnnxNode, given: Given) -> Any:
    """A tensor, a number or a list of such."""
    value = next((node.get(name) for name in ("value", "value_float", "value_int", "value_floats", "value_ints")
                  if name in node.attributes), None)
    if value is None:
        raise Unsupported("holds no numbers")
    return tensor_of(np.asarray(value))


def filled(node: OnnxNode, given: Given) -> Any:
    """ConstantOfShape."""
    shape = given[0].tolist()
    require_size(shape)
    value = tensor_of(np.asarray(node.get("value", np.zeros(1, np.float32))))
    return value.reshape(()).expand(shape).clone()


def span(node: OnnxNode, given: Given) -> Any:
    """Range."""
    start, limit, step = (x.item() for x in given)
    require_size((max(0, int((limit - start) / step)),))
    return torch.arange(start, limit, step)


def reshape(node: OnnxNode, given: Given) -> Any:
    """A 0 stands for the dimension as it was."""
    x, shape = given[0], list(told(node, given, 1, "shape"))
    if not node.get("allowzero"):
        shape = [x.shape[k] if n == 0 else n for k, n in enumerate(shape)]
    return x.reshape(shape)


def flatten(node: OnnxNode, given: Given) -> Any:
    """Into a matrix."""
    axis = node.get("axis", 1)
    return given[0].reshape(int(np.prod(given[0].shape[:axis], dtype=np.int64)), -1)


def squeeze(node: OnnxNode, given: Given) -> Any:
    """Without axes of one element."""
    axes = told(node, given, 1, "axes")
    return given[0].squeeze() if axes is None else given[0].squeeze(tuple(axes))


def unsqueeze(node: OnnxNode, given: Given) -> Any:
    """With axes of one element."""
    axes, x = told(node, given, 1, "axes"), given[0]
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def expand(node: OnnxNode, given: Given) -> Any:
    """To what both shapes broadcast to."""
    shape = np.broadcast_shapes(tuple(given[0].shape), tuple(given[1].tolist()))
    require_size(shape)
    return given[0].expand(shape)


def tile(node: OnnxNode, given: Given) -> Any:
    """Again and again along each axis."""
    times = given[1].tolist()
    require_size([n * m for n, m in zip(given[0].shape, times, strict=True)])
    return given[0].repeat(times)


def transpose(node: OnnxNode, given: Given) -> Any:
    """The axes in reverse, unless told."""
    return given[0].permute(node.get("perm") or tuple(range(given[0].ndim))[::-1])


def concat(node: OnnxNode, given: Given) -> Any:
    """Along one axis."""
    require_size((sum(x.numel() for x in given),))
    return torch.cat(list(given), node.get("axis", 0))


def split(node: OnnxNode, given: Given) -> Any:
    """Pieces of the sizes told, or as many as there are outputs."""
    axis, sizes = node.get("axis", 0), told(node, given, 1, "split")
    if sizes is None:
        count = node.get("num_outputs", len(node.outputs))
        size = -(-given[0].shape[axis] // count)
        return torch.split(given[0], size, axis)
    return torch.split(given[0], list(sizes), axis)


def cut(node: OnnxNode, given: Given) -> Any:
    """Slice: along each axis from, to and by."""
    x = given[0]
    starts, ends = told(node, given, 1, "starts"), told(node, given, 2, "ends")
    axes = told(node, given, 3, "axes") or range(len(starts))
    steps = told(node, given, 4, "steps") or [1] * len(starts)
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        taken = range(x.shape[axis])[first:last:step]
        if step > 0:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(taken.start, taken.stop, step),)]
        else:
            x = torch.index_select(x, axis, torch.tensor(list(taken), dtype=torch.int64))
    return x


def gather(node: OnnxNode, given: Given) -> Any:
    """Elements by constant indices."""
    x, index = given
    axis = node.get("axis", 0) % max(x.ndim, 1)
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    require_size(shape)
    found = torch.index_select(x, axis, torch.where(index < 0, index + x.shape[axis], index).reshape(-1).long())
    return found.reshape(shape)


def shape_of(node: OnnxNode, given: Given) -> Any:
    """The shape, or a part of it."""
    return torch.tensor(list(given[0].shape)[node.get("start", 0) : node.get("end")], dtype=torch.int64)


def dropout(node: OnnxNode, given: Given) -> Any:
    """Nothing is dropped, and none is masked."""
    if len(given) > 2 and given[2] is not None and bool(given[2]):
        raise Unsupported("drops values (training_mode): export the model in inference mode")
    return (given[0], torch.ones(given[0].shape, dtype=torch.bool))


def _reduction(function: Callable[..., Any]) -> Operator:
    def operator(node: OnnxNode, given: Given) -> Any:
        x, axes = given[0], told(node, given, 1, "axes")
        if not axes:
            if node.get("noop_with_empty_axes"):
                return x
            axes = range(x.ndim)
        return function(x, tuple(axes), keepdim=bool(node.get("keepdims", 1)))
    return operator


def layer_norm(node: OnnxNode, given: Given) -> Any:
    """Over the axes from one on (Ba et al. 2016)."""
    x, scale, bias = (*given, None, None)[:3]
    shape = tuple(x.shape[node.get("axis", -1) % x.ndim :])
    parts = [None if part is None else part.expand(shape) for part in (scale, bias)]
    return functional.layer_norm(x, shape, *parts, node.get("epsilon", 1e-5))


def rms_norm(node: OnnxNode, given: Given) -> Any:
    """RMSNormalization."""
    shape = tuple(given[0].shape[node.get("axis", -1) % given[0].ndim :])
    scale = given[1].expand(shape) if len(given) > 1 else None
    return functional.rms_norm(given[0], shape, scale, node.get("epsilon", 1e-5))


def group_norm(node: OnnxNode, given: Given) -> Any:
    """Scales per group before version 21, per channel from there on."""
    x, scale, bias = given
    groups = node.get("num_groups")
    each = x.shape[1] // len(scale)
    scale, bias = (part.repeat_interleave(each) for part in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


def batch_norm(node: OnnxNode, given: Given) -> Any:
    """With the statistics of training."""
    if node.get("training_mode"):
        raise Unsupported("normalizes by the batch at hand; export the model in inference mode")
    x, scale, bias, mean, variance = given
    return functional.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


def einsum(node: OnnxNode, given: Given) -> Any:
    """Sums of products."""
    return torch.einsum(node.get("equation"), *given)


def where(node: OnnxNode, given: Given) -> Any:
    """A fixed choice."""
    require_size(np.broadcast_shapes(*(tuple(x.shape) for x in given)))
    return torch.where(*given)


ONE = {
    "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Tanh": torch.tanh, "Neg": torch.neg, "Abs": torch.abs,
    "Exp": torch.exp, "Log": torch.log, "Sqrt": torch.sqrt, "Reciprocal": torch.reciprocal, "Floor": torch.floor,
    "Ceil": torch.ceil, "Round": torch.round, "Sin": torch.sin, "Cos": torch.cos, "Tan": torch.tan, "Atan": torch.atan,
    "Erf": torch.erf, "Sign": torch.sign, "Not": torch.logical_not, "Softplus": functional.softplus,
    "HardSwish": functional.hardswish, "Mish": functional.mish, "Softsign": functional.softsign,
    "IsNaN": torch.isnan, "Swish": functional.silu,
}
TWO = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Greater": torch.gt, "Less": torch.lt, "Equal": torch.eq,
    "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le, "And": torch.logical_and, "Or": torch.logical_or,
    "Mod": torch.remainder,
}
OPERATORS: Mapping[str, Operator] = {
    **{name: _elementwise(function) for name, function in (*ONE.items(), *TWO.items())},
    "Div": divide, "Pow": power, "MatMul": matmul, "Gemm": gemm, "Einsum": einsum, "Clip": clip, "Where": where,
    "Sum": _many(torch.add), "Mean": lambda node, given: _many(torch.add)(node, given) / len(given),
    "Min": _extreme(low=True), "Max": _extreme(low=False),
    "LeakyRelu": lambda node, given: functional.leaky_relu(given[0], node.get("alpha", 0.01)),
    "Elu": lambda node, given: functional.elu(given[0], node.get("alpha", 1.0)),
    "Celu": lambda node, given: functional.celu(given[0], node.get("alpha", 1.0)),
    "Gelu": gelu,
    "PRelu": lambda node, given: functional.prelu(given[0], given[1].reshape(-1)),
    "HardSigmoid": hard_sigmoid, "Selu": selu, "Softmax": softmax,
    "LogSoftmax": lambda node, given: torch.log_softmax(given[0], node.get("axis", -1)),
    "ArgMax": lambda node, given: torch.argmax(given[0], node.get("axis", 0), keepdim=bool(node.get("keepdims", 1))),
    "Cast": cast, "CastLike": cast, "Constant": constant, "ConstantOfShape": filled, "Range": span,
    "Identity": lambda node, given: given[0], "Dropout": dropout, "Shape": shape_of,
    "Size": lambda node, given: torch.tensor(given[0].numel()),
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Expand": expand, "Tile": tile,
    "Transpose": transpose, "Concat": concat, "Split": split, "Slice": cut, "Gather": gather,
    "ReduceMean": _reduction(torch.mean), "ReduceSum": _reduction(torch.sum), "ReduceMax": _reduction(torch.amax),
    "ReduceMin": _reduction(torch.amin),
    "LayerNormalization": layer_norm, "RMSNormalization": rms_norm, "GroupNormalization": group_norm,
    "BatchNormalization": batch_norm, **FRAMES,
}
