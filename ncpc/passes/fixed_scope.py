"""The forms a real value takes in an integer program: wide, narrow, at another fraction.

Every value exists in a *wide* form (32 bits, as the op that makes it leaves it) and, where an exact 32-bit product
needs it, a *narrow* one (16 bits, the finest fraction its range allows).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.policy import F64
from ncpc.ir.program import Attr, Op, Value
from ncpc.ir.quantized import QuantizedGeneric
from ncpc.ir.types import Axis, Fixed, Index
from ncpc.passes.weight_rows import RowWeights

WIDE, NARROW = 32, 16
FINEST = 28
"""More fraction than this in a sum buys nothing and costs headroom."""


TRUTH = Fixed(NARROW, 8)
"""0 or 1: exact at any fraction, so weights that meet it keep theirs; 8 leave a sum as much as it needs beyond them."""


@dataclass
class FixedScope:
    """What emission knows: wide and narrow forms by the real value's name."""

    builder: Builder
    q: QuantizedGeneric
    wide: dict[str, Value] = field(default_factory=dict)
    narrow: dict[str, Value] = field(default_factory=dict)
    renamed: dict[Axis, Axis] = field(default_factory=dict)
    """The layer's axes under names that are unique in the whole program."""
    precise: set[str] = field(default_factory=set)
    """Values whose 32 bits carry information: states, run-time dt, and values around repeats."""
    compared: set[str] = field(default_factory=set)
    """What is gathered to be compared, or gathered of what comparisons found."""
    rates: set[str] = field(default_factory=set)
    """Rates of change: what, times a step's length, is added to a state."""
    fine: set[str] = field(default_factory=set)
    """What a square root is taken of, quotients by it and what is gathered of those: in 32 bits, exact at any size."""
    weights: dict[str, RowWeights] = field(default_factory=dict)
    """Weights of few bits, by the name of the op that multiplies with them and of the one that sums."""
    self_gated: set[str] = field(default_factory=set)
    """Products ``x*gate(x)``."""
    centres: dict[str, F64] = field(default_factory=dict)
    """What centred values are less than those they come from, by the centred one's name."""
    peaks: dict[str, int] = field(default_factory=dict)
    """The largest raw magnitude of a wide form where it is known exactly: of states, of what tables hold, of aligned
    inputs. A negative number may have one more, as two's complement does.
    """


def narrow(scope: FixedScope, name: str) -> Value:
    """The 16-bit form of a value; made once."""
    if name in scope.narrow:
        return scope.narrow[name]
    if name in scope.q.real.constants:
        return _constant(scope, name, NARROW)
    wide = scope.wide[name]
    assert isinstance(wide.type, Fixed)
    if wide.type.bits <= NARROW:
        return wide
    kind = Fixed(NARROW, min(max(fraction(scope.q, name, NARROW), _finest(scope, name)), wide.type.frac))
    made = resized(scope, f"{name}_16", wide, kind)
    scope.narrow[name] = made
    return made


def _finest(scope: FixedScope, name: str) -> int:
    """The finest fraction at which a value of known magnitude, rounded, fits 16 bits; far too coarse where unknown."""
    peak = scope.peaks.get(name)
    if peak is None:
        return -WIDE
    lost = next(k for k in range(WIDE) if (peak + (1 << k >> 1)) >> k < 1 << (NARROW - 1))
    return frac_of(scope.wide[name]) - lost


def narrowed(scope: FixedScope, name: str, frac: int) -> Value:
    """A 16-bit form, rounded once, at ``frac``, at most that of the finest one; made once for each fraction."""
    if frac == frac_of(narrow(scope, name)):
        return narrow(scope, name)
    key = f"{name}_16_q{frac}"
    if key not in scope.narrow:
        source = narrow(scope, name) if name in scope.q.real.constants else wide(scope, name)
        scope.narrow[key] = resized(scope, key, source, Fixed(NARROW, frac))
    return scope.narrow[key]


def wide(scope: FixedScope, name: str) -> Value:
    """The form of a value with the most bits."""
    if name in scope.q.real.constants and name not in scope.wide:
        scope.wide[name] = _constant(scope, name, WIDE - 2)
    return scope.wide[name]


def _constant(scope: FixedScope, name: str, bits: int) -> Value:
    value, data = scope.q.real.constants[name]
    frac = min(FINEST, fraction(scope.q, name, bits))
    raw = np.floor(np.asarray(data, np.float64) * 2.0**frac + 0.5).astype(np.int64)
    made = scope.builder.const(name, raw, axes_of(scope, value), Fixed(NARROW if bits <= NARROW else WIDE, frac))
    (scope.narrow if bits <= NARROW else scope.wide)[name] = made
    return made


def fraction(q: QuantizedGeneric, name: str, bits: int) -> int:
    """The finest fraction at which the value's range fits ``bits`` bits."""
    lo, hi = q.ranges[name]
    most = float(max(np.abs(lo).max(initial=0.0), np.abs(hi).max(initial=0.0))) * (1 + 2.0**-9) + 2.0**-20
    return min(bits - 1 - int(np.ceil(np.log2(most))) if most > 0 else bits - 1, FINEST)


def aligned(scope: FixedScope, value: Value, frac: int) -> Value:
    """The value at another fraction, 32 bits."""
    assert isinstance(value.type, Fixed)
    k = value.type.frac - frac
    if k == 0:
        return value
    kind = Fixed(WIDE, frac)
    if k > 0:
        return scope.builder.op("shr", f"{value.name}_q{frac}", value, type_=kind, k=k)
    return scope.builder.op("shl", f"{value.name}_q{frac}", value, type_=kind, k=-k)


def resized(scope: FixedScope, name: str, value: Value, kind: Fixed) -> Value:
    """The value in another type."""
    assert isinstance(value.type, Fixed)
    if value.type == kind:
        return value
    k = value.type.frac - kind.frac
    if k == 0:
        return scope.builder.op("cast", name, value, type_=kind)
    return scope.builder.op("shr" if k > 0 else "shl", name, value, type_=kind, k=abs(k))


def axes_of(scope: FixedScope, value: Value) -> tuple[Axis, ...]:
    """The value's axes in the whole program."""
    for axis in value.axes:
        if axis not in scope.renamed:
            scope.renamed[axis] = Axis(scope.builder.unique(axis.name), axis.size)
    return tuple(scope.renamed[axis] for axis in value.axes)


def _target(scope: FixedScope, index: Index) -> Index:
    """The axis an index map points to, in the whole program."""
    return Index(next((new.name for old, new in scope.renamed.items() if old.name == index.axis), index.axis))


def frac_of(value: Value) -> int:
    """The fraction of a fixed-point value."""
    assert isinstance(value.type, Fixed)
    return value.type.frac


def index_map(scope: FixedScope, name: str) -> Value:
    """An index map, made once."""
    if name not in scope.wide:
        value, data = scope.q.real.constants[name]
        assert isinstance(value.type, Index)
        axes, target = axes_of(scope, value), _target(scope, value.type)
        scope.wide[name] = scope.builder.const(name, data.astype(np.int64), axes, target)
    return scope.wide[name]


def emit(scope: FixedScope, op: Op, *args: Value, frac: int, kind: str | None = None, **attrs: Attr) -> Value:
    """One 32-bit op with the name and axes of the real one."""
    axes, type_ = axes_of(scope, op.out), Fixed(WIDE, frac)
    return scope.builder.op(kind or op.kind, op.out.name, *args, axes=axes, type_=type_, **attrs)
