"""Axes of size 0 (a network without sensory synapses): what runs over them is nothing, a sum over them its start."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ncpc.ir.program import Array, Op, Program, Value, values
from ncpc.ir.rewrite import map_ops

Constants = dict[str, tuple[Value, Array]]


def without_empty_axes(program: Program) -> Program:
    """The same step without ops over axes of size 0; the program itself if there are none."""
    table = values(program)
    if all(value.shape == () or 0 not in value.shape for value in table.values()):
        return program
    constants = dict(program.constants)
    body = map_ops(program.body, lambda op: () if 0 in op.out.shape else (_op(op, table, constants),))
    return dataclasses.replace(program, body=body, constants=constants)


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
