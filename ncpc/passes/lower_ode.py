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
from ncpc.passes.solvers import explicit_step, lengths, refuse_unstable
from ncpc.passes.weigh import weighted

REST = {"tanh": 0.0, "relu": 0.0, "identity": 0.0, "sigmoid": 0.5}
"""A function's value at 0: the rate of a neuron at rest."""


def lower_ct_rnn(layer: CtRnn, ctx: Lowering) -> Value:
    """``dh/dt = -h/tau + tanh(W_x x + W_h h + b)``.

    No step of any method of ``TABLEAUS`` that is no longer than tau leaves [-tau, tau]: it is a mean, with weights >=
    0, of ``h`` and of values of tau*tanh(...). Euler's is written as such a mean, the others are limited to that range.
    """
    names = tuple(f"neuron {i}" for i in range(layer.outputs))
    refuse_unstable(names, 1.0 / layer.tau, layer.step * ctx.dt_range.hi, layer.solver, layer.unfolds,
                    " of a shorter step")
    return _lower_ode(layer, 1.0 / layer.tau, ctx)


def lower_neural_ode(layer: NeuralOde, ctx: Lowering) -> Value:
    """``dh/dt = tanh(W_x x + W_h h + b)``."""
    return _lower_ode(layer, None, ctx)


def _lower_ode(layer: CtRnn | NeuralOde, decay: F64 | None, ctx: Lowering) -> Value:
    b, axis = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs)
    v = b.value("h", [axis])
    b.origin = Origin(layer.kind, "W_x x + b, once per step", axis.name)
    base = weighted(b, "drive_x", layer.weight_x, ctx.x, layer.bias, axis)
    drive = _drive(b, layer.weight_h, base, axis)
    step = _step(layer, b, decay, drive, axis, ctx)
    with b.repeat(layer.unfolds, h=(v, None)) as loop:
        b.origin = Origin(layer.kind, f"{layer.solver} step", axis.name)
        loop.set("h", _clipped(b, step(loop["h"]), layer.clip))
    ctx.states.append(State(v, loop["h"].name, np.zeros(layer.outputs)))
    return loop["h"]


Update = Callable[[Value], Value]


def _step(layer: CtRnn | NeuralOde, b: Builder, decay: F64 | None, drive: Update, axis: Axis, ctx: Lowering) -> Update:
    """One step as a function of ``h``."""
    mean = decay is not None and bool(np.all(layer.step * ctx.dt_range.hi * decay <= 1.0))
    if decay is not None and mean and layer.solver == "euler":
        share = b.op("mul", "share", b.const("step_tau", layer.step * decay, [axis]), ctx.dt)
        tau = b.const("tau", 1.0 / decay, [axis])
        return lambda h: b.op("mix", "h_next", h, b.op("mul", "goal", tau, drive(h)), share)
    size = lengths(b, b.op("mul", "h_step", ctx.dt, b.const("step", layer.step)), layer.solver)
    rate = None if decay is None else b.const("decay", decay, [axis])

    def slope(h: Value) -> Value:
        return drive(h) if rate is None else b.op("sub", "slope", drive(h), b.op("mul", "decayed", rate, h))

    most = float(np.max(1.0 / decay)) if decay is not None and mean else 0.0
    return lambda h: _clipped(b, explicit_step(b, slope, h, size, layer.solver), most)


def _drive(b: Builder, weight_h: F64, base: Value, axis: Axis) -> Update:
    """``tanh(W_h h + base)`` as a function of ``h``; without feedback it is computed here, once."""
    if not np.any(weight_h):
        held = b.op("tanh", "drive", base)
        return lambda h: held
    return lambda h: b.op("tanh", "drive", weighted(b, "drive_h", weight_h, h, base, axis))


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
