"""The integer Program of a policy -> one graded node per layer, cut where a layer ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from ncpc.ir.policy import Policy
from ncpc.ir.program import Op, Program, Repeat, State, Stmt, Value, statements, values
from ncpc.ir.types import Fixed
from ncpc.targets.nir_graded.layers import Face, GradedLayer

FRONT = "input"
"""The part in front of the first layer: limits of the inputs."""
Pieces = list[tuple[str, tuple[Stmt, ...]]]
"""Statements with the kind of layer they come from."""


@dataclass(frozen=True)
class Part:
    """Statements of one layer, with the name of its node."""

    name: str
    body: tuple[Stmt, ...]


def layers_of(program: Program, policy: Policy, theta: int = 0) -> tuple[GradedLayer, ...]:
    """The chain of nodes; together they compute what ``program`` does, bit for bit."""
    parts = _parts(program, [layer.kind for layer in policy.layers])
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


def _parts(program: Program, kinds: Sequence[str]) -> list[Part]:
    """Runs of statements of one origin; a run of several layers of one kind is cut between them."""
    runs = [(label, tuple(run)) for label, run in groupby(program.body, _label)]
    pieces: Pieces = []
    left = list(kinds)
    for label, run in runs:
        layers = next((n for n, kind in enumerate(left) if kind != label), len(left))
        del left[: max(layers, 1) if label != FRONT else 0]
        pieces += [(label, piece) for piece in _cut(run, layers)]
    return _named(_joined(program, _with_front(pieces)))


def _label(stmt: Stmt) -> str:
    if isinstance(stmt, Repeat):
        return _label(stmt.body[0])
    return stmt.origin.layer if stmt.origin else FRONT


def _cut(run: tuple[Stmt, ...], layers: int) -> Iterator[tuple[Stmt, ...]]:
    """Where names begin again, the next layer does: ``dense_y`` and then ``dense_y_2``."""
    start, seen, cuts = 0, set[str](), 1
    for i, stmt in enumerate(run):
        bases = {re.sub(r"_\d+$", "", op.out.name) for op in statements((stmt,))}
        if cuts < layers and bases & seen:
            yield run[start:i]
            start, seen, cuts = i, set(), cuts + 1
        seen |= bases
    yield run[start:]


def _joined(program: Program, pieces: Pieces) -> Pieces:
    """Pieces from the one that reads a state to the one that writes it are one node: a cell made of two."""
    for state in program.states:
        touches = [state.inp.name in _used(body) or state.out in _made(body) for _, body in pieces]
        if touches.count(True) > 1:
            first, last = touches.index(True), len(touches) - touches[::-1].index(True)
            labels, bodies = zip(*pieces[first:last], strict=True)
            one = ("_".join(dict.fromkeys(labels)), tuple(stmt for body in bodies for stmt in body))
            pieces = [*pieces[:first], one, *pieces[last:]]
    return pieces


def _with_front(pieces: Pieces) -> Pieces:
    """The limits of the inputs belong to the first layer."""
    if len(pieces) > 1 and pieces[0][0] == FRONT:
        return [(pieces[1][0], pieces[0][1] + pieces[1][1]), *pieces[2:]]
    return pieces


def _named(pieces: Pieces) -> list[Part]:
    seen: dict[str, int] = {}
    parts = []
    for label, body in pieces:
        seen[label] = seen.get(label, 0) + 1
        parts.append(Part(label if seen[label] == 1 else f"{label}_{seen[label]}", body))
    return parts


def _live(program: Program, later: Sequence[Part]) -> list[str]:
    """Values that parts still to come read, in the order of their making: what the message there holds."""
    body = tuple(stmt for part in later for stmt in part.body)
    made = _made(body)
    known = {*program.constants, *made, *(state.inp.name for state in program.states)}
    wanted = {*_used(body), program.y.value.name} - known
    return [name for name in values(program) if name in wanted]


def _made(body: tuple[Stmt, ...]) -> set[str]:
    names = {op.out.name for op in statements(body)}
    for stmt in body:
        if isinstance(stmt, Repeat):
            names |= _made(stmt.body) | {c.out.name for c in stmt.carried} | {c.inner.name for c in stmt.carried}
    return names


def _used(body: tuple[Stmt, ...]) -> set[str]:
    names = {name for op in statements(body) for name in op.args}
    names |= {a for op in statements(body) if op.kind == "clamp" for a in op.attrs.values() if isinstance(a, str)}
    for stmt in body:
        if isinstance(stmt, Repeat):
            names |= _used(stmt.body) | {c.init for c in stmt.carried} | {c.result for c in stmt.carried}
    return names - {op.attrs["flag"] for op in statements(body) if "flag" in op.attrs}


def _layer(program: Program, part: Part, ports: tuple[list[str], list[str]], table: Mapping[str, Value], theta: int,
           face: Face) -> GradedLayer:
    used, states = _used(part.body), _own_states(program, part)
    moving = _moved_by(part.body, {state.inp.name for _, state in states})
    step = {
        "reads": [_port(table[name]) for name in ports[0]], "writes": [_port(table[name]) for name in ports[1]],
        "states": [_state(order, state) for order, state in states],
        "ops": [_stmt(stmt, moving, table) for stmt in part.body],
    }
    constants = {name: np.atleast_1d(np.asarray(data, np.int64))  # nir writes no single numbers
                 for name, (_, data) in program.constants.items() if name in used}
    return GradedLayer(part.name, theta, step, constants, face)


def _own_states(program: Program, part: Part) -> list[tuple[int, State]]:
    """States that this part writes."""
    made = _made(part.body)
    return [(order, state) for order, state in enumerate(program.states) if state.out in made]


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


def _state(order: int, state: State) -> dict[str, Any]:
    assert isinstance(state.inp.type, Fixed)
    start = np.broadcast_to(np.asarray(state.init, np.int64), state.inp.shape)
    return {**_port(state.inp), "out": state.out, "init": start.reshape(-1).tolist(), "order": order,
            "frac": state.inp.type.frac}


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
    return {"op": stmt.kind, "out": stmt.out.name, "shape": list(stmt.out.shape),
            "bits": kind.bits if kind.signed else -kind.bits, "frac": kind.frac, "args": list(stmt.args),
            **attrs, **send}


def _sends(op: Op) -> bool:
    """Whether synapses stand here: a gather over them, or a matrix."""
    axes = op.out.axes
    return op.kind in ("matmul", "matmulshr") or (op.kind == "gather" and "synapses" in axes[-1].name)


def _source(op: Op) -> int:
    return 0 if op.kind == "gather" else 1
