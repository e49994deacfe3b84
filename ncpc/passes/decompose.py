"""Ops that a target lacks, in terms of those it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from ncpc.ir.check import check
from ncpc.ir.program import Op, Program, Value
from ncpc.ir.rewrite import map_ops


def without_mix(program: Program) -> Program:
    """``mix(a, b, t)`` of a real or binary32 program as ``a + t*(b - a)``, the same roundings included."""
    decomposed = dataclasses.replace(program, body=map_ops(program.body, _without_mix))
    check(decomposed)
    return decomposed


def _without_mix(op: Op) -> Iterator[Op]:
    if op.kind != "mix":
        yield op
        return
    a, b, t = op.args
    apart, part = (Value(f"{op.out.name}_{name}", op.out.axes, op.out.type) for name in ("apart", "part"))
    yield Op("sub", apart, (b, a), {}, op.origin)
    yield Op("mul", part, (t, apart.name), {}, op.origin)
    yield Op("add", op.out, (a, part.name), {}, op.origin)
