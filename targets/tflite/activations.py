"""Relu as part of the operator before it: TFLite's sums and convolutions limit their results on the way out."""

from __future__ import annotations

from dataclasses import replace

from ncpc.ir.program import Op, Program, statements
from ncpc.targets.graph.nodes import Attribute

FUSED = ("add", "sub", "matmul", "conv2d")
"""Ops whose operators take an activation."""
RELU = 1
"""ActivationFunctionType of the schema."""


def fold_activations(program: Program) -> Program:
    """A flat program in which these ops have an attribute ``relu`` instead of a ``relu`` that follows.

    The result is for graphs alone: ``relu`` is no attribute that a program may have, but on ``conv2d``.
    """
    ops = list(statements(program.body))
    made = {op.out.name: op for op in ops if op.kind in FUSED}
    limited = [op for op in ops if op.kind == "relu" and op.args[0] in made]
    fused = {op.out.name: _with_relu(made[op.args[0]], op) for op in limited}
    body = [fused.get(op.out.name, op) for op in ops]
    needed = {program.y.value.name, *(state.out for state in program.states), *(a for op in body for a in op.args)}
    spare = {op.args[0] for op in limited} - needed
    return replace(program, body=tuple(op for op in body if op.out.name not in spare))


def _with_relu(op: Op, limited: Op) -> Op:
    return replace(op, out=limited.out, attrs={**op.attrs, "relu": 1})


def activation(op: Op) -> dict[str, Attribute]:
    """The operator's option."""
    return {"fusedActivationFunction": RELU} if op.attrs.get("relu") else {}
