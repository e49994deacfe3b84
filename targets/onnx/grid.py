"""Synapse axes as grids (neuron, slot): the dense and the gather form, and which axes can take one.

A synapse axis is one that a segment_sum reduces. Laid out as a grid, its sum is a ReduceSum over slots; empty slots
hold zeros, so they add nothing. In the dense form slot j of every neuron is source j, and reading the source is a
broadcast; in the gather form a neuron's slots are its own synapses only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Array, Op, Program, Value, statements, values
from ncpc.ir.rewrite import carries, with_trips
from ncpc.ir.types import Index

I64 = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SynapseAxis:
    """A reduced axis: which source each element reads, which neuron it adds to, and what is computed along it."""

    name: str
    size: int
    sources: int
    neurons: int
    post: I64
    pre: I64 | None
    """None where elements do not read one source through one index map."""
    trips: int
    """How often a step goes over the axis."""
    elementwise: int
    constants: int
    sums: int

    @property
    def fan_in(self) -> int:
        return int(np.bincount(self.post, minlength=1).max())

    @property
    def gridded(self) -> bool:
        """Whether a grid can hold it: something to hold, read through one map, each pair of neurons at most once."""
        if self.pre is None or not self.size:
            return False
        pairs = self.post * self.sources + self.pre
        return bool(np.unique(pairs).shape[0] == self.size)


@dataclass(frozen=True, eq=False)
class Grid:
    """Element ids by (neuron, slot), shape (neurons, slots); -1 is an empty slot."""

    slots: I64

    def lay(self, data: Array) -> Array:
        """A constant over the axis, on the grid; empty slots are 0."""
        return np.where(self.slots >= 0, data[np.maximum(self.slots, 0)], np.zeros((), data.dtype))


def dense(axis: SynapseAxis) -> Grid:
    """Slot j of every neuron is the synapse from source j."""
    assert axis.pre is not None
    slots = np.full((axis.neurons, axis.sources), -1, np.int64)
    slots[axis.post, axis.pre] = np.arange(axis.size)
    return Grid(slots)


def compact(axis: SynapseAxis) -> Grid:
    """A neuron's slots are its synapses in order."""
    slots = np.full((axis.neurons, axis.fan_in), -1, np.int64)
    first = np.searchsorted(axis.post, np.arange(axis.neurons))
    slots[axis.post, np.arange(axis.size) - first[axis.post]] = np.arange(axis.size)
    return Grid(slots)


def synapse_axes(program: Program) -> dict[str, SynapseAxis]:
    """The axes that segment_sums reduce."""
    found = {}
    for op, trips in with_trips(program.body):
        if op.kind == "segment_sum":
            name = program.constants[op.args[1]][0].axes[0].name
            if name not in found:
                found[name] = _describe(program, name, op, trips)
    return found


def _describe(program: Program, name: str, reduce: Op, trips: int) -> SynapseAxis:
    along = [op for op in statements(program.body) if op.out.axes and op.out.axes[-1].name == name]
    sums = [op for op in statements(program.body)
            if op.kind == "segment_sum" and program.constants[op.args[1]][0].axes[0].name == name]
    post = program.constants[reduce.args[1]][1].astype(np.int64)
    reads = {op.args[1] for op in along if op.kind == "gather"}
    own = len(reads) == 1 and all(s.args[1] == reduce.args[1] for s in sums) and _closed(program, name, along)
    pre = next(iter(reads)) if own else None
    return SynapseAxis(
        name, post.shape[0], _sources(program, pre), reduce.out.axes[-1].size, post,
        program.constants[pre][1].astype(np.int64) if pre else None, trips,
        sum(op.kind != "gather" for op in along), len(_constants(program.constants, name)), len(sums),
    )


def _closed(program: Program, axis: str, along: list[Op]) -> bool:
    """Whether what is computed along an axis begins with gathers and ends in sums: no value comes from elsewhere or
    goes elsewhere.
    """
    made, table = {op.out.name for op in along}, values(program)
    arguments = {a for op in along if op.kind != "gather" for a in op.args}
    read = {a for a in arguments if table[a].axes and table[a].axes[-1].name == axis}
    others = (op for op in statements(program.body) if op.kind != "segment_sum" and op.out.name not in made)
    used = {a for op in others for a in op.args}
    carried = (name for c in carries(program.body) for name in (c.init, c.result, c.inner.name))
    kept = {program.y.value.name, *(s.out for s in program.states), *carried}
    return read <= made | set(program.constants) and not made & (used | kept)


def _sources(program: Program, pre: str | None) -> int:
    """How many elements the axis that ``pre`` points at has."""
    gathers = (op for op in statements(program.body) if op.kind == "gather" and op.args[1] == pre)
    first = next(gathers, None)
    return 0 if first is None else _width(program, first.args[0])


def _width(program: Program, name: str) -> int:
    return values(program)[name].axes[-1].size


def _constants(constants: Mapping[str, tuple[Value, Array]], axis: str) -> list[str]:
    return [n for n, (value, _) in constants.items()
            if value.axes and value.axes[-1].name == axis and not isinstance(value.type, Index)]
