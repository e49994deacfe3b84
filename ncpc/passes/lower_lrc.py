"""The liquid-resistance liquid-capacitance cell over the reals (Farsang, Neubauer & Grosu 2024, arXiv 2403.08791).

Conductances saturate: where a step is no longer than 1 it keeps ``1 - e*sigmoid(f)`` >= 0 of ``h`` and adds at most
``e*|vleak|``, and as f >= gleak, no step leaves [-|vleak|/sigmoid(gleak), |vleak|/sigmoid(gleak)].
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.cells import Lrc
from ncpc.ir.policy import F64
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis, Index
from ncpc.passes.context import Lowering
from ncpc.passes.solvers import refuse_unstable
from ncpc.passes.weigh import weighted


def lower_lrc(layer: Lrc, ctx: Lowering) -> Value:
    """``h <- h + (dt/unfolds)*e*(tanh(u)*vleak - sigmoid(f)*h)``, ``unfolds`` times."""
    step = ctx.dt_range.hi / layer.unfolds
    names = tuple(f"neuron {i}" for i in range(layer.outputs))
    refuse_unstable(names, _sigmoid(layer.gleak + layer.w.sum(axis=1)), step, "euler", layer.unfolds)
    b, axis, own = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs), layer.inputs
    h, weight = b.value("h", [axis]), layer.elastance.weight
    b.origin = Origin("lrc", "terms that every unfold shares", axis.name)
    size = b.op("mul", "size", ctx.dt, b.const("per_unfold", 1.0 / layer.unfolds)) if layer.unfolds > 1 else ctx.dt
    gleak, vleak = b.const("gleak", layer.gleak, [axis]), b.const("vleak", layer.vleak, [axis])
    drive = weighted(b, "o_x", weight[:, :own], ctx.x, layer.elastance.bias, axis)
    sensory = _conductances(b, "_x", layer, slice(own), ctx.x, (gleak, gleak))
    bound = float(np.max(np.abs(layer.vleak) / _sigmoid(layer.gleak)))
    with b.repeat(layer.unfolds, h=(h, None)) as loop:
        now = loop["h"]
        f, u = _conductances(b, "_h", layer, slice(own, None), now, sensory)
        b.origin = Origin("lrc", "e = sigmoid(o), or sigmoid(o + shift) - sigmoid(o - shift)", axis.name)
        o = weighted(b, "o_h", weight[:, own:], now, drive, axis)
        share = b.op("mul", "share", size, _elastance(b, o, layer.shift))
        b.origin = Origin("lrc", "h <- h + (dt/unfolds)*e*(tanh(u)*vleak - sigmoid(f)*h)", axis.name)
        goal = b.op("mul", "goal", b.op("tanh", "tanh_u", u), vleak)
        slope = b.op("sub", "slope", goal, b.op("mul", "leak", b.op("sigmoid", "sigmoid_f", f), now))
        ahead = b.op("add", "h_next", now, b.op("mul", "change", share, slope))
        held = step <= 1.0 and bound > 0
        loop.set("h", b.op("clamp", "h_held", ahead, lo=-bound, hi=bound, flag=None) if held else ahead)
    ctx.states.append(State(h, loop["h"].name, np.zeros(layer.outputs)))
    return loop["h"]


def _conductances(
    b: Builder, tag: str, layer: Lrc, columns: slice, source: Value, start: tuple[Value, Value]
) -> tuple[Value, Value]:
    """``f`` and ``u``: ``start`` plus the sums of w*s and of k*s over the synapses of some columns."""
    neurons = start[0].axes[0]
    sigma, mu, w, k = (matrix[:, columns] for matrix in (layer.sigma, layer.mu, layer.w, layer.k))
    post, pre = np.nonzero((w != 0) | (k != 0))
    axis = Axis(b.unique(f"synapses{tag}"), len(post))
    b.origin = Origin("lrc", "f = gleak + sum w*s, u = gleak + sum k*s, s = sigmoid(sigma*(y - mu))", axis.name)
    before = b.op("gather", f"y{tag}", source, b.const(f"pre{tag}", pre, [axis], Index(source.axes[-1].name)))
    from_mu = b.op("sub", f"from_mu{tag}", before, b.const(f"mu{tag}", mu[post, pre], [axis]))
    s = b.op("sigmoid", f"s{tag}", b.op("mul", f"z{tag}", b.const(f"sigma{tag}", sigma[post, pre], [axis]), from_mu))
    ends = b.const(f"post{tag}", post, [axis], Index(neurons.name))
    f, u = (b.op("segment_sum", f"{name}{tag}", b.op("mul", f"{name}_s{tag}", b.const(
        f"{weight}{tag}", matrix[post, pre], [axis]), s), ends, begin, axes=[neurons])
        for name, weight, matrix, begin in (("f", "w", w, start[0]), ("u", "k", k, start[1])))
    return f, u


def _elastance(b: Builder, o: Value, shift: F64 | None) -> Value:
    if shift is None:
        return b.op("sigmoid", "elastance", o)
    by = b.const("shift", shift, o.axes)
    above, below = b.op("add", "o_above", o, by), b.op("sub", "o_below", o, by)
    return b.op("sub", "elastance", b.op("sigmoid", "e_above", above), b.op("sigmoid", "e_below", below))


def _sigmoid(z: F64) -> F64:
    value: F64 = 1.0 / (1.0 + np.exp(-z))
    return value
