"""Tabulated functions in integer programs: sigmoid, tanh, exp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.program import Op, Value
from ncpc.ir.quantized import TABLE_SIZE
from ncpc.ir.types import Axis, Fixed
from ncpc.passes.fixed_scope import WIDE, FixedScope, aligned, axes_of, frac_of, wide

SHIFT = 12
"""Bits of the argument that interpolate between two entries: it is rounded to a 4096th of their distance."""
WIDEST = 4
"""An exponential's table is at most 2**4 wide: e**-16 of the largest value is below what 15 bits hold."""
MOST = (1 << 15) - 1
"""The largest entry: 1 itself would take a 17th bit, and a bit of fraction from whatever reads it in 16."""


@dataclass(frozen=True)
class _Curve:
    """A tabulated function: its formula, the argument range of the table ([-half, half) or measured), its entries.

    Twice the entries err a quarter as much: tanh, which bends most, has twice the sigmoid's.
    """

    formula: Callable[[F64], F64]
    half: int | None
    size: int = TABLE_SIZE

    @property
    def bits(self) -> int:
        """The argument spans 2**bits steps."""
        return int(np.log2(self.size)) + SHIFT


_CURVES = {
    "sigmoid": _Curve(lambda z: 1.0 / (1.0 + np.exp(-z)), 16),
    "tanh": _Curve(np.tanh, 8, 2 * TABLE_SIZE),
    "exp": _Curve(np.exp, None),
}


def emit_function(scope: FixedScope, op: Op) -> Value:
    """A table with linear interpolation: the argument at the table's fraction, 0 at its left end."""
    b, curve = scope.builder, _curve(scope, op.kind)
    start, span = _domain(scope, op, curve)
    frac = curve.bits - span
    argument, room = _inside(scope, op, start, span, frac)
    inner = max(frac, min(frac_of(argument), 30 - span - 1, room))
    at = aligned(scope, argument, inner)
    half = 1 << (inner - frac) >> 1
    offset = b.const(f"{op.out.name}_offset", int(np.floor(-start * 2.0**inner + 0.5)) + half, (), Fixed(WIDE, inner))
    index = b.op("add", f"{op.out.name}_at", at, offset, axes=axes_of(scope, op.out), type_=Fixed(WIDE, inner))
    if inner > frac:
        index = b.op("asr", f"{op.out.name}_index", index, type_=Fixed(WIDE, frac), k=inner - frac)
    table = _table(scope, op.kind, curve, start, span)
    assert isinstance(table.type, Fixed)
    scope.peaks[op.out.name] = int(np.abs(b.constants[table.name][1]).max())
    return b.op("lut", op.out.name, index, table, type_=table.type, k=SHIFT)


def _curve(scope: FixedScope, kind: str) -> _Curve:
    """The function, with as many entries as a table that is there already (the LTCs' sigmoid serves all), or as many as
    weights of the layer's width are worth.
    """
    held, curve = scope.builder.shared.get(f"{kind}_table"), _CURVES[kind]
    if held is not None:
        return replace(curve, size=held.shape[0] - 1)
    return curve if curve.half is None else replace(curve, size=curve.size * scope.q.table // TABLE_SIZE)


def _inside(scope: FixedScope, op: Op, start: float, span: int, frac: int) -> tuple[Value, int]:
    """The argument, and the finest fraction at which it fits when counted from the table's left end.

    One whose range is too wide for the table's fraction is limited to the table's ends first, which changes nothing.
    """
    b, argument = scope.builder, wide(scope, op.args[0])
    lo, hi = _ends(scope, op.args[0])
    room = _headroom(max(abs(lo), abs(hi), abs(lo - start), abs(hi - start)))
    if room >= frac:
        return argument, room
    least, most = (int(np.floor(end * 2.0 ** frac_of(argument) + 0.5)) for end in (start, start + 2.0**span))
    inside = b.op("clamp", f"{op.args[0]}_inside", argument, type_=argument.type, lo=least, hi=most, flag=None)
    return inside, _headroom(max(abs(start), 2.0**span, abs(start + 2.0**span)))


def _ends(scope: FixedScope, name: str) -> tuple[float, float]:
    """The least and the largest value of an argument; 0 where it has no element (no synapse of a kind)."""
    lo, hi = scope.q.ranges[name]
    return (float(lo.min()), float(hi.max())) if lo.size else (0.0, 0.0)


def _headroom(most: float) -> int:
    """The finest fraction at which numbers of a magnitude, and their sum with the table's offset, fit."""
    return WIDE - 2 - int(np.ceil(np.log2(max(most, 1.0))))


def _domain(scope: FixedScope, op: Op, curve: _Curve) -> tuple[float, int]:
    """Left end of the table and log2 of its width.

    A measured table (exp) ends at the argument's largest value; what is more than 2**WIDEST below it counts as that.
    """
    if curve.half is not None:
        return -float(curve.half), int(np.log2(2 * curve.half))
    lo, hi = _ends(scope, op.args[0])
    span = min(max(int(np.ceil(np.log2(max(hi - lo, 2.0**-4) * 1.01))), 0), WIDEST)
    return float(np.ceil(hi * 2.0**8) / 2.0**8) - 2.0**span, span


def _table_type(curve: _Curve, start: float, span: int) -> Fixed:
    most = float(np.abs(curve.formula(np.array([start, start + 2.0**span]))).max())
    return Fixed(WIDE, 15 - max(0, int(np.ceil(np.log2(most)))))


def _nodes(curve: _Curve, z: F64) -> F64:
    """The curve's values, moved against its bend so that chords err as much above it as below: half of what they do."""
    step = z[1] - z[0]
    bend = curve.formula(z + step) - 2.0 * curve.formula(z) + curve.formula(z - step)
    moved: F64 = curve.formula(z) - bend / 16.0
    return moved


def _table(scope: FixedScope, kind: str, curve: _Curve, start: float, span: int) -> Value:
    """One table per function and domain, shared by all who read it."""
    key = f"{kind}_table" if curve.half is not None else f"{kind}_table_{start:g}_{span}"
    shared = scope.builder.shared
    if key not in shared:
        type_ = _table_type(curve, start, span)
        z = start + np.arange(curve.size + 1) * 2.0**span / curve.size
        data = np.floor(_nodes(curve, z) * 2.0**type_.frac + 0.5).astype(np.int64)
        data = np.clip(data, -MOST, MOST)
        shared[key] = scope.builder.const(f"{kind}_table", data, [Axis(f"{kind}_entries", curve.size + 1)], type_)
    return shared[key]
