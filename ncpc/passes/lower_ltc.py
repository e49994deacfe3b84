"""The LTC step over the reals (Hasani et al. 2021, eq. 2-3; ncps ``ltc_cell``; Lechner et al. 2020, methods)."""

from __future__ import annotations

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.policy import F64, Ltc, Synapses
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.tableau import TABLEAUS
from ncpc.ir.types import Axis, Index
from ncpc.passes.context import Lowering
from ncpc.passes.solvers import explicit_step, lengths, refuse_unstable

LONG = 40.0
"""Time constants after which float64 sees nothing of a state any more."""


def lower_ltc(layer: Ltc, ctx: Lowering) -> Value:
    """``u = x*input_w + input_b``, sensory terms once, ``unfolds`` steps, then the motor neurons' outputs."""
    v = ltc_state(layer, ctx)
    y, after = ltc_step(layer, ctx.builder, ctx.x, v, ctx.dt)
    ctx.states.append(State(v, after.name, np.zeros(layer.neurons)))
    return y


def _rates(layer: Ltc) -> F64:
    """Each neuron's decay rate with all its synapses open."""
    if np.any(layer.cm == 0):
        name = layer.names[int(np.argmin(layer.cm))]
        raise Unsupported(f"{name}: cm = 0, so it has no rate of change and solver '{layer.solver}' cannot step it; "
                          "use solver fused")
    conductance = layer.gleak + layer.epsilon
    for synapses in (layer.sensory, layer.recurrent):
        conductance = conductance + np.bincount(synapses.post, synapses.w, minlength=layer.neurons)
    rates: F64 = conductance / layer.cm
    return rates


def _refuse_exponential(layer: Ltc) -> None:
    """Raise ``Unsupported`` where a neuron has no rate, or may have no target."""
    for missing, why in ((layer.cm, "cm = 0, so it has no rate of change"),
                         (layer.gleak + layer.epsilon, "gleak + epsilon = 0, so it may have no target")):
        if np.any(missing == 0):
            name = layer.names[int(np.argmin(missing))]
            raise Unsupported(f"{name}: {why}, and solver 'exponential' cannot step it; use solver fused")


def ltc_state(layer: Ltc, ctx: Lowering) -> Value:
    """A fresh state over named neurons; raises Unsupported for explicit steps that are unstable.

    A neuron decays fastest with all its synapses open, at (gleak + sum w + epsilon)/cm: an explicit step may not exceed
    what that allows.
    """
    if layer.solver == "exponential":
        _refuse_exponential(layer)
    if layer.solver in TABLEAUS:
        refuse_unstable(layer.names, _rates(layer), ctx.dt_range.hi / layer.unfolds, layer.solver, layer.unfolds,
                        ", or solver fused")
    neurons = Axis(ctx.builder.unique("neurons"), layer.neurons)
    ctx.labels[neurons.name] = layer.names
    return ctx.builder.value("v", [neurons])


def ltc_step(
    layer: Ltc, b: Builder, x: Value, v: Value, dt: Value, bounds: tuple[float, float] | None = None
) -> tuple[Value, Value]:
    """The output and the new state; ``bounds``, known to hold for it, are written down with every fused unfold."""
    b.origin = Origin("ltc", "u = x*input_w + input_b", "inputs")
    u = _affine(b, "u", x, layer.input_w, layer.input_b)
    after = _fused(layer, b, u, v, dt, bounds) if layer.solver == "fused" else _solved(layer, b, u, v, dt)
    b.origin = Origin("ltc", "y = v[motor]*output_w + output_b", "outputs")
    motor = b.op("slice", "motor", after, axes=[Axis(b.unique("outputs"), layer.outputs)], start=0)
    return _affine(b, "y", motor, layer.output_w, layer.output_b), after


def _fused(
    layer: Ltc, b: Builder, u: Value, v: Value, dt: Value, bounds: tuple[float, float] | None
) -> Value:
    """``v <- (cm_t*v + num) / (cm_t + den)``: implicit in v, explicit in the conductances."""
    neurons = v.axes[0]
    b.origin = Origin("ltc", "terms that every unfold shares", neurons.name)
    cm_t = b.op("div", "cm_t", b.const("cm_unfolds", layer.cm * layer.unfolds, [neurons]), dt)
    leak = b.const("leak", layer.gleak * layer.vleak, [neurons])
    den_l = b.op("add", "den_l", cm_t, b.const("gleak_eps", layer.gleak + layer.epsilon, [neurons]))
    b.origin = Origin("ltc", "num_s, den_s over sensory synapses", "sensory_synapses")
    base = _currents(b, "_s", layer.sensory, u, (leak, den_l))
    with b.repeat(layer.unfolds, v=(v, None)) as loop:
        after = _unfold(b, layer, loop["v"], cm_t, base)
        loop.set("v", b.op("clamp", "v_bounded", after, lo=bounds[0], hi=bounds[1], flag=None) if bounds else after)
    return loop["v"]


