"""A builder of programs: lowering code reads like the equations it lowers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from ncpc.ir.ops import OPS
from ncpc.ir.program import Array, Attr, Carry, Op, Origin, Repeat, Stmt, Value
from ncpc.ir.types import Axis, Fixed, Index, Type


class Builder:
    """Collects constants and statements; hands out unique names. ``origin`` marks the ops that follow, ``place`` (a
    layer's position) all origins.
    """

    def __init__(self, default: Type) -> None:
        self.default = default
        self.constants: dict[str, tuple[Value, Array]] = {}
        self.origin: Origin | None = None
        self.place: int | None = None
        self.shared: dict[str, Value] = {}
        """Constants that several lowerings use, by a key of theirs: tables."""
        self._bodies: list[list[Stmt]] = [[]]
        self._taken: set[str] = set()

    @property
    def body(self) -> tuple[Stmt, ...]:
        return tuple(self._bodies[0])

    def unique(self, name: str) -> str:
        """``name``, or ``name_2``, ``name_3``, ... if it is taken."""
        return free_name(name, self._taken)

    def value(self, name: str, axes: Sequence[Axis], type_: Type | None = None) -> Value:
        """A value that no op makes: an input, a state, the inner side of a carry."""
        return Value(self.unique(name), tuple(axes), type_ or self.default)

    def const(self, name: str, data: Array | float, axes: Sequence[Axis] = (), type_: Type | None = None) -> Value:
        """A constant; ``data`` in raw integers for fixed and index types."""
        kind = type_ or self.default
        value = self.value(name, axes, kind)
        self.constants[value.name] = (value, _array(data, kind, value.shape))
        return value

    def op(self, kind: str, name: str, *args: Value, axes: Sequence[Axis] | None = None, type_: Type | None = None,
           **attrs: Attr) -> Value:
        """Append ``name = kind(args)``; axes and type follow from the arguments unless given."""
        shape = tuple(axes) if axes is not None else _axes(kind, args)
        out = self.value(name, shape, type_)
        self._bodies[-1].append(Op(kind, out, tuple(a.name for a in args), attrs, self._placed()))
        return out

    @contextmanager
    def repeat(self, count: int, **carried: tuple[Value, Type | None]) -> Iterator[Loop]:
        """A repeat: ``with b.repeat(6, v=(v0, None)) as loop: loop.set("v", f(loop["v"]))``.

        Afterwards ``loop["v"]`` is the result.
        """
        loop = Loop({k: (init, self.value(f"{k}_now", init.axes, t or init.type)) for k, (init, t) in carried.items()})
        self._bodies.append([])
        yield loop
        body = tuple(self._bodies.pop())
        self._bodies[-1].append(Repeat(count, loop.close(self), body, self._placed()))

    def _placed(self) -> Origin | None:
        return self.origin and replace(self.origin, place=self.place)


def free_name(name: str, taken: set[str]) -> str:
    """``name``, or ``name_2``, ``name_3``, ... if it is ``taken``, to which it is added."""
    candidate, n = name, 1
    while candidate in taken:
        n += 1
        candidate = f"{name}_{n}"
    taken.add(candidate)
    return candidate


class Loop:
    """The carried values of an open repeat."""

    def __init__(self, carried: dict[str, tuple[Value, Value]]) -> None:
        self._carried = carried
        self._results: dict[str, Value] = {}
        self._outs: dict[str, Value] = {}

    def __getitem__(self, name: str) -> Value:
        return self._outs[name] if name in self._outs else self._carried[name][1]

    def set(self, name: str, value: Value) -> None:
        """The value ``name`` has at the end of one pass."""
        self._results[name] = value

    def close(self, builder: Builder) -> tuple[Carry, ...]:
        carries = []
        for name, (init, inner) in self._carried.items():
            out = builder.value(f"{name}_end", inner.axes, inner.type)
            carries.append(Carry(init.name, inner, self._results[name].name, out))
            self._outs[name] = out
        return tuple(carries)


def _array(data: Array | float, type_: Type, shape: tuple[int, ...]) -> Array:
    if isinstance(type_, Fixed | Index):
        return np.broadcast_to(np.asarray(data, np.int64), shape).copy()
    return np.broadcast_to(np.asarray(data, np.float64), shape).copy()


def _axes(kind: str, args: Sequence[Value]) -> tuple[Axis, ...]:
    shape = OPS[kind].shape
    if shape == "gather":
        return (*args[0].axes[:-1], *args[1].axes)
    if shape == "matmul":
        return args[0].axes[:1]
    if shape == "each":
        return max((a.axes for a in args if kind != "lut" or a is args[0]), key=len)
    raise ValueError(f"{kind} states its axes")
