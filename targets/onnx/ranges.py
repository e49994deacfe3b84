"""Interval arithmetic over a graph: what every tensor can hold, given what its inputs can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.onnx.evaluate import KERNELS
from ncpc.targets.onnx.graph import Graph, Node

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interval:
    """Lower and upper bounds, element by element, with a leading axis of size 1 for the batch."""

    lo: F64
    hi: F64

    def meet(self, other: Interval) -> Interval:
        """What both allow."""
        return Interval(np.maximum(self.lo, other.lo), np.minimum(self.hi, other.hi))

    @property
    def told(self) -> Interval:
        """The same, without an end where that is no number: a sum of both infinities, 0 times one of them."""
        return Interval(np.where(np.isnan(self.lo), -np.inf, self.lo), np.where(np.isnan(self.hi), np.inf, self.hi))

    @property
    def bounds(self) -> tuple[float, float]:
        return float(self.lo.min()), float(self.hi.max())


Rule = Callable[[Sequence[Interval], Node], Sequence[Interval]]


def intervals(graph: Graph, known: Mapping[str, Interval]) -> dict[str, Interval]:
    """The interval of every numeric tensor. ``known`` holds the inputs', and of any tensor about which more is known
    (a proved box): its interval is the meet of both.
    """
    found = {name: Interval(data.astype(np.float64), data.astype(np.float64))
             for name, data in graph.constants.items()}
    found.update({name: known[name] for name in graph.inputs})
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            results = RULES[node.kind]([found[i] for i in node.inputs], node)
            for name, interval in zip(node.outputs, results, strict=True):
                told = interval.told
                found[name] = told.meet(known[name]) if name in known else told
    return found


def _kernel(arguments: Sequence[F64], node: Node) -> Sequence[F64]:
    return KERNELS[node.kind](arguments, node.attrs)


def _rising(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    """Ops that grow with each argument: ends map to ends."""
    los, his = (_kernel(ends, node) for ends in ([i.lo for i in a], [i.hi for i in a]))
    return [Interval(lo, hi) for lo, hi in zip(los, his, strict=True)]


def _shaping(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    """Ops that only move the first argument's elements; the others are positions and sizes."""
    rest: Any = [i.lo.astype(np.int64) for i in a[1:]]
    los, his = _kernel([a[0].lo, *rest], node), _kernel([a[0].hi, *rest], node)
    return [Interval(lo, hi) for lo, hi in zip(los, his, strict=True)]


def _corners(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    """Products and quotients: the extremes lie at ends; a divisor that may be 0 gives everything."""
    if node.kind == "Div" and bool(((a[1].lo <= 0) & (a[1].hi >= 0)).any()):
        return [_anything(np.broadcast(a[0].lo, a[1].lo).shape)]
    ends: Any = [_kernel([p, q], node)[0] for p in (a[0].lo, a[0].hi) for q in (a[1].lo, a[1].hi)]
    ends = [np.where(np.isnan(end), 0.0, end) for end in ends]  # 0 times an end without limit: every such product is 0
    return [Interval(np.minimum.reduce(ends), np.maximum.reduce(ends))]


def _falling(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    if node.kind == "Reciprocal" and bool(((a[0].lo <= 0) & (a[0].hi >= 0)).any()):
        return [_anything(a[0].lo.shape)]
    return [Interval(_kernel([a[0].hi], node)[0], _kernel([a[0].lo], node)[0])]


def _sub(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    return [Interval(a[0].lo - a[1].hi, a[0].hi - a[1].lo)]


def _abs(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    hi = np.maximum(np.abs(a[0].lo), np.abs(a[0].hi))
    return [Interval(np.where((a[0].lo <= 0) & (a[0].hi >= 0), 0.0, np.minimum(abs(a[0].lo), abs(a[0].hi))), hi)]


def _where(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    """Either of the two values."""
    lo, hi = np.minimum(a[1].lo, a[2].lo), np.maximum(a[1].hi, a[2].hi)
    shape = np.broadcast_shapes(lo.shape, a[0].lo.shape)
    return [Interval(np.broadcast_to(lo, shape), np.broadcast_to(hi, shape))]


def _less(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    shape = np.broadcast_shapes(a[0].lo.shape, a[1].lo.shape)
    return [Interval(np.zeros(shape), np.ones(shape))]


def _gemm(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    """Weights are constants: positive ones take the same end, negative ones the other."""
    up, down = np.maximum(a[1].lo, 0.0), np.minimum(a[1].lo, 0.0)
    base = a[2] if len(a) > 2 else Interval(np.zeros(1), np.zeros(1))
    return [Interval(a[0].lo @ up + a[0].hi @ down + base.lo, a[0].hi @ up + a[0].lo @ down + base.hi)]


def _conv(a: Sequence[Interval], node: Node) -> Sequence[Interval]:
    """As a Gemm over each window; the bias is added once."""
    up, down, none = np.maximum(a[1].lo, 0.0), np.minimum(a[1].lo, 0.0), np.zeros_like(a[2].lo)
    lo = _kernel([a[0].lo, up, a[2].lo], node)[0] + _kernel([a[0].hi, down, none], node)[0]
    return [Interval(lo, _kernel([a[0].hi, up, a[2].hi], node)[0] + _kernel([a[0].lo, down, none], node)[0])]


def _anything(shape: tuple[int, ...]) -> Interval:
    return Interval(np.full(shape, -np.inf), np.full(shape, np.inf))


RULES: dict[str, Rule] = {
    **dict.fromkeys(("Add", "AveragePool", "Clip", "Concat", "Exp", "Identity", "Max", "MaxPool", "Min", "Relu",
                     "Sigmoid", "Tanh"), _rising),
    **dict.fromkeys(("Gather", "ReduceSum", "Reshape", "Split", "Transpose", "Unsqueeze"), _shaping),
    **dict.fromkeys(("Div", "Mul"), _corners),
    **dict.fromkeys(("Neg", "Reciprocal"), _falling),
    "Abs": _abs, "Conv": _conv, "Gemm": _gemm, "Less": _less, "Sub": _sub, "Where": _where,
}
