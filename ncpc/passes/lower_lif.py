"""Leaky integrate-and-fire neurons over the reals.

The membrane is counted from its reset potential in units of the way to its threshold, ``u = (v - v_reset) /
(v_threshold - v_reset)``: it starts at 0, a spike takes it to 0, which is exact in every arithmetic, and the threshold
is 1. As dt <= tau, a step is a weighted mean of ``u`` and its drive, so ``u`` is bounded by what drives it: the
interval of the drive, with 0, is a box that no step leaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.cells import Lif
from ncpc.ir.policy import F64, DtRange
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.weigh import weighted


@dataclass(frozen=True, eq=False)
class Scaled:
    """A layer in units of ``u``: the drive is ``weight_x x + bias + weight_h s``."""

    weight_x: F64
    weight_h: F64
    bias: F64


def scaled(layer: Lif) -> Scaled:
    """``r``, ``v_leak``, ``v_threshold`` and ``v_reset`` as part of weights and bias."""
    way = layer.v_threshold - layer.v_reset
    gain = layer.r / way
    return Scaled(gain[:, None] * layer.weight_x, gain[:, None] * layer.weight_h,
                  gain * layer.bias + (layer.v_leak - layer.v_reset) / way)


def lower_lif(layer: Lif, ctx: Lowering) -> Value:
    """``u <- u + (dt/tau)*(drive - u)``, ``s <- u > 1``, ``u <- 0`` where s."""
    _refuse_long(layer, ctx.dt_range)
    b, axis, units = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.outputs), scaled(layer)
    u, s = b.value("u", [axis]), b.value("s", [axis])
    b.origin = Origin("lif", "drive = W_x x + b + W_h s", axis.name)
    drive = weighted(b, "drive_x", units.weight_x, ctx.x, units.bias, axis)
    if np.any(layer.weight_h):
        fed_back = weighted(b, "drive_s", units.weight_h, s, np.zeros(layer.outputs), axis)
        drive = b.op("add", "drive", drive, fed_back)
    b.origin = Origin("lif", "u <- u + (dt/tau)*(drive - u)", axis.name)
    share = b.op("mul", "share", b.const("rate", 1.0 / layer.tau, [axis]), ctx.dt)
    # 1/tau is rounded in integers: the largest dt may not make the share more than 1.
    one = b.const("one", 1.0)
    charged = b.op("mix", "charged", u, drive, b.op("min", "share_1", share, one))
    b.origin = Origin("lif", "s <- u > 1, u <- 0 where s", axis.name)
    spikes = b.op("gt", "spikes", charged, one)
    ctx.states.append(State(u, b.op("mix", "u_next", charged, b.const("zero", 0.0), spikes).name,
                            np.zeros(layer.outputs)))
    if np.any(layer.weight_h):
        ctx.states.append(State(s, spikes.name, np.zeros(layer.outputs)))
    return spikes


def _refuse_long(layer: Lif, dt: DtRange) -> None:
    """A step longer than tau overshoots what it decays to."""
    fastest = int(np.argmin(layer.tau))
    if dt.hi > layer.tau[fastest]:
        raise Unsupported(f"lif neuron {fastest}: dt {dt.hi:g} is longer than its tau {layer.tau[fastest]:g}: a step "
                          "would overshoot; use a smaller dt, or train with a larger tau")
