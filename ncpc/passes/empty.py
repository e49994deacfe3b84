"""Axes of size 0 (a network without sensory synapses): what runs over them is nothing, a sum over them its start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ncpc.ir.program import Array, Op, Program, Repeat, Stmt, Value, values

Constants = dict[str, tuple[Value, Array]]


def without_empty_axes(program: Program) -> Program:
    """The same step without ops over axes of size 0; the program itself if there are none."""
    table = values(program)
    if all(value.shape == () or 0 not in value.shape for value in table.values()):
        return program
    constants = dict(program.constants)
    body = _body(program.body, table, constants)
    return dataclasses.replace(program, body=body, constants=constants)


def _body(body: tuple[Stmt, ...], table: Mapping[str, Value], constants: Constants) -> tuple[Stmt, ...]:
    kept: list[Stmt] = []
    for stmt in body:
        if isinstance(stmt, Repeat):
            kept.append(dataclasses.replace(stmt, body=_body(stmt.body, table, constants)))
        elif 0 not in stmt.out.shape:
            kept.append(_op(stmt, table, constants))
    return tuple(kept)


def _op(op: Op, table: Mapping[str, Value], constants: Constants) -> Op:
    if op.kind == "concat":
        return dataclasses.replace(op, args=tuple(a for a in op.args if 0 not in table[a].shape))
    summed = {"segment_sum": op.args[:1], "matmul": op.args[1:2], "matmulshr": op.args[1:2]}.get(op.kind, ())
    if not any(0 in table[a].shape for a in summed):
        return op
    start = op.args[2] if len(op.args) > 2 else _zero(op.out, constants)
    return Op("cast", op.out, (start,), {}, op.origin)


def _zero(like: Value, constants: Constants) -> str:
    name = f"{like.name}_zero"
    constants[name] = (Value(name, like.axes, like.type), np.zeros(like.shape))
    return name
