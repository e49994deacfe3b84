"""Sums of matrix products that read the same vectors, as one product: what a fixed timespan allows in a CfC's gates.

    c*(A x + a) + (B x + b)  ->  (c*A + B) x + (c*a + b)

for a constant c. The start of a product may itself be a product with another vector; both sides must then have one
with the same.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ncpc.ir.program import Array, Op, Program, Repeat, Stmt, Value, statements
from ncpc.ir.types import Index

Constants = dict[str, tuple[Value, Array]]


@dataclass
class _Merging:
    """The results of ops by name, how often each is read, the constants, and the ops that a merge makes."""

    ops: Mapping[str, Op]
    reads: Mapping[str, int]
    constants: Constants
    made: list[Op] = field(default_factory=list)


def merge_products(program: Program) -> Program:
    """The program with such sums merged, outside of repeats; the ops they were made of are left to be pruned."""
    outer = [stmt for stmt in program.body if isinstance(stmt, Op)]
    reads = Counter(a for op in statements(program.body) for a in op.args)
    reads.update([program.y.value.name, *(s.out for s in program.states)])
    reads.update(c.init for stmt in program.body if isinstance(stmt, Repeat) for c in stmt.carried)
    state = _Merging({op.out.name: op for op in outer}, reads, dict(program.constants))
    body: list[Stmt] = []
    for stmt in program.body:
        merged = _merged(stmt, state) if isinstance(stmt, Op) and stmt.kind == "add" else None
        body += [stmt] if merged is None else [*state.made, merged]
        state.made.clear()
    return dataclasses.replace(program, body=tuple(body), constants=state.constants)


def _merged(op: Op, state: _Merging) -> Op | None:
    """The sum as a product; None where its sides do not read the same vectors."""
    for scaled, plain in (op.args, op.args[::-1]):
        factor = _factor(scaled, state)
        if factor is None or not _alike(factor[0], plain, state):
            continue
        last = _product(*factor, plain, op.out.name, state)
        return dataclasses.replace(last, out=op.out, origin=op.origin)
    return None


def _factor(name: str, state: _Merging) -> tuple[str, float] | None:
    """The product and the number that a value is made of."""
    op = state.ops.get(name)
    if op is None or op.kind != "mul" or state.reads[name] != 1:
        return None
    for inner, number in (op.args, op.args[::-1]):
        if inner in state.ops and number in state.constants and not state.constants[number][0].axes:
            return inner, float(state.constants[number][1])
    return None


def _alike(a: str, b: str, state: _Merging) -> bool:
    """Whether both are products with the same vectors, all the way down, that no one else reads."""
    if a in state.constants and b in state.constants:
        return not isinstance(state.constants[a][0].type, Index)
    left, right = state.ops.get(a), state.ops.get(b)
    if left is None or right is None or left.kind != "matmul" or right.kind != "matmul":
        return False
    single = state.reads[a] == 1 and state.reads[b] == 1
    if not single or left.args[1] != right.args[1] or len(left.args) != len(right.args):
        return False
    return len(left.args) < 3 or _alike(left.args[2], right.args[2], state)


def _product(a: str, factor: float, b: str, name: str, state: _Merging) -> Op:
    """``factor*a + b`` as one product; its starts first, among the ops made."""
    left, right = state.ops[a], state.ops[b]
    args = [_constant(left.args[0], factor, right.args[0], f"{name}_{right.args[1]}_w", state), right.args[1]]
    if len(left.args) > 2:
        starts = left.args[2], right.args[2]
        if starts[0] in state.constants:
            args.append(_constant(starts[0], factor, starts[1], f"{name}_b", state))
        else:
            start = _product(starts[0], factor, starts[1], name, state)
            state.made.append(start)
            args.append(start.out.name)
    out = dataclasses.replace(right.out, name=f"{name}_{right.args[1]}")
    return Op("matmul", out, tuple(args), right.attrs, right.origin)


def _constant(a: str, factor: float, b: str, name: str, state: _Merging) -> str:
    value, right = state.constants[b]
    data = factor * np.asarray(state.constants[a][1], np.float64) + np.asarray(right, np.float64)
    state.constants[name] = (dataclasses.replace(value, name=name), data)
    return name
