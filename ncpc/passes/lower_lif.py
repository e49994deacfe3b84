"""Leaky integrate-and-fire neurons over the reals.

The membrane is counted from its reset potential, ``u = v - v_reset``: it starts at 0 and a spike takes it to 0, which
is exact in every arithmetic. As dt <= tau, a step is a weighted mean of ``u`` and its drive, so ``u`` is bounded by
what drives it: the interval of the drive, with 0, is a box that no step leaves.
"""

from __future__ import annotations

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.cells import Lif
from ncpc.ir.policy import DtRange
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.weigh import weighted


def lower_lif(layer: Lif, ctx: Lowering) -> Value:
    """``u <- u + (dt/tau)*(drive - u)``, ``s <- u > v_threshold - v_reset``, ``u <- 0`` where s."""
    _refuse_long(layer, ctx.dt_range)
    b, axis = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs)
    u, s = b.value("u", [axis]), b.value("s", [axis])
    r = layer.r[:, None]
    b.origin = Origin("lif", "drive = r*(W_x x + W_h s + b) + v_leak - v_reset", axis.name)
    base = weighted(b, "drive_x", r * layer.weight_x, ctx.x, layer.r * layer.bias + layer.v_leak - layer.v_reset, axis)
    drive = weighted(b, "drive_s", r * layer.weight_h, s, base, axis)
    b.origin = Origin("lif", "u <- u + (dt/tau)*(drive - u)", axis.name)
    share = b.op("mul", "share", b.const("rate", 1.0 / layer.tau, [axis]), ctx.dt)
    # 1/tau is rounded in integers: the largest dt may not make the share more than 1.
    charged = b.op("mix", "charged", u, drive, b.op("min", "share_1", share, b.const("one", 1.0)))
    b.origin = Origin("lif", "s <- u > v_threshold - v_reset, u <- 0 where s", axis.name)
    spikes = b.op("gt", "spikes", charged, b.const("threshold", layer.v_threshold - layer.v_reset, [axis]))
    after = b.op("mix", "u_next", charged, b.const("zero", 0.0), spikes)
    ctx.states.append(State(u, after.name, np.zeros(layer.outputs)))
    if np.any(layer.weight_h):
        ctx.states.append(State(s, spikes.name, np.zeros(layer.outputs)))
    return spikes


def _refuse_long(layer: Lif, dt: DtRange) -> None:
    """A step longer than tau overshoots what it decays to."""
    fastest = int(np.argmin(layer.tau))
    if dt.hi > layer.tau[fastest]:
        raise Unsupported(f"lif neuron {fastest}: dt {dt.hi:g} is longer than its tau {layer.tau[fastest]:g}: a step "
                          "would overshoot; use a smaller dt, or train with a larger tau")
