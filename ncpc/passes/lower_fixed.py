"""Quantized policy -> integer program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.check import check
from ncpc.ir.policy import Layer, Policy
from ncpc.ir.program import Origin, Program, State, Value
from ncpc.ir.quantized import TABLE_SHIFT, Z_FRAC, QuantizedActivation, QuantizedDense, QuantizedPolicy
from ncpc.ir.types import Axis, Fixed
from ncpc.passes.lower import dt_port, input_port, output_port
from ncpc.passes.lower_fixed_ltc import lower_fixed_ltc

INT32 = 32


@dataclass
class FixedLowering:
    """What a layer's lowering reads and adds to. ``dt`` is (norm, recip) of the limited run-time dt, or None."""

    builder: Builder
    x: Value
    table: Value
    dt: tuple[Value, Value] | None
    dt_frac: int
    states: list[State] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)


def lower_fixed(policy: Policy, quantized: QuantizedPolicy) -> Program:
    """One step in integers: limit the inputs, then each layer, all constants from ``quantized``."""
    b = Builder(Fixed(INT32, 0))
    x = b.value("x_in", [Axis("inputs", policy.inputs)], quantized.x)
    dt = None if quantized.dt is None else b.value("dt_in", (), quantized.dt)
    table_axis = Axis("sigmoid_entries", len(quantized.table))
    table = b.const("sigmoid_table", quantized.table, [table_axis], Fixed(INT32, 15))
    dt_frac = quantized.dt.frac if quantized.dt else 0
    ctx = FixedLowering(b, _limited_x(b, x, quantized), table, _divided_dt(b, dt, quantized), dt_frac)
    for layer, numbers in zip(policy.layers, quantized.layers, strict=True):
        ctx.x = _lowering(layer)(layer, numbers, ctx)
    program = Program(
        name=policy.name,
        x=input_port(policy, x, quantized.x_fracs),
        y=output_port(policy, ctx.x, quantized.layers[-1].y_fracs),
        dt=None if dt is None else dt_port(policy, dt, (dt_frac,)),
        states=tuple(ctx.states), constants=b.constants, body=b.body, labels=ctx.labels,
    )
    check(program)
    return program


def _limited_x(b: Builder, x: Value, q: QuantizedPolicy) -> Value:
    b.origin = Origin("input", "inputs limited to their declared range", "inputs")
    lo = b.const("x_lo", q.x_range[:, 0], x.axes, q.x)
    hi = b.const("x_hi", q.x_range[:, 1], x.axes, q.x)
    return b.op("clamp", "x", x, type_=q.x, lo=lo.name, hi=hi.name, flag="input_saturated")


def _divided_dt(b: Builder, dt: Value | None, q: QuantizedPolicy) -> tuple[Value, Value] | None:
    if dt is None or q.dt is None or q.dt_range is None:
        return None
    b.origin = Origin("input", "1/dt, dt limited to its declared range")
    lo, hi = q.dt_range
    limited = b.op("clamp", "dt", dt, type_=q.dt, lo=lo, hi=hi, flag="dt_out_of_range")
    exponent = b.op("norm", "dt_norm", limited)
    return exponent, b.op("recip", "dt_recip", limited, exponent)


def _lower_dense(layer: Layer, q: QuantizedDense, ctx: FixedLowering) -> Value:
    b, out = ctx.builder, Axis(ctx.builder.unique("dense_outputs"), layer.outputs)
    b.origin = Origin("dense", "y = W x + b", out.name)
    weight = b.const("dense_w", q.weight, [out, *ctx.x.axes], q.weight_type)
    total_type = Fixed(INT32, q.y.frac + q.k)
    bias = b.const("dense_b", q.bias, [out], total_type)
    total = b.op("matmul", "dense_sum", weight, ctx.x, bias, type_=total_type)
    return b.op("shr", "dense_y", total, type_=q.y, k=q.k)


def _lower_activation(layer: Layer, q: QuantizedActivation, ctx: FixedLowering) -> Value:
    b, x = ctx.builder, ctx.x
    assert isinstance(x.type, Fixed)
    b.origin = Origin("activation", q.function, x.axes[0].name)
    if q.table is None:
        return b.op("relu", "relu", x, type_=q.y)
    table = b.const(f"{q.function}_table", q.table, [Axis(f"{q.function}_entries", len(q.table))], q.y)
    argument = Fixed(INT32, max(x.type.frac, Z_FRAC))
    if q.k_z < 0:
        x = b.op("shl", f"{q.function}_wide", x, type_=argument, k=-q.k_z)
    offset = b.const(f"{q.function}_offset", q.offset, (), argument)
    index = b.op("add", f"{q.function}_biased", x, offset, type_=argument)
    if q.k_z > 0:
        index = b.op("asr", f"{q.function}_index", index, type_=Fixed(INT32, Z_FRAC), k=q.k_z)
    return b.op("lut", q.function, index, table, type_=q.y, k=TABLE_SHIFT)


_LOWERINGS: dict[str, Callable[[Any, Any, FixedLowering], Value]] = {
    "ltc": lower_fixed_ltc,
    "dense": _lower_dense,
    "activation": _lower_activation,
}


def _lowering(layer: Layer) -> Callable[[Any, Any, FixedLowering], Value]:
    if layer.kind not in _LOWERINGS:
        kinds = ", ".join(sorted(_LOWERINGS))
        raise Unsupported(f"layer kind '{layer.kind}' has no integer form; use --quant float32, or one of: {kinds}")
    return _LOWERINGS[layer.kind]
