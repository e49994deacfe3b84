"""The integer Program of a policy -> one graded node per layer, cut where a layer ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from ncpc.ir.program import Op, Origin, Program, Repeat, State, Stmt, Value, values
from ncpc.ir.rewrite import made, used
from ncpc.ir.types import Fixed
from ncpc.targets.nir_graded.layers import Face, GradedLayer


@dataclass(frozen=True)
class NodeBody:
    """Statements of one layer, with the name of its node."""

    name: str
    body: tuple[Stmt, ...]


def layers_of(program: Program, theta: int = 0) -> tuple[GradedLayer, ...]:
    """The chain of nodes; together they compute what ``program`` does, bit for bit."""
    parts = _parts(program)
    table, face = values(program), _face(program)
    first = [port.value.name for port in (program.x, program.dt) if port]
    ends = [*(_live(program, parts[k + 1 :]) for k in range(len(parts) - 1)), [program.y.value.name]]
    starts = [first, *ends[:-1]]
    return tuple(_layer(program, part, (reads, writes), table, theta, face)
                 for part, reads, writes in zip(parts, starts, ends, strict=True))


def _face(program: Program) -> Face:
    assert isinstance(program.x.value.type, Fixed)
    assert program.x.fracs is not None
    assert program.y.fracs is not None
    dt = program.dt
    return Face(np.array(program.x.fracs, np.int64), program.x.value.type.bits, np.array(program.y.fracs, np.int64),
                -1 if dt is None or dt.fracs is None else dt.fracs[0], 0.0 if dt is None else dt.nominal)


def _parts(program: Program) -> list[NodeBody]:
    """The statements of each layer; what stands in front of the first belongs to it."""
    pieces = [tuple(piece) for _, piece in groupby(program.body, lambda stmt: _origin(stmt).place or 0)]
    named: dict[str, int] = {}
    return [NodeBody(_unique("_".join(_kinds(piece)), named), piece) for piece in pieces]


def _origin(stmt: Stmt) -> Origin:
    if isinstance(stmt, Repeat):
        return _origin(stmt.body[0])
    assert stmt.origin
    return stmt.origin


def _kinds(piece: tuple[Stmt, ...]) -> list[str]:
    """The kinds of cells in a layer: two where one is the memory of the other."""
    return list(dict.fromkeys(_origin(stmt).layer for stmt in piece if _origin(stmt).place is not None))


def _unique(label: str, named: dict[str, int]) -> str:
    named[label] = named.get(label, 0) + 1
    return label if named[label] == 1 else f"{label}_{named[label]}"


def _live(program: Program, later: Sequence[NodeBody]) -> list[str]:
    """Values that parts still to come read, in the order of their making: what the message there holds."""
    body = tuple(stmt for part in later for stmt in part.body)
    known = {*program.constants, *made(body), *(state.inp.name for state in program.states)}
    wanted = {*used(body), program.y.value.name} - known
    return [name for name in values(program) if name in wanted]


def _layer(program: Program, part: NodeBody, ports: tuple[list[str], list[str]], table: Mapping[str, Value], theta: int,
           face: Face) -> GradedLayer:
    named, states = used(part.body), _own_states(program, part)
    moving = _moved_by(part.body, {state.inp.name for _, state in states})
    step = {
        "reads": [_port(table[name]) for name in ports[0]], "writes": [_port(table[name]) for name in ports[1]],
        "states": [_state(order, state, program.labels.get(state.inp.axes[-1].name, ())) for order, state in states],
        "ops": [_stmt(stmt, moving, table) for stmt in part.body],
    }
    constants = {name: np.atleast_1d(np.asarray(data, np.int64))  # nir writes no single numbers
                 for name, (_, data) in program.constants.items() if name in named}
    return GradedLayer(part.name, theta, step, constants, face)


def _own_states(program: Program, part: NodeBody) -> list[tuple[int, State]]:
    """States that this part writes."""
    own = made(part.body)
    return [(order, state) for order, state in enumerate(program.states) if state.out in own]


def _moved_by(body: tuple[Stmt, ...], names: set[str]) -> set[str]:
    """``names`` and everything computed from them."""
    found = set(names)
    for stmt in body:
        if isinstance(stmt, Repeat):
            found |= {c.inner.name for c in stmt.carried if {c.init, c.result} & found}
            found |= _moved_by(stmt.body, found)
            found |= {c.out.name for c in stmt.carried if c.result in found}
        elif set(stmt.args) & found:
            found.add(stmt.out.name)
    return found


def _port(value: Value) -> dict[str, Any]:
    return {"name": value.name, "shape": list(value.shape)}


def _state(order: int, state: State, names: Sequence[str]) -> dict[str, Any]:
    assert isinstance(state.inp.type, Fixed)
    start = np.broadcast_to(np.asarray(state.init, np.int64), state.inp.shape)
    named = {"names": list(names)} if names else {}
    return {**_port(state.inp), "out": state.out, "init": start.reshape(-1).tolist(), "order": order,
            "frac": state.inp.type.frac, **named}


def _stmt(stmt: Stmt, moving: set[str], table: Mapping[str, Value]) -> dict[str, Any]:
    if isinstance(stmt, Repeat):
        carried = [{"init": c.init, "inner": c.inner.name, "result": c.result, "out": c.out.name} for c in stmt.carried]
        ops = [_stmt(inner, moving, table) for inner in stmt.body]
        return {"op": "repeat", "count": stmt.count, "carried": carried, "ops": ops}
    kind = stmt.out.type
    assert isinstance(kind, Fixed)
    attrs = {name: value for name, value in stmt.attrs.items() if value is not None}
    if stmt.kind == "mix":
        weight = table[stmt.args[2]].type
        assert isinstance(weight, Fixed)
        attrs["k"] = weight.frac
    send = {"send": "theta" if stmt.args[_source(stmt)] in moving else "change"} if _sends(stmt) else {}
    name = "shr" if stmt.kind == "shr_full" else stmt.kind  # two ways of C to the same number
    return {"op": name, "out": stmt.out.name, "shape": list(stmt.out.shape),
            "bits": kind.bits if kind.signed else -kind.bits, "frac": kind.frac, "args": list(stmt.args),
            **attrs, **send}


def _sends(op: Op) -> bool:
    """Whether synapses stand here: a gather over them, or a matrix."""
    axes = op.out.axes
    return op.kind in ("matmul", "matmulshr") or (op.kind == "gather" and "synapses" in axes[-1].name)


def _source(op: Op) -> int:
    return 0 if op.kind == "gather" else 1
