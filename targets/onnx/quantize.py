"""Float graph -> QDQ graph: what meets a weight is quantized, and nothing else.

The operands of every product with trained weights pass through QuantizeLinear and DequantizeLinear, so a runtime can
take the product in integers. Sums, quotients, nonlinearities and the carried state stay in float: an 8-bit state
would dominate the error, and denominators span the whole range of dt.

Activations have one scale and zero point per tensor, from the range it can have, and 8-bit ones that are read one by
one are brought to even units first; weights have one scale per column, symmetric. Biases are int32 with scale
``s_x * s_w``, as integer kernels add them. Where a column's weights are so small beside its bias that the bias would
overflow, the column's scale is raised to ``|b| / (s_x * 2**30)``: ONNX Runtime makes that int32 itself when it is not
given, without looking.

Three details are for ONNX Runtime, whose optimized model is to compute what the file says:
- Zero points are written out: integer products are fused only then.
- 8-bit numbers are unsigned: on processors without VNNI, sums of two products with signed weights saturate at 16 bits.
- Weights stand as (outputs, inputs) with transB: otherwise products of int16 activations with int8 weights are taken as
  weight-only products, which round the activations to 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.semantics.bounds import Range
from ncpc.targets.graph.nodes import Node
from ncpc.targets.onnx.graph import Array, OnnxGraph

BIAS_LIMIT = float(1 << 30)
UNEVEN = 1.5
"""How many times wider than another an element may be before 8-bit activations are brought to even units."""
FEW = 7
"""Steps from the zero point that are so few that it pays to choose how many of them a column uses."""
FLOAT_MADE = ("Add", "Div", "Mul", "Sub")
"""Operators on grids whose results go on in float."""


@dataclass(frozen=True)
class Widths:
    """NumPy types of the integers: of activations and of weights. Those of a matrix or a filter are at most ``top``
    from their zero point; 0: what the type holds.
    """

    activations: type[np.integer[Any]]
    weights: type[np.integer[Any]]
    top: int = 0


@dataclass
class Quantization:
    """A graph on its way: new nodes and constants, and which tensors have a dequantized copy already."""

    source: OnnxGraph
    ranges: dict[str, Range]
    widths: Widths
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    copies: dict[tuple[str, ...], str] = field(default_factory=dict)

    def node(self, kind: str, inputs: tuple[str, ...], output: str, like: str, **attrs: int) -> str:
        """A node whose output has the shape of tensor ``like``."""
        self.nodes.append(Node(kind, inputs, (output,), attrs))
        self.shapes[output] = self.source.shapes.get(like, ())
        return output


def quantize(graph: OnnxGraph, ranges: Mapping[str, Range], widths: Widths) -> OnnxGraph:
    """``ranges`` bounds every tensor; raises Unsupported for one that needs a scale and has no bound."""
    q = Quantization(graph, dict(ranges), widths, constants=dict(graph.constants), shapes=dict(graph.shapes))
    made_by = {output: node.kind for node in graph.nodes for output in node.outputs}
    timing = _from_dt_alone(graph)
    for node in graph.nodes:
        if node.kind == "Gemm" and node.inputs[0] not in timing and _weighs(q, node.inputs[1]):
            _gemm(q, node)
        elif node.kind == "Conv":
            _conv(q, node)
        elif node.kind in FLOAT_MADE and any(_on_grid(q, i) for i in node.inputs):
            inputs = tuple(_grid_operand(q, i, made_by) for i in node.inputs)
            q.nodes.append(Node(node.kind, inputs, node.outputs, node.attrs))
        else:
            q.nodes.append(node)
    used = {i for node in q.nodes for i in node.inputs}
    return OnnxGraph(tuple(q.nodes), {n: c for n, c in q.constants.items() if n in used}, graph.inputs, graph.outputs,
                     q.shapes)


def _gemm(q: Quantization, node: Node) -> None:
    """Integer product; a bias that is computed is added in float, as no integer kernel takes it."""
    (x, weight, *bias), (out,) = node.inputs, node.outputs
    fixed = bias[0] if bias and bias[0] in q.source.constants else None
    # Units are free where a column has one weight; a column that sums would lose resolution on its narrow elements.
    reading = int(np.count_nonzero(q.source.constants[weight], axis=0).max(initial=0)) <= 1
    even, units = _even(q, x) if reading else (x, np.ones(1))
    inputs = (_activation(q, even), *_weights(q, weight, fixed, _scale_of(q, even)[0], units))
    if not bias or fixed:
        q.nodes.append(Node("Gemm", inputs, (out,), {"transB": 1}))
    else:
        product = q.node("Gemm", inputs, f"{out}_product", out, transB=1)
        q.nodes.append(Node("Add", (product, bias[0]), (out,)))


def _weighs(q: Quantization, matrix: str) -> bool:
    """Whether a matrix holds anything trained; one of 0, 1 and -1 only moves and adds numbers, in float."""
    return not bool(np.isin(q.source.constants[matrix], (-1.0, 0.0, 1.0)).all())


def _conv(q: Quantization, node: Node) -> None:
    """As a product with one column per filter."""
    x, weight, bias = node.inputs
    weights = _weights(q, weight, bias, _scale_of(q, x)[0], np.ones(1))
    q.nodes.append(Node("Conv", (_activation(q, x), *weights), node.outputs, node.attrs))


def _even(q: Quantization, name: str) -> tuple[str, NDArray[np.float64]]:
    """The tensor in units in which every element spans about as much, and those units, which go into the weights.

    Else eight bits that span the widest element would leave few to the narrow ones: an angle beside a velocity.
    """
    found = q.ranges[name]
    reach = np.maximum(np.abs(found.lo), np.abs(found.hi))[0]
    if q.widths.activations is not np.uint8 or reach.max() <= UNEVEN * reach.min() or not np.isfinite(reach).all():
        return name, np.ones(1)
    units = np.maximum(reach, 1e-6 * reach.max())
    even = f"{name}_even"
    if even not in q.shapes:
        q.node("Mul", (name, _constant(q, f"{name}_unit", (1.0 / units).astype(np.float32))), even, name)
        q.ranges[even] = Range(found.lo / units, found.hi / units)
    return even, units


def _activation(q: Quantization, name: str) -> str:
    """The tensor as integers show it."""
    if (name,) not in q.copies:
        step, zero = _scale_of(q, name)
        width = q.widths.activations
        grid = (_constant(q, f"{name}_scale", np.float32(step)), _constant(q, f"{name}_zero", width(zero)))
        raw = q.node("QuantizeLinear", (name, *grid), f"{name}_q", name)
        q.copies[(name,)] = q.node("DequantizeLinear", (raw, *grid), f"{name}_dq", name)
    return q.copies[(name,)]


def _scale_of(q: Quantization, name: str) -> tuple[np.float32, int]:
    """Scale and zero point that cover the tensor's range and hold 0 exactly."""
    lo, hi = q.ranges[name].ends
    if not np.isfinite([lo, hi]).all():
        raise Unsupported(f"onnx: '{name}' has no known range to take a scale from; use --quant float32")
    info = np.iinfo(q.widths.activations)
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    step = np.float32(max(hi - lo, 1e-6) / (info.max - info.min))
    return step, int(np.clip(np.rint(info.min - lo / float(step)), info.min, info.max))


