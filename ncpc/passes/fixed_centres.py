"""One-sided values in 16 bits: less the middle of their range they have a bit more of fraction.

What SiLU and its kin give lies between a little below 0 and some large number, so a format that holds it keeps half of
its numbers for what never occurs. A matrix reads it less its centre c: ``W x + b = W (x - c) + (b + W c)``, which costs
a subtraction for each input, and an addition for each output where b is no constant. Sums of few products halve too,
so that weights gain as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.program import Op, Value
from ncpc.ir.types import Fixed
from ncpc.passes.fixed_scope import NARROW, WIDE, FixedScope, aligned, axes_of, frac_of, fraction, wide
from ncpc.semantics.bounds import Range


def centred(scope: FixedScope, name: str) -> str:
    """The name of the value less its centre, made once, where that is worth a bit of fraction; else its own."""
    key, x = f"{name}_centred", scope.wide.get(name)
    if key in scope.wide:
        return key
    if x is None or not isinstance(x.type, Fixed) or x.type.bits <= NARROW:
        return name
    lo, hi = (np.broadcast_to(end, x.shape) for end in scope.q.ranges[name])
    frac = fraction(scope.q, name, NARROW)
    centre = np.floor((lo + hi) * 2.0 ** (frac - 1) + 0.5) * 2.0**-frac
    moved = replace(scope.q, ranges={**scope.q.ranges, key: Range(lo - centre, hi - centre)})
    if min(fraction(moved, key, NARROW), frac_of(x)) <= frac:
        return name
    scope.q, scope.centres[key] = moved, centre
    kind = Fixed(WIDE, frac_of(x))
    taken = scope.builder.const(f"{name}_centre", (centre * 2.0**kind.frac).astype(np.int64), x.axes, kind)
    scope.wide[key] = scope.builder.op("sub", key, x, taken, type_=kind)
    return key


def start_of_sums(scope: FixedScope, op: Op, centre: F64 | None, weight: F64, frac: int) -> list[Value]:
    """What the sums of a ``matmul`` begin with, at ``frac``: its start, if it has one, and ``weight @ centre``.

    ``weight`` (outputs, inputs) is as integers hold it, in physical units.
    """
    b, starts = scope.builder, op.args[2:]
    if centre is None:
        return [aligned(scope, wide(scope, one), frac) for one in starts]
    constants, kind = scope.q.real.constants, Fixed(WIDE, frac)
    known = [np.asarray(constants[one][1], np.float64) for one in starts if one in constants]
    given = np.floor(sum(known, weight @ centre) * 2.0**frac + 0.5).astype(np.int64)
    begin = b.const(f"{op.out.name}_start", given, axes_of(scope, op.out), kind)
    if len(known) == len(starts):
        return [begin]
    return [b.op("add", f"{op.out.name}_begun", aligned(scope, wide(scope, starts[0]), frac), begin, type_=kind)]
