"""One time step ``(x, state, dt) -> (y, state')`` as a single-assignment list of array ops over named axes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.types import Axis, Type

Array = NDArray[np.float64] | NDArray[np.int64]
Attr = int | float | str | None


@dataclass(frozen=True)
class Origin:
    """Where an op comes from: ``layer`` is the kind (``ltc``), ``equation`` in words, ``items`` its axis, ``place`` the
    layer's position in the policy (None: in front of all layers).
    """

    layer: str
    equation: str
    items: str = ""
    place: int | None = None


@dataclass(frozen=True)
class Value:
    """A named value: its axes (none: one number) and the type of each element."""

    name: str
    axes: tuple[Axis, ...]
    type: Type

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)


@dataclass(frozen=True)
class Op:
    """``out = kind(args; attrs)``; see ``ncpc.ir.ops.OPS``."""

    kind: str
    out: Value
    args: tuple[str, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    origin: Origin | None = None


@dataclass(frozen=True)
class Carry:
    """A value carried around a repeat: ``inner`` starts as ``init``, becomes ``result``, and leaves as ``out``."""

    init: str
    inner: Value
    result: str
    out: Value


@dataclass(frozen=True)
class Repeat:
    """``count`` times the body: the unfolds."""

    count: int
    carried: tuple[Carry, ...]
    body: tuple[Stmt, ...]
    origin: Origin | None = None


Stmt = Op | Repeat


@dataclass(frozen=True, eq=False)
class Port:
    """What crosses the boundary: ``fracs`` per channel (fixed) or None (float), and the physical range, (n, 2).

    ``nominal`` is what stands for a timespan that is not given; ``note`` says in words what the range alone does not.

    A channel's number is ``raw * 2**-fracs[c]``: channels of one port may have different fractions, absorbed by the
    constants that meet them, while inside the program the port's value has one nominal type.
    """

    value: Value
    names: tuple[str, ...]
    fracs: tuple[int, ...] | None
    range: NDArray[np.float64]
    nominal: float = 1.0
    note: str = ""


@dataclass(frozen=True, eq=False)
class State:
    """A state that is carried from step to step: read as ``inp``, written from value ``out``, reset to ``init``.

    ``box`` is (n, 2), in raw integers for fixed types, the range proved or assumed; None when unbounded.
    """

    inp: Value
    out: str
    init: Array
    box: Array | None = None


@dataclass(frozen=True, eq=False)
class Program:
    """One step. ``constants`` maps a name to its value and data (raw integers for fixed and index types)."""

    name: str
    x: Port
    y: Port
    dt: Port | None
    states: tuple[State, ...]
    constants: Mapping[str, tuple[Value, Array]]
    body: tuple[Stmt, ...]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the elements of an axis, where they have some: neurons."""


def statements(body: tuple[Stmt, ...]) -> Iterator[Op]:
    """All ops, those in repeats included, in order."""
    for stmt in body:
        if isinstance(stmt, Repeat):
            yield from statements(stmt.body)
        else:
            yield stmt


def compared(body: tuple[Stmt, ...]) -> set[str]:
    """What gathers hand to comparisons alone, or hand on of what comparisons found."""
    ops = list(statements(body))
    kind = {op.out.name: op.kind for op in ops}
    readers: dict[str, set[str]] = {}
    for op in ops:
        for name in op.args:
            readers.setdefault(name, set()).add(op.kind)
    gathers = [op for op in ops if op.kind == "gather"]
    return {op.out.name for op in gathers if readers.get(op.out.name) == {"max"} or kind.get(op.args[0]) == "max"}


def values(program: Program) -> dict[str, Value]:
    """Every value of a program by name."""
    found = {value.name: value for value, _ in program.constants.values()}
    ports = [program.x, *([program.dt] if program.dt else [])]
    found.update({port.value.name: port.value for port in ports})
    found.update({state.inp.name: state.inp for state in program.states})
    found.update(_defined(program.body))
    return found


def _defined(body: tuple[Stmt, ...]) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for stmt in body:
        if isinstance(stmt, Repeat):
            found.update({c.inner.name: c.inner for c in stmt.carried})
            found.update({c.out.name: c.out for c in stmt.carried})
            found.update(_defined(stmt.body))
        else:
            found[stmt.out.name] = stmt.out
    return found