def _solved(layer: Ltc, b: Builder, u: Value, v: Value, dt: Value) -> Value:
    """``cm dv/dt = num - den*v`` by exponential, Euler or Runge-Kutta steps of dt/unfolds."""
    neurons = v.axes[0]
    b.origin = Origin("ltc", "terms that every unfold shares", neurons.name)
    h_cm = b.op("mul", "h_cm", b.const("per_cm_unfolds", 1.0 / (layer.cm * layer.unfolds), [neurons]), dt)
    size = lengths(b, h_cm, layer.solver) if layer.solver in TABLEAUS else {}
    leak = b.const("leak", layer.gleak * layer.vleak, [neurons])
    den_l = b.const("gleak_eps", layer.gleak + layer.epsilon, [neurons])
    b.origin = Origin("ltc", "num_s, den_s over sensory synapses", "sensory_synapses")
    base = _currents(b, "_s", layer.sensory, u, (leak, den_l))

    def driven(at: Value) -> tuple[Value, Value]:
        b.origin = Origin("ltc", "num, den over recurrent synapses", "synapses")
        num_den = _currents(b, "", layer.recurrent, at, base)
        b.origin = Origin("ltc", f"cm dv/dt = num - den*v, {layer.solver}", neurons.name)
        return num_den

    def current(at: Value) -> Value:
        num, den = driven(at)
        return b.op("sub", "current", num, b.op("mul", "den_v", den, at))

    with b.repeat(layer.unfolds, v=(v, None)) as loop:
        now = loop["v"]
        loop.set("v", explicit_step(b, current, now, size, layer.solver) if size else
                 _exponential_step(b, now, driven(now), den_l, h_cm, hull_of_targets(layer)))
    return loop["v"]


def _exponential_step(b: Builder, v: Value, num_den: tuple[Value, Value], leak: Value, h_cm: Value,
                      hull: tuple[float, float]) -> Value:
    """``v_inf + (v - v_inf)*exp(-h*den/cm)``, ``v_inf = num/den``: exact while num and den stand still (exponential
    Euler: Dayan & Abbott 2001, 5.11; Hochbruck & Ostermann 2010; for gates Rush & Larsen 1978).

    That den is at least ``leak`` and ``v_inf`` within ``hull`` is written down for those who round.
    """
    num, den = num_den[0], b.op("max", "den_least", num_den[1], leak)
    target = b.op("clamp", "v_inf", b.op("div", "num_den", num, den), lo=hull[0], hi=hull[1], flag=None)
    h_tau = b.op("clamp", "h_tau", b.op("mul", "h_cm_den", h_cm, den), lo=0.0, hi=LONG, flag=None)
    keep = b.op("exp", "keep", b.op("neg", "minus_h_tau", h_tau))
    return b.op("mix", "v_next", target, v, keep)


def hull_of_targets(layer: Ltc, *states: float) -> tuple[float, float]:
    """The least and largest of vleak, the reversal potentials, 0 (epsilon's share) and ``states``.

    What a neuron is driven to is a mean, with weights >= 0, of those.
    """
    ends = np.concatenate([[0.0, *states], layer.vleak, layer.sensory.erev, layer.recurrent.erev])
    return float(ends.min()), float(ends.max())


def _unfold(b: Builder, layer: Ltc, v: Value, cm_t: Value, base: tuple[Value, Value]) -> Value:
    """``v <- (cm_t*v + num) / den``, num and den starting from what every unfold shares."""
    b.origin = Origin("ltc", "num, den over recurrent synapses", "synapses")
    num, den = _currents(b, "", layer.recurrent, v, base)
    b.origin = Origin("ltc", "v <- (cm_t*v + num) / den", v.axes[0].name)
    return b.op("div", "v_next", b.op("add", "numerator", b.op("mul", "cm_t_v", cm_t, v), num), den)


def _currents(b: Builder, tag: str, s: Synapses, source: Value, base: tuple[Value, Value]) -> tuple[Value, Value]:
    """``num = base + sum w*sigmoid(sigma*(u_pre - mu))*erev``, ``den`` without erev, per postsynaptic neuron."""
    neurons = base[0].axes[0]
    axis = Axis(b.unique("sensory_synapses" if tag else "synapses"), len(s))
    pre = b.const(f"pre{tag}", s.pre, [axis], Index(source.axes[-1].name))
    post = b.const(f"post{tag}", s.post, [axis], Index(neurons.name))
    u_pre = b.op("gather", f"u_pre{tag}", source, pre)
    from_mu = b.op("sub", f"from_mu{tag}", u_pre, b.const(f"mu{tag}", s.mu, [axis]))
    z = b.op("mul", f"z{tag}", b.const(f"sigma{tag}", s.sigma, [axis]), from_mu)
    g = b.op("mul", f"g{tag}", b.const(f"w{tag}", s.w, [axis]), b.op("sigmoid", f"s{tag}", z))
    current = b.op("mul", f"i{tag}", g, b.const(f"erev{tag}", s.erev, [axis]))
    num = b.op("segment_sum", f"num{tag}", current, post, base[0], axes=[neurons])
    return num, b.op("segment_sum", f"den{tag}", g, post, base[1], axes=[neurons])


def _affine(b: Builder, name: str, x: Value, w: np.ndarray, offset: np.ndarray) -> Value:
    """``x*w + offset``, leaving out what is the identity (ncps' input and output mappings None and linear)."""
    if not np.all(w == 1.0):
        x = b.op("mul", f"{name}_w", x, b.const(f"{name}_scale", w, x.axes))
    return b.op("add", name, x, b.const(f"{name}_offset", offset, x.axes)) if np.any(offset != 0.0) else x
