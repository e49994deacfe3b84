"""The LTC step in integers.

The semi-implicit update v' = (cm_t*v + N)/(cm_t + G), with N and G the sums of currents and conductances, is computed
in its equal form v' = v + (N - G*v)/(cm_t + G). The quotient goes to 0 at the fixed point, so an error of the division
changes how fast the state moves and not where it rests, and cm_t only enters the divisor.
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.policy import Ltc
from ncpc.ir.program import Origin, State, Value
from ncpc.ir.quantized import S_FRAC, TABLE_SHIFT, QuantizedLtc, QuantizedSynapses, argument_frac
from ncpc.ir.types import Axis, Fixed, Index
from ncpc.passes.context import FixedLowering

Sums = tuple[Value, Value]
"""Conductances G and currents N per neuron."""


def lower_fixed_ltc(layer: Ltc, q: QuantizedLtc, ctx: FixedLowering) -> Value:
    """Sensory sums once, ``unfolds`` updates, outputs of the motor neurons."""
    b, neurons = ctx.builder, Axis(ctx.builder.unique("neurons"), layer.neurons)
    v = b.value("v", [neurons], q.v)
    ctx.labels[neurons.name] = layer.names
    b.origin = Origin("ltc", "cm_t = cm*unfolds/dt", neurons.name)
    cm_t = _cm_t(b, q, ctx, neurons)
    gleak = b.const("gleak", q.gleak, [neurons], Fixed(32, q.g))
    leak = b.const("leak", q.leak, [neurons], Fixed(32, q.n))
    base = _sums(b, "_s", q, q.sensory, ctx.x, ctx.table, (gleak, leak))
    with b.repeat(layer.unfolds, v=(v, None)) as loop:
        loop.set("v", _unfold(b, q, loop["v"], cm_t, base, ctx.table))
    ctx.states.append(State(v, loop["v"].name, np.zeros(layer.neurons, np.int64), q.box))
    return _outputs(b, q, loop["v"])


def _cm_t(b: Builder, q: QuantizedLtc, ctx: FixedLowering, neurons: Axis) -> Value:
    if q.cm_t is not None:
        return b.const("cm_t", q.cm_t, [neurons], Fixed(32, q.d))
    assert ctx.rate is not None
    assert isinstance(ctx.rate.type, Fixed)
    cm = b.const("cm_unfolds", q.cm, [neurons], Fixed(32, q.cm_frac))
    return b.op("mulshr", "cm_t", cm, ctx.rate, type_=Fixed(32, q.d), k=q.cm_frac + ctx.rate.type.frac - q.d)


def _unfold(b: Builder, q: QuantizedLtc, v: Value, cm_t: Value, base: Sums, table: Value) -> Value:
    """``v <- v + (N - G*v) / (cm_t + G)``."""
    b.origin = Origin("ltc", "u = the state as 16 bits", v.axes[0].name)
    u = v if q.v == q.u else b.op("shr", "u", v, type_=q.u, k=q.v.frac - q.u.frac)
    g, n = _sums(b, "", q, q.recurrent, u, table, base)
    b.origin = Origin("ltc", "v <- v + (N - G*v) / (cm_t + G)", v.axes[0].name)
    pull = b.op("mulshr", "pull", g, v, type_=Fixed(32, q.n), k=q.g + q.v.frac - q.n)
    drive = b.op("sub", "drive", n, pull, type_=Fixed(32, q.n))
    g_d = g if q.g == q.d else b.op("shr", "g_d", g, type_=Fixed(32, q.d), k=q.g - q.d)
    divisor = b.op("add", "divisor", cm_t, g_d, type_=Fixed(32, q.d))
    inverse_type = Fixed(32, 46 + q.k_inverse - q.d)
    inverse = b.op("inverse", "divisor_inverse", divisor, type_=inverse_type, k=q.k_inverse)
    delta = b.op("mulshr", "delta", drive, inverse, type_=Fixed(32, q.v.frac), k=q.k_delta)
    return b.op("add", "v_next", v, delta, type_=q.v)


def _sums(b: Builder, tag: str, q: QuantizedLtc, s: QuantizedSynapses, source: Value, table: Value, base: Sums) -> Sums:
    """``G = base + sum asr(w*s)``, ``N = base + sum asr(we*s)`` with s the sigmoid, per postsynaptic neuron.

    Rounding down costs an instruction less than rounding, for every synapse; the bias is some units of 2**-26.
    """
    neurons, axis = base[0].axes[0], Axis(b.unique("sensory_synapses" if tag else "synapses"), len(s.pre))
    b.origin = Origin("ltc", "G, N over " + axis.name.replace("_", " "), axis.name)
    pre = b.const(f"pre{tag}", s.pre, [axis], Index(source.axes[-1].name))
    post = b.const(f"post{tag}", s.post, [axis], Index(neurons.name))
    sigmoid = _sigmoid(b, tag, s, b.op("gather", f"u_pre{tag}", source, pre, type_=source.type), table)
    width = s.format.bits
    w = b.const(f"w{tag}", s.w, [axis], Fixed(width, s.format.w))
    we = b.const(f"we{tag}", s.we, [axis], Fixed(width, s.format.we))
    g = _shifted(b, f"g{tag}", b.op("mul", f"ws{tag}", w, sigmoid, type_=Fixed(32, s.format.w + S_FRAC)), s.k_den)
    i = _shifted(b, f"i{tag}", b.op("mul", f"wes{tag}", we, sigmoid, type_=Fixed(32, s.format.we + S_FRAC)), s.k_num)
    total_g = b.op("segment_sum", f"den{tag}", g, post, base[0], axes=[neurons], type_=Fixed(32, q.g))
    return total_g, b.op("segment_sum", f"num{tag}", i, post, base[1], axes=[neurons], type_=Fixed(32, q.n))


def _sigmoid(b: Builder, tag: str, s: QuantizedSynapses, u_pre: Value, table: Value) -> Value:
    """The table at ``asr(sigma*u + offset, k_z)``."""
    assert isinstance(u_pre.type, Fixed)
    z = argument_frac(table.shape[0] - 1)
    product = Fixed(32, s.format.sigma + u_pre.type.frac)
    argument = Fixed(32, max(product.frac, z))
    sigma = b.const(f"sigma{tag}", s.sigma, u_pre.axes, Fixed(s.format.sigma_bits, s.format.sigma))
    offset = b.const(f"offset{tag}", s.offset, u_pre.axes, Fixed(32, argument.frac - s.k_offset))
    if s.k_offset:
        offset = b.op("shl", f"offset_wide{tag}", offset, type_=argument, k=s.k_offset)
    slope = b.op("mul", f"slope{tag}", sigma, u_pre, type_=product)
    if s.k_z < 0:
        slope = b.op("shl", f"slope_wide{tag}", slope, type_=argument, k=-s.k_z)
    index = b.op("add", f"biased{tag}", slope, offset, type_=argument)
    if s.k_z > 0:
        index = b.op("asr", f"z{tag}", index, type_=Fixed(32, z), k=s.k_z)
    return b.op("lut", f"s{tag}", index, table, type_=table.type, k=TABLE_SHIFT)


def _shifted(b: Builder, name: str, value: Value, k: int) -> Value:
    assert isinstance(value.type, Fixed)
    return value if k == 0 else b.op("asr", name, value, type_=Fixed(32, value.type.frac - k), k=k)


def _outputs(b: Builder, q: QuantizedLtc, v: Value) -> Value:
    """``y = v[motor]*output_w + output_b``."""
    outputs = Axis(b.unique("outputs"), len(q.output_w))
    b.origin = Origin("ltc", "y = v[motor]*output_w + output_b", outputs.name)
    motor = b.op("slice", "motor", v, axes=[outputs], type_=q.v, start=0)
    weight = b.const("output_w", q.output_w, [outputs], Fixed(32, q.output_w_frac))
    scaled = b.op("mulshr", "motor_w", motor, weight, type_=Fixed(32, q.y.frac), k=q.k_y)
    return b.op("add", "y", scaled, b.const("output_b", q.output_b, [outputs], Fixed(32, q.y.frac)), type_=q.y)
