"""The LTC step over the reals (Hasani et al. 2021, eq. 2-3; ncps ``ltc_cell``; Lechner et al. 2020, methods)."""

from __future__ import annotations

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.policy import Ltc, Synapses
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.types import Axis, Index
from ncpc.passes.context import Lowering


def lower_ltc(layer: Ltc, ctx: Lowering) -> Value:
    """``u = x*input_w + input_b``, sensory terms once, ``unfolds`` fused steps, then the motor neurons' outputs."""
    if layer.solver != "fused":
        raise Unsupported(f"LTC solver '{layer.solver}' cannot be lowered; supported: fused")
    b, neurons = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.neurons)
    v = b.value("v", [neurons])
    ctx.labels[neurons.name] = layer.names
    b.origin = Origin("ltc", "u = x*input_w + input_b", "inputs")
    u = _affine(b, "u", ctx.x, layer.input_w, layer.input_b)
    b.origin = Origin("ltc", "terms that every unfold shares", neurons.name)
    cm_t = b.op("div", "cm_t", b.const("cm_unfolds", layer.cm * layer.unfolds, [neurons]), ctx.dt)
    leak = b.const("leak", layer.gleak * layer.vleak, [neurons])
    den_l = b.op("add", "den_l", cm_t, b.const("gleak_eps", layer.gleak + layer.epsilon, [neurons]))
    b.origin = Origin("ltc", "num_s, den_s over sensory synapses", "sensory_synapses")
    base = _currents(b, "_s", layer.sensory, u, (leak, den_l))
    with b.repeat(layer.unfolds, v=(v, None)) as loop:
        loop.set("v", _unfold(b, layer, loop["v"], cm_t, base))
    ctx.states.append(State(v, loop["v"].name, np.zeros(layer.neurons)))
    b.origin = Origin("ltc", "y = v[motor]*output_w + output_b", "outputs")
    motor = b.op("slice", "motor", loop["v"], axes=[Axis(b.unique("outputs"), layer.outputs)], start=0)
    return _affine(b, "y", motor, layer.output_w, layer.output_b)


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