def _weights(q: Quantization, weight: str, bias: str | None, step: np.float32,
             units: NDArray[np.float64]) -> tuple[str, ...]:
    """Weight and bias, dequantized; shared by all products that have the same ones. ``units`` are the activation's."""
    key = (weight, bias or "", str(step), units.tobytes().hex())
    if key not in q.copies:
        source = q.source.constants[weight].astype(np.float64)
        data = source * units[:, None] if source.ndim == 2 else source.reshape(len(source), -1).T
        offset = np.zeros(data.shape[1]) if bias is None else q.source.constants[bias].astype(np.float64)
        scale = np.maximum(_column_scales(data, q.widths), np.abs(offset) / (float(step) * BIAS_LIMIT))
        scale = np.maximum(scale, np.finfo(np.float32).tiny * 2.0**24).astype(np.float32)
        steps = np.rint(data / scale).T
        name = _dequantized(q, weight, steps if source.ndim == 2 else steps.reshape(source.shape), q.widths.weights,
                            scale)
        q.copies[key] = name if bias is None else f"{name} {_bias(q, bias, offset, scale, step)}"
    return tuple(q.copies[key].split())


def _column_scales(data: NDArray[np.float64], widths: Widths) -> NDArray[np.float64]:
    """Per column, the scale at which its largest weight is as many steps as there are; of few steps, as many as make
    the column's roundings least: weights that lie on a grid of so few steps already stay there.
    """
    largest, top = np.abs(data).max(axis=0, initial=0.0), widths.top or _top(widths.weights)
    if top > FEW:
        return np.asarray(largest / top)
    tried = np.maximum(largest, 1e-30) / np.arange(top, 0, -1)[:, None]
    lost = [np.square(np.rint(data / scale) * scale - data).sum(axis=0) for scale in tried]
    best: NDArray[np.float64] = np.take_along_axis(tried, np.argmin(np.round(lost, 12), axis=0)[None], axis=0)[0]
    return best


