"""The CT-GRU step over the reals (Mozer et al. 2017, eq. 2-7)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.cells import CtGru
from ncpc.ir.policy import Dense
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis, Index
from ncpc.passes.context import Lowering
from ncpc.passes.weigh import weighted

NEGLIGIBLE = -31.0
"""Logarithm of the softmax weight, relative to the largest, below which it is held: 3e-14."""


@dataclass(frozen=True)
class TraceLayout:
    """Traces lie flat, the scales of one neuron together. ``of`` maps a trace to its neuron, ``scale`` to its scale.

    ``column[k]`` maps a neuron to its k-th trace.
    """

    neurons: Axis
    traces: Axis
    scales: Axis
    of: Value
    scale: Value
    column: tuple[Value, ...]


def lower_ct_gru(layer: CtGru, ctx: Lowering) -> Value:
    """Retrieve ``q`` from the traces, store it in them, let them decay; the output is their sum."""
    b, grid, x = ctx.builder, _grid(ctx.builder, layer), ctx.x
    e = b.value("e", [grid.traces])
    b.origin = Origin("ct_gru", "h = sum of the traces", grid.neurons.name)
    h = b.op("segment_sum", "h", e, grid.of, axes=[grid.neurons])
    b.origin = Origin("ct_gru", "q = tanh(detect [x, sum_k r_k*e_k])", grid.neurons.name)
    held = _recall(b, grid, e, _weights(b, "r", layer, layer.retrieve, x, h, grid))
    q = b.op("tanh", "q", _sum(b, "detect", layer.detect, x, held, grid.neurons))
    b.origin = Origin("ct_gru", "e <- (e + s*(q - e)) * decay**dt", grid.traces.name)
    s, total = _weights(b, "s", layer, layer.store, x, h, grid)
    quotient = b.op("div", "s", s, b.op("gather", "s_total_of", total, grid.of))
    share = b.op("clamp", "s_share", quotient, lo=0.0, hi=1.0, flag=None)
    stored = b.op("mix", "stored", e, b.op("gather", "q_of", q, grid.of), share)
    e_next = b.op("mul", "e_next", stored, b.op("gather", "kept_of", _kept(b, layer, ctx.dt, grid.scales), grid.scale))
    if layer.clip > 0:
        e_next = b.op("clamp", "e_clipped", e_next, lo=-layer.clip, hi=layer.clip, flag=None)
    ctx.states.append(State(e, e_next.name, np.zeros(e.shape)))
    return b.op("segment_sum", "y", e_next, grid.of, axes=[grid.neurons])


def _grid(b: Builder, layer: CtGru) -> TraceLayout:
    n, m = layer.neurons, layer.scales
    neurons, traces, scales = Axis(b.unique("neurons"), n), Axis(b.unique("traces"), n * m), Axis(b.unique("scales"), m)
    of = b.const("neuron_of", np.repeat(np.arange(n), m), [traces], Index(neurons.name))
    scale = b.const("scale_of", np.tile(np.arange(m), n), [traces], Index(scales.name))
    column = tuple(b.const(f"trace_{k}", np.arange(n) * m + k, [neurons], Index(traces.name)) for k in range(m))
    return TraceLayout(neurons, traces, scales, of, scale, column)


def _weights(b: Builder, name: str, layer: CtGru, gate: Dense, x: Value, h: Value,
             grid: TraceLayout) -> tuple[Value, Value]:
    """Softmax weights over each neuron's scales, not yet divided by their sum, and that sum (>= 1).

    The largest logarithm is subtracted, so that the largest weight is 1 whatever the gate says.
    """
    ln_tau = _sum(b, f"ln_tau_{name}", gate, x, h, grid.traces)
    off = b.op("sub", f"{name}_off", ln_tau, b.const("ln_tau", np.tile(layer.ln_tau, layer.neurons), [grid.traces]))
    log = b.op("neg", f"{name}_log", b.op("mul", f"{name}_off_off", off, off))
    largest = b.op("gather", f"{name}_log_0", log, grid.column[0])
    for k in range(1, layer.scales):
        largest = b.op("max", f"{name}_most_{k}", largest, b.op("gather", f"{name}_log_{k}", log, grid.column[k]))
    below = b.op("sub", f"{name}_below", log, b.op("gather", f"{name}_most_of", largest, grid.of))
    weight = b.op("exp", f"{name}_weight", b.op("clamp", f"{name}_held", below, lo=NEGLIGIBLE, hi=0.0, flag=None))
    total = b.op("segment_sum", f"{name}_weights", weight, grid.of, axes=[grid.neurons])
    return weight, b.op("max", f"{name}_total", total, b.const("one", 1.0))


def _recall(b: Builder, grid: TraceLayout, e: Value, weights: tuple[Value, Value]) -> Value:
    """``sum_k r_k*e_k``."""
    weight, total = weights
    mass = b.op("segment_sum", "recalled_mass", b.op("mul", "r_e", weight, e), grid.of, axes=[grid.neurons])
    return b.op("div", "recalled", mass, total)


def _kept(b: Builder, layer: CtGru, dt: Value, axis: Axis) -> Value:
    """``decay**dt`` per scale; a decay of 0 keeps nothing."""
    gone = layer.decay == 0
    log = b.const("ln_decay", np.log(np.where(gone, 1.0, layer.decay)), [axis])
    kept = b.op("exp", "kept", b.op("mul", "ln_decay_dt", log, dt))
    return b.op("mul", "kept_any", kept, b.const("keeps", 1.0 - gone, [axis])) if np.any(gone) else kept


def _sum(b: Builder, name: str, layer: Dense, x: Value, other: Value, axis: Axis) -> Value:
    """``layer [x, other]``."""
    width = x.shape[0]
    rest = weighted(b, f"{name}_h", layer.weight[:, width:], other, layer.bias, axis)
    return weighted(b, name, layer.weight[:, :width], x, rest, axis)
