"""Interval arithmetic over a graph: what every tensor can hold, given what its inputs can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ncpc.semantics import bounds
from ncpc.semantics.bounds import F64, Range, exactly, over
from ncpc.targets.graph.nodes import Node
from ncpc.targets.onnx.evaluate import KERNELS
from ncpc.targets.onnx.graph import OnnxGraph


def intervals(graph: OnnxGraph, known: Mapping[str, Range]) -> dict[str, Range]:
    """The range of every tensor, element by element, with a leading axis of size 1 for the batch.

    ``known`` holds the inputs', and of any tensor about which more is known (a proved box): its range is the meet of
    both.
    """
    found = {name: exactly(data.astype(np.float64) if data.dtype.kind == "f" else data)
             for name, data in graph.constants.items()}
    found.update({name: known[name] for name in graph.inputs})
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            results = RULES.get(node.kind, _monotone)(node, [found[i] for i in node.inputs])
            for name, result in zip(node.outputs, results, strict=True):
                whole = over(result, (1, *graph.shapes[name]))
                found[name] = bounds.meet(known[name], whole) if name in known else whole
    return found


def _kernel(node: Node, arguments: Sequence[F64]) -> Sequence[F64]:
    return KERNELS[node.kind](arguments, node.attrs)


def _monotone(node: Node, a: Sequence[Range]) -> Sequence[Range]:
    """Ops that fall with the arguments at ``FALLS`` and rise with all others; positions and sizes have equal ends."""
    los, his = (_kernel(node, ends) for ends in bounds.corners(a, FALLS[node.kind]))
    return [Range(lo, hi) for lo, hi in zip(los, his, strict=True)]


def _mul(node: Node, a: Sequence[Range]) -> Sequence[Range]:
    return [bounds.square(a[0]) if node.inputs[0] == node.inputs[1] else bounds.product(a[0], a[1])]


def _gemm(node: Node, a: Sequence[Range]) -> Sequence[Range]:
    """Weights are constants."""
    total = bounds.weighted(lambda weight, x: x @ weight, a[1].lo, a[0])
    return [Range(total.lo + a[2].lo, total.hi + a[2].hi) if len(a) > 2 else total]


def _conv(node: Node, a: Sequence[Range]) -> Sequence[Range]:
    """As a Gemm over each window."""
    bias = a[2].lo
    total = bounds.weighted(lambda weight, x: _kernel(node, [x, weight, 0 * bias])[0], a[1].lo, a[0])
    return [Range(*(end + bias[:, None, None] for end in total))]


FALLS: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Add", "AveragePool", "Clip", "Concat", "Exp", "Gather", "Identity", "Max", "MaxPool", "Min",
                     "ReduceSum", "Relu", "Reshape", "Sigmoid", "Split", "Sqrt", "Tanh", "Transpose", "Unsqueeze"), ()),
    "Less": (0,), "Neg": (0,), "Sub": (1,),
}
RULES: Mapping[str, Callable[[Node, Sequence[Range]], Sequence[Range]]] = {
    "Abs": lambda node, a: [bounds.size(a[0])],
    "Div": lambda node, a: [bounds.quotient(a[0], a[1])],
    "Reciprocal": lambda node, a: [bounds.quotient(exactly(np.ones(1)), a[0])],
    "Where": lambda node, a: [bounds.hull(a[1], a[2])],
    "Mul": _mul, "Gemm": _gemm, "Conv": _conv,
}
