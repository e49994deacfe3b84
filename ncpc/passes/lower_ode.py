"""CT-RNN and neural ODE over the reals, as in the code published with Hasani et al. 2021; leaky integrators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.cells import CtRnn, LeakyIntegrator, NeuralOde
from ncpc.ir.policy import F64
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.functions import elementwise
from ncpc.passes.solvers import explicit_step, length
from ncpc.passes.weigh import weighted

REST = {"tanh": 0.0, "relu": 0.0, "identity": 0.0, "sigmoid": 0.5}
"""A function's value at 0: the rate of a neuron at rest."""


def lower_ct_rnn(layer: CtRnn, ctx: Lowering) -> Value:
    """``dh/dt = -h/tau + tanh(W_x x + W_h h + b)``."""
    return _lower_ode(layer, 1.0 / layer.tau, ctx)


def lower_neural_ode(layer: NeuralOde, ctx: Lowering) -> Value:
    """``dh/dt = tanh(W_x x + W_h h + b)``."""
    return _lower_ode(layer, None, ctx)


def _lower_ode(layer: CtRnn | NeuralOde, decay: F64 | None, ctx: Lowering) -> Value:
    b, axis = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs)
    v = b.value("h", [axis])
    b.origin = Origin(layer.kind, "W_x x + b, once per step", axis.name)
    base = weighted(b, "drive_x", layer.weight_x, ctx.x, layer.bias, axis)
    h = b.op("mul", "h_step", ctx.dt, b.const("step", layer.step))
    size = length(b, h, layer.solver)
    slope = _slope(b, layer.weight_h, base, decay, axis)
    with b.repeat(layer.unfolds, h=(v, None)) as loop:
        b.origin = Origin(layer.kind, f"{layer.solver} step", axis.name)
        loop.set("h", _clipped(b, explicit_step(b, slope, loop["h"], size), layer.clip))
    ctx.states.append(State(v, loop["h"].name, np.zeros(layer.outputs)))
    return loop["h"]


def _slope(b: Builder, weight_h: F64, base: Value, decay: F64 | None, axis: Axis) -> Callable[[Value], Value]:
    """``dh/dt`` as a function of ``h``; without feedback its tanh is computed here, once."""
    rate = None if decay is None else b.const("decay", decay, [axis])
    fed_back = bool(np.any(weight_h))
    held = None if fed_back else b.op("tanh", "drive", base)

    def slope(h: Value) -> Value:
        drive = held or b.op("tanh", "drive", weighted(b, "drive_h", weight_h, h, base, axis))
        return drive if rate is None else b.op("sub", "slope", drive, b.op("mul", "decayed", rate, h))

    return slope


def _clipped(b: Builder, v: Value, clip: float) -> Value:
    return b.op("clamp", "v_clipped", v, lo=-clip, hi=clip, flag=None) if clip > 0 else v


def lower_leaky_integrator(layer: LeakyIntegrator, ctx: Lowering) -> Value:
    """``u <- i + exp(-dt/tau)*(u - i)``, ``r <- function(u + (lookahead/tau)*(i - u))``."""
    b, axis = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs)
    u, r = b.value("u", [axis]), b.value("r", [axis])
    b.origin = Origin("leaky_integrator", "i = W_x x + W_h r + b", axis.name)
    i = weighted(b, "i_h", layer.weight_h, r, weighted(b, "i_x", layer.weight_x, ctx.x, layer.bias, axis), axis)
    b.origin = Origin("leaky_integrator", "u <- i + exp(-dt/tau)*(u - i)", axis.name)
    keep = b.op("exp", "keep", b.op("mul", "dt_tau", b.const("minus_rate", -1.0 / layer.tau, [axis]), ctx.dt))
    u_next = b.op("mix", "u_next", i, u, keep)
    b.origin = Origin("leaky_integrator", "r <- function(u + (lookahead/tau)*(i - u))", axis.name)
    r_next = elementwise(b, layer.function, _ahead(b, layer, u_next, i))
    ctx.states.append(State(u, u_next.name, np.zeros(layer.outputs)))
    if np.any(layer.weight_h):
        ctx.states.append(State(r, r_next.name, np.full(layer.outputs, REST[layer.function])))
    return r_next


def _ahead(b: Builder, layer: LeakyIntegrator, u: Value, i: Value) -> Value:
    """The prospective potential."""
    if not np.any(layer.lookahead):
        return u
    return b.op("mix", "ahead", u, i, b.const("lookahead", layer.lookahead / layer.tau, u.axes))
