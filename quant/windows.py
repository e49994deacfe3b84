"""Ranges of convolution and pooling, element by element."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.program import Op
from ncpc.ir.windows import windows_of
from ncpc.semantics.windows import flat, patches, taps

Ends = tuple[F64, F64]


def conv2d_ends(op: Op, a: list[Ends]) -> Ends:
    """Positive weights take an end as it is, negative ones the other."""
    w, weight = windows_of(op.attrs), a[0][0]
    lo, hi = (patches(np.broadcast_to(end, (1, w.inputs)), w) for end in a[1])
    up, down = np.maximum(weight, 0.0).T, np.minimum(weight, 0.0).T
    ends = [a[2][0] + lo @ up + hi @ down, a[2][1] + hi @ up + lo @ down]
    if op.attrs["relu"]:
        ends = [np.maximum(end, 0.0) for end in ends]
    return flat(ends[0], w)[0], flat(ends[1], w)[0]


def pool_ends(op: Op, a: list[Ends]) -> Ends:
    """Both functions rise with every element."""
    w = windows_of(op.attrs)
    reduce = np.max if op.attrs["function"] == "max" else np.mean
    ends = [reduce(np.stack(list(taps(np.broadcast_to(end, (1, w.inputs)), w))), axis=0) for end in a[0]]
    return flat(ends[0], w)[0], flat(ends[1], w)[0]
