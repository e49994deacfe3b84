"""The GRU-ODE over the reals (De Brouwer, Simm, Arany & Moreau 2019, arXiv 1905.12374), by Euler steps.

A step of dt/unfolds <= 1 is a mean of ``h`` and of a tanh, so that none leaves [-1, 1].
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.gated import GruOde
from ncpc.ir.policy import Dense
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.solvers import refuse_unstable
from ncpc.passes.weigh import weighted


def lower_gru_ode(layer: GruOde, ctx: Lowering) -> Value:
    """``h <- h + (dt/unfolds)*(1 - z)*(g - h)``, ``unfolds`` times."""
    step = ctx.dt_range.hi / layer.unfolds
    refuse_unstable(tuple(f"neuron {i}" for i in range(layer.neurons)), np.ones(layer.neurons), step, "euler",
                    layer.unfolds)
    b, axis, own = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.neurons), layer.inputs
    h = b.value("h", [axis])
    stay = Dense(-layer.update.weight, -layer.update.bias)  # 1 - sigmoid(a) = sigmoid(-a)
    gates = {"r": layer.reset, "rate": stay, "g": layer.detect}
    b.origin = Origin("gru_ode", "sums over x, once per step", axis.name)
    held = {name: weighted(b, f"{name}_x", gate.weight[:, :own], ctx.x, gate.bias, axis)
            for name, gate in gates.items()}
    size = b.op("mul", "size", ctx.dt, b.const("per_unfold", 1.0 / layer.unfolds)) if layer.unfolds > 1 else ctx.dt

    def total(name: str, source: Value) -> Value:
        return weighted(b, f"{name}_h", gates[name].weight[:, own:], source, held[name], axis)

    with b.repeat(layer.unfolds, h=(h, None)) as loop:
        now = loop["h"]
        b.origin = Origin("gru_ode", "gates r, 1 - z", axis.name)
        recalled = b.op("mul", "recalled", b.op("sigmoid", "r", total("r", now)), now)
        share = b.op("mul", "share", size, b.op("sigmoid", "rate", total("rate", now)))
        b.origin = Origin("gru_ode", "g = tanh(detect [x, r*h])", axis.name)
        g = b.op("tanh", "g", total("g", recalled))
        b.origin = Origin("gru_ode", "h <- h + (dt/unfolds)*(1 - z)*(g - h)", axis.name)
        loop.set("h", b.op("mix", "h_next", now, g, share) if step <= 1.0 else _ahead(b, now, g, share))
    ctx.states.append(State(h, loop["h"].name, np.zeros(layer.neurons)))
    return loop["h"]


def _ahead(b: Builder, h: Value, g: Value, share: Value) -> Value:
    """A step that may go beyond ``g``."""
    return b.op("add", "h_next", h, b.op("mul", "change", share, b.op("sub", "way", g, h)))
