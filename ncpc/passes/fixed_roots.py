"""Square roots in integer programs: an argument brought near the top of its range by powers of 4, then a table.

With T = 2**30 above all arguments, an ``a`` below T / 4**j is multiplied by 4**j, for j = 8, 4, 2, 1 in turn as far as
the range needs it, and the root by 2**-j. So the table is read in [T/4, T] alone, and a root of any size is as exact
as the table's entries: within 2**-14.9 of itself.
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.program import Op, Value
from ncpc.ir.types import Axis, Fixed
from ncpc.passes.fixed_scope import TRUTH, WIDE, FixedScope, aligned, axes_of, emit, frac_of, wide

TOP = 30
"""log2 of T."""
ENTRIES = 8
"""log2 of the table's entries. A chord between two of them is within 2**-17 of the root."""
BETWEEN = 12
"""Bits of the argument that interpolate."""
ROOM = 2.0**-10
"""Share of an end by which what integers compute may lie beyond it."""


def emit_sqrt(scope: FixedScope, op: Op) -> Value:
    """The root in 32 bits, which all carry information; so do those of quotients by it."""
    b, (lo, hi), least_root = scope.builder, scope.q.ranges[op.args[0]], scope.q.ranges[op.out.name][0].min()
    frac = TOP - int(np.ceil(np.log2(max(float(hi.max()) * (1 + ROOM), 2.0**-TOP))))
    frac -= frac % 2  # the root has half as much
    a = aligned(scope, wide(scope, op.args[0]), frac)
    least = max(float(lo.min()) * (1 - ROOM), 0.0)
    a, shares = _raised(scope, op, a, least)
    index = b.op("asr", f"{op.out.name}_at", a, type_=Fixed(WIDE, frac - TOP + ENTRIES + BETWEEN),
                 k=TOP - ENTRIES - BETWEEN)
    table = _table(scope, frac // 2)
    root = b.op("lut", f"{op.out.name}_raised", index, table, type_=table.type, k=BETWEEN)
    for share in shares:
        kind = Fixed(WIDE, frac_of(root) + frac_of(share))
        root = b.op("mul", f"{op.out.name}_times_{share.name}", root, share, type_=kind)
    scope.fine.add(op.out.name)
    floor = int(float(least_root) * (1 - ROOM) * 2.0 ** frac_of(root))
    return emit(scope, op, root, b.const(f"{op.out.name}_least", floor, (), root.type), frac=frac_of(root), kind="max")


def _raised(scope: FixedScope, op: Op, a: Value, least: float) -> tuple[Value, list[Value]]:
    """The argument at or above T/4, if it is at least ``least``; and what its root is to be multiplied with."""
    b, name, shares = scope.builder, op.out.name, []
    powers = (TOP - max(int(least * 2.0 ** frac_of(a)), 1).bit_length() + 1) // 2
    for j in (1 << n for n in reversed(range(powers.bit_length()))):
        bound = b.const(f"{name}_below_{j}", 1 << (TOP - 2 * j), (), a.type)
        small = b.op("gt", f"{name}_small_{j}", bound, a, type_=TRUTH)
        inside = b.op("min", f"{name}_inside_{j}", a, bound, type_=a.type)
        four = b.const(f"{name}_times_{4**j}", 4**j, (), Fixed(WIDE, 0))
        a = b.op("mix", f"{name}_of_{j}", a, b.op("mul", f"{name}_up_{j}", inside, four, type_=a.type), small,
                 type_=a.type)
        one, part = (b.const(f"{name}_{word}_{j}", raw, (), Fixed(WIDE, j)) for word, raw in (("one", 1 << j),
                                                                                           ("part", 1)))
        shares.append(b.op("mix", f"{name}_share_{j}", one, part, small, axes=axes_of(scope, op.out),
                           type_=Fixed(WIDE, j)))
    if least:
        a = b.op("max", f"{name}_of", a, b.const(f"{name}_quarter", 1 << (TOP - 2), (), a.type), type_=a.type)
    return a, shares


def _table(scope: FixedScope, frac: int) -> Value:
    """Roots of [0, T) in 15 bits, whose fraction is ``frac``; one for all roots of that fraction."""
    key, shared = f"sqrt_table_{frac}", scope.builder.shared
    if key not in shared:
        roots = np.sqrt(np.arange((1 << ENTRIES) + 1) / (1 << ENTRIES))
        roots[1:-1] -= (roots[2:] - 2 * roots[1:-1] + roots[:-2]) / 16  # chords err above as much as below
        data = np.minimum(np.floor(roots * 2.0**15 + 0.5), 2**15 - 1).astype(np.int64)
        shared[key] = scope.builder.const("sqrt_table", data, [Axis("sqrt_entries", data.size)], Fixed(WIDE, frac))
    return shared[key]
