"""Integer bounds of convolution and pooling: every partial sum, and what leaves the shift."""

from __future__ import annotations

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.program import Op
from ncpc.ir.quantized import I64
from ncpc.ir.windows import windows_of
from ncpc.semantics import fixed
from ncpc.semantics.windows import MEAN_BITS, elements, exact_sums, flat, largest, limited, mean_factor, total

Ends = tuple[I64, I64]
MOST = 2.0**62


def conv2d_ends(op: Op, args: list[Ends]) -> Ends:
    """Positive weights take an end as it is, negative ones the other; no partial sum may near 64 bits."""
    w, (weight, _), (x_lo, x_hi), (bias, _), (shift, _) = windows_of(op.attrs), *args
    lo, hi = (np.broadcast_to(end, (1, w.inputs)) for end in (x_lo, x_hi))
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    largest = float(max(np.abs(lo).max(), np.abs(hi).max()))
    reach = largest * np.abs(weight).sum(axis=1).astype(np.float64) + np.abs(bias)
    if reach.max() >= MOST or shift.min() < 0 or shift.max() > 62:
        raise ProofFailed(f"{op.out.name} = conv2d: its sums may leave 64 bits: the range proof does not close")
    ends = [exact_sums(w, up, lo) + exact_sums(w, down, hi), exact_sums(w, up, hi) + exact_sums(w, down, lo)]
    shifted = [(end + bias) >> shift for end in ends]
    if op.attrs["relu"]:
        shifted = [np.maximum(end, 0) for end in shifted]
    lo_end, hi_end = (flat(limited(op, end), w)[0] for end in shifted)
    return lo_end, hi_end


def pool_ends(op: Op, args: list[Ends]) -> Ends:
    """Both functions rise with every element; a mean's sum must fit 32 bits."""
    w, function = windows_of(op.attrs), str(op.attrs["function"])
    found = []
    for end in args[0]:
        x = np.broadcast_to(end, (1, w.inputs))
        if function == "max":
            found.append(flat(largest(x, w), w)[0])
            continue
        if total(np.abs(x), w).max() >= 1 << 31:
            raise ProofFailed(f"{op.out.name} = pool: its sum may leave 32 bits: the range proof does not close")
        factor = mean_factor(elements(w, function))[..., None]
        found.append(flat(fixed.shr(total(x, w) * factor, MEAN_BITS), w)[0])
    return found[0], found[1]
