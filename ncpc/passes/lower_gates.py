"""Gated cells over the reals: LSTM (Hochreiter & Schmidhuber 1997, with forget gate), GRU (Cho et al. 2014), RNN.

The blocks of a gate's weights become one weighted sum each, so that no product is computed that the equations lack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.gated import Gru, Lstm, Rnn
from ncpc.ir.policy import F64
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.functions import elementwise
from ncpc.passes.weigh import weighted

T = TypeVar("T", Gru, Rnn)


def lower_lstm(layer: Lstm, ctx: Lowering) -> Value:
    """States ``h`` and ``c``; the output is the new ``h``."""
    neurons = Axis(ctx.builder.unique("neurons"), layer.neurons)
    h, c = (ctx.builder.value(name, [neurons]) for name in ("h", "c"))
    h_next, c_next = lstm_step(layer, ctx.builder, ctx.x, h, c)
    ctx.states.append(State(h, h_next.name, np.zeros(layer.neurons)))
    ctx.states.append(State(c, c_next.name, np.zeros(layer.neurons)))
    return h_next


def lstm_step(layer: Lstm, b: Builder, x: Value, h: Value, c: Value) -> tuple[Value, Value]:
    """The new ``h`` and ``c``."""
    axis = c.axes[0]
    b.origin = Origin("lstm", "gates i, f, g, o", axis.name)
    blocks = zip("ifgo", *(np.split(w, 4) for w in (layer.weight_x, layer.weight_h, layer.bias)), strict=True)
    i, f, g, o = (_sum(b, name, w_x, w_h, bias, x, h, axis) for name, w_x, w_h, bias in blocks)
    b.origin = Origin("lstm", "c <- f*c + i*g", axis.name)
    kept = b.op("mul", "kept", b.op("sigmoid", "forget", f), c)
    written = b.op("mul", "written", b.op("sigmoid", "input_gate", i), b.op("tanh", "candidate", g))
    c_next = b.op("add", "c_next", kept, written)
    b.origin = Origin("lstm", "h <- o*tanh(c)", axis.name)
    h_next = b.op("mul", "h_next", b.op("sigmoid", "output_gate", o), b.op("tanh", "tanh_c", c_next))
    return h_next, c_next


def _sum(b: Builder, name: str, weight_x: F64, weight_h: F64, bias: F64, x: Value, h: Value, axis: Axis) -> Value:
    """``weight_x x + weight_h h + bias``."""
    return weighted(b, f"{name}_sum", weight_x, x, weighted(b, f"{name}_h", weight_h, h, bias, axis), axis)


def _carried(layer: T, ctx: Lowering, step: Callable[[T, Builder, Value, Value], Value]) -> Value:
    """The new ``h`` of a cell that has no other state."""
    h = ctx.builder.value("h", [Axis(ctx.builder.unique("neurons"), layer.outputs)])
    h_next = step(layer, ctx.builder, ctx.x, h)
    ctx.states.append(State(h, h_next.name, np.zeros(layer.outputs)))
    return h_next


def lower_gru(layer: Gru, ctx: Lowering) -> Value:
    """``h <- n + u*(h - n)``."""
    return _carried(layer, ctx, gru_step)


def gru_step(layer: Gru, b: Builder, x: Value, h: Value) -> Value:
    """The new ``h``."""
    axis = h.axes[0]
    b.origin = Origin("gru", "gates r, u", axis.name)
    (rx, ux, nx), (rh, uh, nh) = np.split(layer.weight_x, 3), np.split(layer.weight_h, 3)
    (rb, ub, nb), (_, _, nb_h) = np.split(layer.bias_x + layer.bias_h, 3), np.split(layer.bias_h, 3)
    r = b.op("sigmoid", "r", _sum(b, "r", rx, rh, rb, x, h, axis))
    u = b.op("sigmoid", "u", _sum(b, "u", ux, uh, ub, x, h, axis))
    b.origin = Origin("gru", "n = tanh(W_x x + b_x + r*(W_h h + b_h))", axis.name)
    recalled = b.op("mul", "recalled", r, weighted(b, "n_h", nh, h, nb_h, axis))
    n = b.op("tanh", "n", b.op("add", "n_arg", weighted(b, "n_x", nx, x, nb - nb_h, axis), recalled))
    b.origin = Origin("gru", "h <- n + u*(h - n)", axis.name)
    return b.op("mix", "h_next", n, h, u)


def lower_rnn(layer: Rnn, ctx: Lowering) -> Value:
    """``h <- function(W_x x + W_h h + b)``."""
    return _carried(layer, ctx, rnn_step)


def rnn_step(layer: Rnn, b: Builder, x: Value, h: Value) -> Value:
    """The new ``h``."""
    axis = h.axes[0]
    b.origin = Origin("rnn", f"h <- {layer.function}(W_x x + W_h h + b)", axis.name)
    total = _sum(b, "rnn", layer.weight_x, layer.weight_h, layer.bias, x, h, axis)
    return elementwise(b, layer.function, total)
