"""Policy -> program over the reals: each layer's equation as ops, in the order its source computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.cells import KINDS
from ncpc.ir.check import check
from ncpc.ir.kinds import load
from ncpc.ir.policy import GUESSED, Policy
from ncpc.ir.program import Port, Program, Value, statements
from ncpc.ir.types import Axis, Real
from ncpc.passes.context import Lowering
from ncpc.passes.lower_heads import WIDE


def lower(policy: Policy, wide: int = WIDE) -> Program:
    """One step of ``policy`` over the reals, with ``dt`` as an input even where its range is one number.

    Dense layers of ``wide`` inputs and more become convolutions of one place.
    """
    b = Builder(Real())
    x = b.value("x", [Axis("inputs", policy.inputs)])
    dt = b.value("dt", ())
    state = Lowering(b, x, dt, policy.dt, wide)
    out = x
    for b.place, layer in enumerate(policy.layers):
        state.x = out
        out = lowering_of(layer)(layer, state)
    program = Program(
        name=policy.name, x=input_port(policy, x, None), y=output_port(policy, out, None), dt=dt_port(policy, dt, None),
        states=tuple(state.states), constants=b.constants, body=b.body, labels=state.labels,
    )
    check(program)
    return program


def lowering_of(layer: object) -> Callable[[Any, Any], Value]:
    """The lowering of a layer's kind."""
    kind = getattr(layer, "kind", type(layer).__name__)
    if kind not in KINDS:
        raise Unsupported(f"layer kind '{kind}' cannot be lowered; supported: {', '.join(sorted(KINDS))}")
    lowering: Callable[[Any, Any], Value] = load(KINDS[kind].lowering)
    return lowering


def input_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the policy's inputs, with their names and ranges."""
    names = policy.input_names or tuple(f"x{i}" for i in range(policy.inputs))
    note = f"{GUESSED}." if policy.range_guessed else ""
    return Port(value, names, fracs, np.asarray(policy.input_range, np.float64), note=note)


def output_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the policy's outputs; their range is not declared but follows."""
    names = policy.output_names or tuple(f"y{i}" for i in range(policy.outputs))
    return Port(value, names, fracs, np.tile([-np.inf, np.inf], (policy.outputs, 1)))


def reads_dt(policy: Policy) -> bool:
    """Whether what the policy computes depends on the timespan."""
    real = lower(policy)
    return real.dt is not None and any(real.dt.value.name in op.args for op in statements(real.body))


def dt_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the timespan."""
    return Port(value, ("dt",), fracs, np.array([[policy.dt.lo, policy.dt.hi]]), policy.dt.nominal)
