"""Quantized policy -> integer program."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.check import check
from ncpc.ir.policy import I64, INPUT, Layer, Ltc, Policy, Taps
from ncpc.ir.program import Origin, Program, Value
from ncpc.ir.quantized import S_FRAC, QuantizedLayer, QuantizedLtc, QuantizedPolicy, joined_type
from ncpc.ir.types import Axis, Fixed
from ncpc.ir.wires import taps_of
from ncpc.passes.context import FixedLowering
from ncpc.passes.fixed_tables import MOST
from ncpc.passes.lower import dt_port, input_port, output_port, started, tapped
from ncpc.passes.lower_fixed_generic import lower_fixed_generic
from ncpc.passes.lower_fixed_ltc import lower_fixed_ltc

INT32 = 32
LISTED = 64
"""Channels that have limits of their own even if they are all alike; a frame has more."""


def lower_fixed(policy: Policy, quantized: QuantizedPolicy) -> Program:
    """One step in integers: limit the inputs, then each layer, all constants from ``quantized``."""
    b = Builder(Fixed(INT32, 0))
    x = b.value("x_in", [Axis("inputs", policy.inputs)], quantized.x)
    dt = None if quantized.dt is None else b.value("dt_in", (), quantized.dt)
    table_axis = Axis("sigmoid_entries", len(quantized.table))
    table = b.const("sigmoid_table", _table(quantized), [table_axis], Fixed(INT32, S_FRAC))
    b.shared["sigmoid_table"] = table
    dt_frac = quantized.dt.frac if quantized.dt else 0
    limited = _limited_dt(b, dt, quantized)
    told = "what their type holds" if policy.range_guessed else "their declared range"
    b.origin = Origin("input", f"inputs limited to {told}", "inputs")
    ctx = FixedLowering(b, _limited_x(b, x, quantized), table, limited, _rate(b, limited, quantized))
    wires, given = taps_of(policy), [Channels(ctx.x, quantized.x_fracs)]
    for b.place, (layer, numbers) in enumerate(zip(policy.layers, quantized.layers, strict=True)):
        ctx.x = _joined(b, given, wires[b.place]).value
        given.append(Channels(_lower(layer, numbers, ctx), numbers.y_fracs))
        if isinstance(numbers, QuantizedLtc):
            ctx.states[-1:] = started(policy, b.place, ctx.states[-1:])
    out = _joined(b, given, wires[-1])
    program = Program(
        name=policy.name,
        x=dataclasses.replace(input_port(policy, x, quantized.x_fracs), range=quantized.input_range,
                              note=quantized.input_note),
        y=output_port(policy, out.value, out.fracs),
        dt=None if dt is None else dt_port(policy, dt, (dt_frac,)),
        states=tuple(ctx.states), constants=b.constants, body=b.body, labels=ctx.labels,
    )
    check(program)
    return program


@dataclass(frozen=True)
class Channels:
    """A value and the fraction of each of its channels, whatever its nominal one is."""

    value: Value
    fracs: tuple[int, ...]


def _joined(b: Builder, given: list[Channels], taps: Taps) -> Channels:
    """The channels that ``taps`` name, as they are, in their ``joined_type``."""
    read = {tap.source: given[tap.source + 1].value for tap in taps}
    kind = joined_type([_fixed(value) for value in read.values()])
    whole = [_renamed(b, read[source], kind) if source in read else channels.value
             for source, channels in enumerate(given, INPUT)]
    fracs = tuple(f for tap in taps for f in given[tap.source + 1].fracs[tap.start : tap.stop])
    return Channels(tapped(b, whole, taps), fracs)


def _renamed(b: Builder, value: Value, kind: Fixed) -> Value:
    """The same integers with another nominal type: times 1, which stands for 2**-k."""
    # A speed of Q3.12 beside features of Q5.10: 5.0 is 20480 there, and stays 20480. Times 1 of fraction 2 it is
    # called 1.25 at fraction 14, and its channel's own fraction, 12, says what it stands for.
    old = _fixed(value)
    if old == kind:
        return value
    one = b.const(f"{value.name}_unit", 1, (), Fixed(INT32, kind.frac - old.frac))
    product = b.op("mul", f"{value.name}_beside", value, one, type_=Fixed(INT32, kind.frac))
    return b.op("cast", f"{value.name}_as", product, type_=kind)


def _fixed(value: Value) -> Fixed:
    assert isinstance(value.type, Fixed)
    return value.type


def _table(q: QuantizedPolicy) -> I64:
    """The sigmoid's entries; where no LTC reads them, as many of them as 16 bits hold (``fixed_tables.MOST``)."""
    return q.table if any(isinstance(layer, QuantizedLtc) for layer in q.layers) else np.minimum(q.table, MOST)


def _limited_x(b: Builder, x: Value, q: QuantizedPolicy) -> Value:
    whole = (q.x_range[0] == (q.x.lo, q.x.hi)).any()  # a number compared with its type's end: compilers object
    if len(q.x_range) > LISTED and (q.x_range == q.x_range[0]).all() and not whole:
        limits = (int(end) for end in q.x_range[0])
        return b.op("clamp", "x", x, type_=q.x, lo=next(limits), hi=next(limits), flag="input_saturated")
    lo = b.const("x_lo", q.x_range[:, 0], x.axes, q.x)
    hi = b.const("x_hi", q.x_range[:, 1], x.axes, q.x)
    return b.op("clamp", "x", x, type_=q.x, lo=lo.name, hi=hi.name, flag="input_saturated")


def _limited_dt(b: Builder, dt: Value | None, q: QuantizedPolicy) -> Value | None:
    if dt is None or q.dt is None or q.dt_range is None:
        return None
    b.origin = Origin("input", "dt limited to its declared range")
    lo, hi = q.dt_range
    return b.op("clamp", "dt", dt, type_=q.dt, lo=lo, hi=hi, flag="dt_out_of_range")


def _rate(b: Builder, dt: Value | None, q: QuantizedPolicy) -> Value | None:
    """1/dt with as many bits as 32 surely hold: one is kept free, as the smallest dt may be a power of two."""
    if dt is None or q.dt is None or q.dt_range is None:
        return None
    b.origin = Origin("input", "1/dt")
    k = 14 - (31 - q.dt_range[0].bit_length())
    return b.op("inverse", "dt_inverse", dt, type_=Fixed(INT32, 46 + k - q.dt.frac), k=k)


def _lower(layer: Layer, numbers: QuantizedLayer, ctx: FixedLowering) -> Value:
    if isinstance(numbers, QuantizedLtc):
        assert isinstance(layer, Ltc)
        return lower_fixed_ltc(layer, numbers, ctx)
    return lower_fixed_generic(layer, numbers, ctx)
