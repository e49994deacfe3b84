"""The CfC step over the reals (Hasani et al. 2022, eq. 10; ncps ``cfc_cell``, ``wired_cfc_cell``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.gated import Cfc, WiredCfc
from ncpc.ir.policy import F64, Dense
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.functions import elementwise, magnitude
from ncpc.passes.weigh import Wires, is_sparse, summed, weighted, wires

Sources = Sequence[tuple[Value, slice]]
"""The vectors that a dense layer reads side by side, and the columns that meet each."""

LECUN = (0.666, 1.7159)
"""LeCun's tanh: slope of the argument, height of the result."""


def lower_cfc(layer: Cfc, ctx: Lowering) -> Value:
    """One cell; its state is its output."""
    h = cfc_state(layer, ctx, "h")
    after = cfc_step(layer, ctx, ctx.x, h)
    ctx.states.append(State(h, after.name, np.zeros(layer.neurons)))
    return after


def lower_wired_cfc(layer: WiredCfc, ctx: Lowering) -> Value:
    """The stages in a row, each with a state of its own."""
    hs = [cfc_state(stage, ctx, f"h_{stage.roles[0]}") for stage in layer.stages]
    after = wired_cfc_step(layer, ctx, ctx.x, hs)
    ctx.states.extend(State(h, new.name, np.zeros(h.shape)) for h, new in zip(hs, after, strict=True))
    return wired_cfc_output(layer, ctx.builder, after)


def cfc_state(layer: Cfc, ctx: Lowering, name: str) -> Value:
    """A fresh state over named neurons."""
    neurons = Axis(ctx.builder.unique("neurons"), layer.neurons)
    ctx.labels[neurons.name] = layer.names
    return ctx.builder.value(name, [neurons])


def wired_cfc_output(layer: WiredCfc, b: Builder, after: Sequence[Value]) -> Value:
    """The last stage's new state, or its first values."""
    if layer.motors is None:
        return after[-1]
    return b.op("slice", "motor", after[-1], axes=[Axis(b.unique("outputs"), layer.motors)], start=0)


def wired_cfc_step(layer: WiredCfc, ctx: Lowering, x: Value, hs: Sequence[Value]) -> list[Value]:
    """The stages' new states."""
    after: list[Value] = []
    for stage, h in zip(layer.stages, hs, strict=True):
        x = cfc_step(stage, ctx, x, h)
        after.append(x)
    return after


def cfc_step(layer: Cfc, ctx: Lowering, x: Value, h: Value) -> Value:
    """The new state from the input and the old state."""
    b = ctx.builder
    sources = _backbone(layer, b, x, h)
    gain = LECUN[1] if layer.backbone and layer.activation == "lecun_tanh" else 1.0
    heads = {name: _scaled(head, gain, _slope(layer, name)) for name, head in _heads(layer).items()}
    b.origin = Origin("cfc", "heads ff1, ff2 of the features", h.axes[0].name)
    wired = _read_wires(b, heads, sources, h.axes[0])
    sums = {name: _head(b, name, head, sources, h.axes[0], wired) for name, head in heads.items()}
    return _pure(layer, ctx, sums["ff1"]) if layer.mode == "pure" else _gated(layer, b, sums, ctx.dt)


def _heads(layer: Cfc) -> dict[str, Dense]:
    heads = {"ff1": layer.ff1, "ff2": layer.ff2, "time_a": layer.time_a, "time_b": layer.time_b}
    return {name: head for name, head in heads.items() if head is not None}


def _slope(layer: Cfc, name: str) -> float:
    """LeCun's tanh in the heads is a plain one of less: of what they give to it, not of the gates."""
    return LECUN[0] if layer.head == "lecun_tanh" and layer.mode != "pure" and name.startswith("ff") else 1.0


def _scaled(layer: Dense, gain: float, slope: float) -> Dense:
    return layer if gain == slope == 1.0 else Dense(layer.weight * (gain * slope), layer.bias * slope)