def _bias(q: Quantization, name: str, data: NDArray[np.float64], scale: NDArray[np.float32], step: np.float32) -> str:
    product = (scale * step).astype(np.float32)
    return _dequantized(q, name, np.rint(data / product), np.int32, product)


def _dequantized(q: Quantization, name: str, steps: Array, kind: type[np.integer[Any]], scale: Array) -> str:
    """A constant, ``steps`` from the zero point, with one scale or one for each index of its first axis."""
    zero = np.full(scale.shape, _middle(kind))
    inputs = (_constant(q, f"{name}_q", np.ascontiguousarray(steps + _middle(kind)).astype(kind)),
              _constant(q, f"{name}_scale", scale), _constant(q, f"{name}_zero", zero.astype(kind)))
    output = _free(q, f"{name}_dq")
    q.nodes.append(Node("DequantizeLinear", inputs, (output,), {"axis": 0} if scale.ndim else {}))
    return output


def _middle(kind: type[np.integer[Any]]) -> int:
    """The zero point of symmetric numbers."""
    return 0 if np.iinfo(kind).min < 0 else (np.iinfo(kind).max + 1) // 2


def _top(kind: type[np.integer[Any]]) -> int:
    """How many steps from the zero point symmetric numbers reach."""
    return int(np.iinfo(kind).max) - _middle(kind)


def _constant(q: Quantization, name: str, data: Array | np.generic) -> str:
    name = _free(q, name)
    q.constants[name] = np.asarray(data)
    return name


def _free(q: Quantization, name: str) -> str:
    taken = {*q.constants, *q.shapes, *(o for node in q.nodes for o in node.outputs)}
    candidate, n = name, 1
    while candidate in taken:
        n += 1
        candidate = f"{name}_{n}"
    return candidate


def _on_grid(q: Quantization, name: str) -> bool:
    return name in q.source.constants and q.source.constants[name].ndim == 2


def _grid_operand(q: Quantization, name: str, made_by: Mapping[str, str]) -> str:
    """On a grid: weights with one scale, and what comes from a source or a nonlinearity."""
    if not _on_grid(q, name):
        return name if made_by.get(name) in FLOAT_MADE else _activation(q, name)
    if (name,) not in q.copies:
        data = q.source.constants[name].astype(np.float64)
        scale = np.float32(max(float(np.abs(data).max()), 1e-30) / _top(q.widths.weights))
        q.copies[(name,)] = _dequantized(q, name, np.rint(data / scale), q.widths.weights, np.asarray(scale))
    return q.copies[(name,)]


def _from_dt_alone(graph: OnnxGraph) -> set[str]:
    """Tensors that only dt decides: they stay in float, for dt may span decades."""
    alone = {"dt"} & set(graph.inputs)
    for node in graph.nodes:
        reads = [i for i in node.inputs if i not in graph.constants]
        if reads and all(i in alone for i in reads):
            alone.update(node.outputs)
    return alone
