"""Weighted sums of vectors, in the form that costs least: dense rows, or synapse by synapse."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.build import Builder
from ncpc.ir.policy import F64, I64
from ncpc.ir.program import Value
from ncpc.ir.types import Axis, Index

SPARSE_BELOW = 0.5
"""Share of weights that are not 0 below which synapses are listed: each costs an index besides its weight."""


def weighted(b: Builder, name: str, weight: F64, x: Value, start: Value | F64, axis: Axis) -> Value:
    """``weight @ x + start`` over ``axis``; ``weight`` (axis, x)."""
    begin = start if isinstance(start, Value) else b.const(f"{name}_b", start, [axis])
    if not np.any(weight):
        return begin
    if is_sparse(weight != 0):
        return summed(b, name, wires(b, name, weight != 0, x, axis), weight, begin)
    return b.op("matmul", name, b.const(f"{name}_w", weight, [axis, *x.axes]), x, begin)


def is_sparse(mask: NDArray[np.bool_]) -> bool:
    """Whether there are synapses, and few enough to be listed."""
    return bool(0 < np.count_nonzero(mask) < SPARSE_BELOW * mask.size)


@dataclass(frozen=True, eq=False)
class Wires:
    """Synapses of one mask, read once (``source``, over ``synapses``) and weighted any number of times."""

    axis: Axis
    synapses: Axis
    pre: I64
    post: I64
    post_map: Value
    source: Value


def wires(b: Builder, name: str, mask: NDArray[np.bool_], x: Value, axis: Axis) -> Wires:
    """The synapses of ``mask`` (axis, x), sorted by their postsynaptic end."""
    post, pre = np.nonzero(mask)
    synapses = Axis(b.unique(f"{name}_synapses"), len(pre))
    post_map = b.const(f"{name}_post", post, [synapses], Index(axis.name))
    pre_map = b.const(f"{name}_pre", pre, [synapses], Index(x.axes[0].name))
    return Wires(axis, synapses, pre, post, post_map, b.op("gather", f"{name}_source", x, pre_map))


def summed(b: Builder, name: str, via: Wires, weight: F64, start: Value) -> Value:
    """``weight @ x + start``, synapse by synapse."""
    w = b.const(f"{name}_w", weight[via.post, via.pre], [via.synapses])
    terms = b.op("mul", f"{name}_terms", w, via.source)
    return b.op("segment_sum", name, terms, via.post_map, start, axes=[via.axis])
