"""Policy -> program over the reals: each layer's equation as ops, in the order its source computes it.

Adding a layer kind is one lowering function and one row of ``LOWERINGS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.check import check
from ncpc.ir.policy import Activation, Dense, Policy
from ncpc.ir.program import Origin, Port, Program, Value
from ncpc.ir.types import Axis, Real
from ncpc.passes.context import Lowering
from ncpc.passes.functions import elementwise
from ncpc.passes.lower_cfc import lower_cfc, lower_wired_cfc
from ncpc.passes.lower_ct_gru import lower_ct_gru
from ncpc.passes.lower_gates import lower_gru, lower_lstm, lower_rnn
from ncpc.passes.lower_heads import WIDE, lower_conv2d, lower_pool, lower_softmax, lower_wide_dense
from ncpc.passes.lower_lif import lower_lif
from ncpc.passes.lower_ltc import lower_ltc
from ncpc.passes.lower_mixed import lower_mixed_memory
from ncpc.passes.lower_ode import lower_ct_rnn, lower_leaky_integrator, lower_neural_ode
from ncpc.passes.solvers import refuse_unstable


def lower(policy: Policy, wide: int = WIDE) -> Program:
    """One step of ``policy`` over the reals, with ``dt`` as an input even where its range is one number.

    Dense layers of ``wide`` inputs and more become convolutions of one place.
    """
    b = Builder(Real())
    x = b.value("x", [Axis("inputs", policy.inputs)])
    dt = b.value("dt", ())
    state = Lowering(b, x, dt, policy.dt, wide)
    out = x
    for layer in policy.layers:
        refuse_unstable(layer, policy.dt)
        state.x = out
        out = lowering_of(layer)(layer, state)
    program = Program(
        name=policy.name, x=input_port(policy, x, None), y=output_port(policy, out, None), dt=dt_port(policy, dt, None),
        states=tuple(state.states), constants=b.constants, body=b.body, labels=state.labels,
    )
    check(program)
    return program


def lower_dense(layer: Dense, ctx: Lowering) -> Value:
    """``y = W x + b``."""
    if layer.inputs >= ctx.wide:
        return lower_wide_dense(layer, ctx)
    b = ctx.builder
    out = Axis(b.unique("dense_outputs"), layer.outputs)
    b.origin = Origin("dense", "y = W x + b", out.name)
    weight = b.const("dense_w", layer.weight, [out, *ctx.x.axes])
    return b.op("matmul", "dense_y", weight, ctx.x, b.const("dense_b", layer.bias, [out]))


def lower_activation(layer: Activation, ctx: Lowering) -> Value:
    """An elementwise function."""
    ctx.builder.origin = Origin("activation", f"y = {layer.function}(x)", ctx.x.axes[0].name)
    return elementwise(ctx.builder, layer.function, ctx.x, layer.parameters)


LOWERINGS: dict[str, Callable[[Any, Any], Value]] = {
    "ltc": lower_ltc,
    "dense": lower_dense,
    "activation": lower_activation,
    "cfc": lower_cfc,
    "wired_cfc": lower_wired_cfc,
    "mixed_memory": lower_mixed_memory,
    "lstm": lower_lstm,
    "gru": lower_gru,
    "rnn": lower_rnn,
    "ct_rnn": lower_ct_rnn,
    "neural_ode": lower_neural_ode,
    "ct_gru": lower_ct_gru,
    "leaky_integrator": lower_leaky_integrator,
    "lif": lower_lif,
    "conv2d": lower_conv2d,
    "pool": lower_pool,
    "softmax": lower_softmax,
}


def lowering_of(layer: object) -> Callable[[Any, Any], Value]:
    """The lowering of a layer's kind."""
    kind = getattr(layer, "kind", type(layer).__name__)
    if kind not in LOWERINGS:
        raise Unsupported(f"layer kind '{kind}' cannot be lowered; supported: {', '.join(sorted(LOWERINGS))}")
    return LOWERINGS[kind]


def input_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the policy's inputs, with their names and ranges."""
    names = policy.input_names or tuple(f"x{i}" for i in range(policy.inputs))
    return Port(value, names, fracs, np.asarray(policy.input_range, np.float64))


def output_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the policy's outputs; their range is not declared but follows."""
    names = policy.output_names or tuple(f"y{i}" for i in range(policy.outputs))
    return Port(value, names, fracs, np.tile([-np.inf, np.inf], (policy.outputs, 1)))


def dt_port(policy: Policy, value: Value, fracs: tuple[int, ...] | None) -> Port:
    """The port of the timespan."""
    return Port(value, ("dt",), fracs, np.array([[policy.dt.lo, policy.dt.hi]]), policy.dt.nominal)
