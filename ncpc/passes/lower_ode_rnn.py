"""Gated cells whose state follows an ODE between inputs, over the reals: ODE-RNN (Rubanova, Chen & Duvenaud 2019,
arXiv 1907.03907) and ODE-LSTM (Lechner & Hasani 2020, arXiv 2006.04418).
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.gated import Gru, Lstm, OdeRnn, Rnn
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.lower_gates import gru_step, lstm_step, rnn_step
from ncpc.passes.solvers import explicit_step, lengths
from ncpc.passes.weigh import weighted


def lower_ode_rnn(layer: OdeRnn, ctx: Lowering) -> Value:
    """The cell reads x, before or after ``dh/dt = flow(h)`` over dt; the output is the new ``h``."""
    b, axis = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs)
    h = b.value("h", [axis])
    h_next = _evolved(layer, ctx, h) if layer.first == "ode" else h
    h_next = _read(layer, ctx, h_next)
    h_next = _evolved(layer, ctx, h_next) if layer.first == "cell" else h_next
    ctx.states.insert(len(ctx.states) - isinstance(layer.cell, Lstm), State(h, h_next.name, np.zeros(layer.outputs)))
    return h_next


def _read(layer: OdeRnn, ctx: Lowering, h: Value) -> Value:
    """The cell's step; an LSTM's ``c`` becomes a state."""
    b, cell = ctx.builder, layer.cell
    if isinstance(cell, Lstm):
        c = b.value("c", h.axes)
        h_next, c_next = lstm_step(cell, b, ctx.x, h, c)
        ctx.states.append(State(c, c_next.name, np.zeros(cell.neurons)))
        return h_next
    if isinstance(cell, Gru):
        return gru_step(cell, b, ctx.x, h)
    assert isinstance(cell, Rnn)
    return rnn_step(cell, b, ctx.x, h)


def _evolved(layer: OdeRnn, ctx: Lowering, h: Value) -> Value:
    """``dh/dt = flow(h)`` by ``unfolds`` steps of dt/unfolds."""
    b = ctx.builder
    b.origin = Origin("ode_rnn", f"dh/dt = flow(h), {layer.solver}", h.axes[0].name)
    h_step = b.op("mul", "h_step", ctx.dt, b.const("per_unfold", 1.0 / layer.unfolds))
    size = lengths(b, h_step, layer.solver)
    with b.repeat(layer.unfolds, h_ode=(h, None)) as loop:
        loop.set("h_ode", explicit_step(b, lambda at: _flow(layer, b, at), loop["h_ode"], size, layer.solver))
    return loop["h_ode"]


def _flow(layer: OdeRnn, b: Builder, h: Value) -> Value:
    """The dense layers, tanh between them."""
    at, last = h, len(layer.flow) - 1
    for i, dense in enumerate(layer.flow):
        axis = h.axes[0] if i == last else Axis(b.unique(f"flow_{i}"), dense.outputs)
        at = weighted(b, f"flow_{i}", dense.weight, at, dense.bias, axis)
        at = at if i == last else b.op("tanh", f"flow_{i}_tanh", at)
    return at
