"""Frames in the order that TFLite's windows want: row, column, channel.

A frame in torch's order (channel, row, column) is transposed once, where it enters; convolutions and pooling then pass
it on in the new order, elementwise ops do not mind, and a matrix that reads it takes its columns in that order. Only
what reads single elements, leaves the step or is kept as a state is transposed back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.check import check
from ncpc.ir.ops import OPS
from ncpc.ir.program import Array, Op, Origin, Program, Value, statements, values
from ncpc.ir.types import Index
from ncpc.ir.windows import Windows, windows_of

Order = tuple[int, int]
"""(channels, places): the value stands as (places, channels) where the program has it as (channels, places)."""
WINDOWED = ("conv2d", "pool")


@dataclass(frozen=True, eq=False)
class Frames:
    """``transposes``: for each ``gather`` that transposes, the shape it does so from."""

    program: Program
    transposes: dict[str, Order]


def channels_last(program: Program) -> Frames:
    """The same program, every window in the layout ``hwc``; itself where they all are. Takes a flat program."""
    ops = list(statements(program.body))
    if all(op.attrs.get("layout") != "chw" for op in ops):
        return Frames(program, {})
    walk = _Walk(program)
    for op in ops:
        RULES.get(op.kind, _each if OPS[op.kind].shape == "each" else _plain)(walk, op)
    states = tuple(replace(state, out=walk.plain(state.out)) for state in program.states)
    y = replace(program.y, value=walk.table[walk.plain(program.y.value.name)])
    made = replace(program, body=tuple(walk.body), constants=walk.constants, states=states, y=y)
    check(made)
    return Frames(made, walk.transposes)


def transposition(order: Order) -> NDArray[np.int64]:
    """Where each element of the transposed value stands in the value."""
    return np.arange(order[0] * order[1]).reshape(order).T.reshape(-1)


class _Walk:
    """The new program while it grows. ``orders`` holds what stands in another order than its name says."""

    def __init__(self, program: Program) -> None:
        self.table = values(program)
        self.constants: dict[str, tuple[Value, Array]] = dict(program.constants)
        self.body: list[Op] = []
        self.orders: dict[str, Order] = {}
        self.transposes: dict[str, Order] = {}
        self._turned: dict[tuple[str, Order], str] = {}

    def put(self, op: Op, args: tuple[str, ...], order: Order | None = None, layout: str | None = None) -> None:
        """Append the op with these arguments."""
        attrs = op.attrs if layout is None else {**op.attrs, "layout": layout}
        self.body.append(replace(op, args=args, attrs=attrs))
        if order is not None:
            self.orders[op.out.name] = order

    def constant(self, name: str, data: Array) -> str:
        """A constant in another order, beside the one it comes from."""
        value = replace(self.constants[name][0], name=f"{name}/channels_last")
        self.constants[value.name], self.table[value.name] = (value, data), value
        return value.name

    def plain(self, name: str) -> str:
        """The value in its own order."""
        if name not in self.orders:
            return name
        channels, places = self.orders[name]
        return self._turn(name, (places, channels), "channels_first")

    def ordered(self, name: str, order: Order | None) -> str:
        """The value in ``order``; None is its own."""
        if self.orders.get(name) == order:
            return name
        return self.plain(name) if order is None else self._turn(self.plain(name), order, "channels_last")

    def _turn(self, name: str, order: Order, suffix: str) -> str:
        if (name, order) not in self._turned:
            source = self.table[name]
            out = replace(source, name=f"{name}/{suffix}")
            index = Value(f"{out.name}/index", source.axes, Index(source.axes[0].name))
            self.constants[index.name] = (index, transposition(order))
            self.table.update({out.name: out, index.name: index})
            origin = Origin("frame", "row, column, channel", source.axes[0].name)
            self.body.append(Op("gather", out, (name, index.name), {}, origin))
            self._turned[name, order], self.transposes[out.name] = out.name, order
        return self._turned[name, order]


def _order(channels: int, places: int) -> Order | None:
    """None where both orders are the same."""
    return None if channels == 1 or places == 1 else (channels, places)


def _conv2d(walk: _Walk, op: Op) -> None:
    w, weight = windows_of(op.attrs), walk.constants[op.args[0]]
    if w.layout == "chw":
        source = walk.ordered(op.args[1], _order(w.channels, w.height * w.width))
        taps = walk.constant(op.args[0], _taps_last(weight[1], w))
        walk.put(op, (taps, source, *op.args[2:]), _order(weight[0].shape[0], w.places), "hwc")
    elif weight[0].shape[1] == w.inputs and op.args[1] in walk.orders:  # one window over the whole: a dense layer
        columns = weight[1][:, transposition(walk.orders[op.args[1]])]
        walk.put(op, (walk.constant(op.args[0], columns), *op.args[1:]))
    else:
        _plain(walk, op)


def _taps_last(weight: Array, w: Windows) -> Array:
    frames = np.asarray(weight, np.float64).reshape(len(weight), -1, w.kernel_h, w.kernel_w)
    return np.ascontiguousarray(frames.transpose(0, 2, 3, 1)).reshape(len(weight), -1)


def _pool(walk: _Walk, op: Op) -> None:
    w = windows_of(op.attrs)
    if w.layout != "chw":
        return _plain(walk, op)
    source = walk.ordered(op.args[0], _order(w.channels, w.height * w.width))
    return walk.put(op, (source,), _order(w.channels, w.places), "hwc")


def _matmul(walk: _Walk, op: Op) -> None:
    order = walk.orders.get(op.args[1])
    if order is None or op.args[0] not in walk.constants:
        return _plain(walk, op)
    columns = walk.constants[op.args[0]][1][:, transposition(order)]
    rest = tuple(walk.plain(name) for name in op.args[2:])
    return walk.put(op, (walk.constant(op.args[0], columns), op.args[1], *rest))


def _each(walk: _Walk, op: Op) -> None:
    """In the order of the arguments, where they have one in common; constants follow."""
    wide = [name for name in op.args if name not in walk.constants and walk.table[name].shape == op.out.shape]
    orders = {walk.orders.get(name) for name in wide}
    order = orders.pop() if len(orders) == 1 else None
    if order is None or any(value in walk.constants for value in op.attrs.values()):
        return _plain(walk, op)
    args = tuple(_turned_constant(walk, name, order) if name in walk.constants else name for name in op.args)
    return walk.put(op, args, order)


def _turned_constant(walk: _Walk, name: str, order: Order) -> str:
    data = walk.constants[name][1]
    return walk.constant(name, data[transposition(order)]) if data.size == order[0] * order[1] else name


def _plain(walk: _Walk, op: Op) -> None:
    walk.put(op, tuple(walk.plain(name) for name in op.args))


RULES = {"conv2d": _conv2d, "pool": _pool, "matmul": _matmul}
