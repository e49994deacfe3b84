"""Shifts that have no room for their rounding half, in the form that needs none."""

from __future__ import annotations

import dataclasses
from collections.abc import Set

from ncpc.ir.program import Op, Program
from ncpc.ir.rewrite import map_ops


def with_room(program: Program, shifts: Set[str]) -> Program:
    """The program with the ``shr`` that make ``shifts`` as ``shr_full``: the same numbers, an instruction more each."""

    def roomy(op: Op) -> tuple[Op]:
        return (dataclasses.replace(op, kind="shr_full") if op.out.name in shifts and op.kind == "shr" else op,)

    return dataclasses.replace(program, body=map_ops(program.body, roomy))
