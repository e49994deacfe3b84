"""Ops that a target lacks, in terms of those it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial

from ncpc.ir.build import free_name
from ncpc.ir.check import check
from ncpc.ir.program import Op, Program, Value, values
from ncpc.ir.rewrite import map_ops


def without_mix(program: Program) -> Program:
    """``mix(a, b, t)`` of a real or binary32 program as ``a + t*(b - a)``, the same roundings included."""
    names = {*values(program), *program.constants}
    decomposed = dataclasses.replace(program, body=map_ops(program.body, partial(_without_mix, names)))
    check(decomposed)
    return decomposed


def _without_mix(names: set[str], op: Op) -> Iterator[Op]:
    if op.kind != "mix":
        yield op
        return
    a, b, t = op.args
    apart, part = (Value(free_name(f"{op.out.name}_{name}", names), op.out.axes, op.out.type)
                   for name in ("apart", "part"))
    yield Op("sub", apart, (b, a), {}, op.origin)
    yield Op("mul", part, (t, apart.name), {}, op.origin)
    yield Op("add", op.out, (a, part.name), {}, op.origin)
