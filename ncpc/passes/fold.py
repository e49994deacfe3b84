"""Constants: fix dt, evaluate what depends on constants alone, and drop what nobody uses."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from ncpc.ir.check import check
from ncpc.ir.program import Array, Op, Program, Repeat, Stmt, Value, statements, values
from ncpc.ir.types import Fixed, Index
from ncpc.passes.merge import merge_products
from ncpc.semantics.ops import implementation
from ncpc.semantics.ports import dtype


def fix_dt(program: Program, dt: float) -> Program:
    """The program for one timespan: dt becomes a constant, what follows from it is evaluated, products merge."""
    if program.dt is None:
        return program
    value = program.dt.value
    constants = {**program.constants, value.name: (value, np.array(dt, np.float64))}
    fixed = fold_constants(dataclasses.replace(program, dt=None, constants=constants))
    return prune(merge_products(fixed))


def fold_constants(program: Program) -> Program:
    """Evaluate, in the op's own arithmetic, every op outside the repeats whose arguments are all constants."""
    constants, table = dict(program.constants), values(program)
    body = tuple(s for s in program.body if isinstance(s, Repeat) or not _folded(s, table, constants))
    folded = prune(dataclasses.replace(program, constants=constants, body=body))
    check(folded)
    return folded


def prune(program: Program) -> Program:
    """Without ops and constants that reach no output, state or status bit."""
    used = {program.y.value.name, *(s.out for s in program.states)}
    body = _used_body(program.body, used)
    named = used | {str(a) for op in statements(body) for a in op.attrs.values() if isinstance(a, str)}
    constants = {name: c for name, c in program.constants.items() if name in named}
    return dataclasses.replace(program, body=body, constants=constants)


def _folded(op: Op, table: dict[str, Value], constants: dict[str, tuple[Value, Array]]) -> bool:
    if op.kind in ("guard", "clamp") or not all(arg in constants for arg in op.args):
        return False
    constants[op.out.name] = (op.out, evaluated(op, table, {a: constants[a][1] for a in op.args}))
    return True


def evaluated(op: Op, table: dict[str, Value], given: dict[str, Array]) -> Array:
    """What the op makes of constants, in its own arithmetic; ``table`` holds the values that it reads."""
    arrays = {a: given[a].astype(dtype(table[a].type)) for a in op.args}
    # Index maps and weight matrices have no batch axis in the semantics; everything else gets one of size 1.
    batched = [_batched(arrays[a], table[a], op) for a in op.args]
    with np.errstate(all="ignore"):
        result = implementation(op, [table[a] for a in op.args], arrays)(batched, {"flags": np.zeros(1, np.int64)})
    data: Array = np.broadcast_to(result, (1, *op.out.shape))[0]
    return data.astype(np.int64) if isinstance(op.out.type, Fixed | Index) else data.astype(np.float64)


def _batched(array: Array, value: Value, op: Op) -> Array:
    if isinstance(value.type, Index) or value.name in _tables(op):
        return array
    missing = 0 if op.kind == "gather" else len(op.out.axes) - array.ndim
    return array.reshape(1, *([1] * missing), *array.shape)


def _tables(op: Op) -> Iterable[str]:
    if op.kind in ("matmul", "matmulshr"):
        return op.args[:1]
    return op.args[1:2] if op.kind == "lut" else ()


def _used_body(body: tuple[Stmt, ...], used: set[str]) -> tuple[Stmt, ...]:
    kept: list[Stmt] = []
    for stmt in reversed(body):
        if isinstance(stmt, Repeat):
            if any(c.out.name in used for c in stmt.carried):
                used.update(name for c in stmt.carried for name in (c.init, c.result))
                kept.append(dataclasses.replace(stmt, body=_used_body(stmt.body, used)))
        elif stmt.out.name in used or stmt.attrs.get("flag"):
            used.update(stmt.args)
            kept.append(stmt)
    return tuple(reversed(kept))