def _backbone(layer: Cfc, b: Builder, x: Value, h: Value) -> Sources:
    """What the heads read. LeCun's tanh is a plain one here: its constants go into the weights around it."""
    sources: Sources = [(x, slice(0, layer.inputs)), (h, slice(layer.inputs, None))]
    lecun = layer.activation == "lecun_tanh"
    for i, dense in enumerate(layer.backbone):
        slope = LECUN[0] if lecun else 1.0
        weight = dense.weight * slope * (LECUN[1] if lecun and i else 1.0)
        axis = Axis(b.unique("backbone"), dense.outputs)
        b.origin = Origin("cfc", "z = backbone([x, h])", axis.name)
        z = _dense(b, f"backbone_{i}", Dense(weight, dense.bias * slope), sources, axis)
        sources = [(elementwise(b, "tanh" if lecun else layer.activation, z), slice(None))]
    return sources


def _dense(b: Builder, name: str, layer: Dense, sources: Sources, axis: Axis) -> Value:
    total: Value | F64 = layer.bias
    for source, columns in reversed(sources):
        total = weighted(b, f"{name}_{source.name}", layer.weight[:, columns], source, total, axis)
    return total if isinstance(total, Value) else b.const(f"{name}_b", total, [axis])


def _read_wires(b: Builder, heads: dict[str, Dense], sources: Sources, axis: Axis) -> Wires | None:
    """The synapses from the first source that ff1 and ff2 share, where they are few enough to be listed."""
    source, columns = sources[0]
    mask = np.any([heads[name].weight[:, columns] != 0 for name in ("ff1", "ff2") if name in heads], axis=0)
    return wires(b, "ff", mask, source, axis) if is_sparse(mask) else None


def _head(b: Builder, name: str, head: Dense, sources: Sources, axis: Axis, via: Wires | None) -> Value:
    if via is None or not name.startswith("ff"):
        return _dense(b, name, head, sources, axis)
    _, columns = sources[0]
    return summed(b, f"{name}_sum", via, head.weight[:, columns], _dense(b, name, head, sources[1:], axis))


def _gated(layer: Cfc, b: Builder, sums: dict[str, Value], dt: Value) -> Value:
    neurons = sums["ff1"].axes[0].name
    b.origin = Origin("cfc", "t = sigmoid(time_a*dt + time_b)", neurons)
    t = b.op("sigmoid", "t", b.op("add", "gate", b.op("mul", "time_a_dt", sums["time_a"], dt), sums["time_b"]))
    f1, f2 = (sums[f"ff{i}"] if layer.head == "linear" else b.op("tanh", f"f{i}", sums[f"ff{i}"]) for i in (1, 2))
    name = "h_next" if layer.head != "lecun_tanh" else "h_share"
    if layer.mode == "no_gate":
        b.origin = Origin("cfc", "h <- f1 + t*f2", neurons)
        mixed = b.op("add", name, f1, b.op("mul", "t_f2", t, f2))
    else:
        b.origin = Origin("cfc", "h <- f1 + t*(f2 - f1)", neurons)
        mixed = b.op("mix", name, f1, f2, t)
    return mixed if name == "h_next" else b.op("mul", "h_next", mixed, b.const("lecun_height", LECUN[1]))


def _pure(layer: Cfc, ctx: Lowering, ff1: Value) -> Value:
    assert layer.w_tau is not None
    assert layer.a is not None
    b = ctx.builder
    b.origin = Origin("cfc", "h <- a - a*exp(-dt*(|w_tau| + |ff1|))*ff1", ff1.axes[0].name)
    rate = b.op("add", "rate", magnitude(b, "ff1_size", ff1), b.const("w_tau", np.abs(layer.w_tau), ff1.axes))
    faded = b.op("exp", "faded", b.op("neg", "minus_dt_rate", b.op("mul", "dt_rate", rate, ctx.dt)))
    a = b.const("a", layer.a, ff1.axes)
    # |z|*exp(-dt*|z|) is at most 1/(e*dt): said aloud, because intervals do not see it.
    most = float(np.exp(-1.0) / ctx.dt_range.lo)
    part = b.op("clamp", "faded_bounded", b.op("mul", "faded_ff1", faded, ff1), lo=-most, hi=most, flag=None)
    return b.op("sub", "h_next", a, b.op("mul", "a_faded", a, part))
