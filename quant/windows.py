"""Ranges of convolution and pooling, element by element."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.program import Op
from ncpc.ir.windows import windows_of
from ncpc.semantics.windows import elements, flat, largest, products, total

Ends = tuple[F64, F64]


def conv2d_ends(op: Op, a: list[Ends]) -> Ends:
    """Positive weights take an end as it is, negative ones the other."""
    w, weight = windows_of(op.attrs), a[0][0]
    lo, hi = (np.broadcast_to(end, (1, w.inputs)) for end in a[1])
    up, down = np.maximum(weight, 0.0), np.minimum(weight, 0.0)
    sums = [products(w, up, lo) + products(w, down, hi), products(w, up, hi) + products(w, down, lo)]
    ends = [base + added for base, added in zip(a[2], sums, strict=True)]
    if op.attrs["relu"]:
        ends = [np.maximum(end, 0.0) for end in ends]
    return flat(ends[0], w)[0], flat(ends[1], w)[0]


def pool_ends(op: Op, a: list[Ends]) -> Ends:
    """Both functions rise with every element."""
    w, function = windows_of(op.attrs), str(op.attrs["function"])
    found = [np.broadcast_to(end, (1, w.inputs)) for end in a[0]]
    if function == "max":
        ends = [largest(end, w) for end in found]
    else:
        ends = [total(end, w) / elements(w, function)[..., None] for end in found]
    return flat(ends[0], w)[0], flat(ends[1], w)[0]
