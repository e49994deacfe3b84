"""Integer bounds of convolution and pooling: every partial sum, and what leaves the shift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.cwords import Term, arg
from ncpc.ir.formed import MEAN_BITS, TOTAL, Sum, mean_sum
from ncpc.ir.program import Op
from ncpc.ir.quantized import I64
from ncpc.ir.types import Fixed
from ncpc.ir.windows import windows_of
from ncpc.semantics import fixed
from ncpc.semantics.formed import NEAR, Intervals, TermRange
from ncpc.semantics.windows import elements, exact_sums, flat, largest, limited, mean_factor, sum_of, total

Ends = tuple[I64, I64]
Found = tuple[I64, I64, Sequence[TermRange]]
"""The ends of an op's result, and all that C forms on the way."""


def conv2d_ends(op: Op, args: list[Ends], kind: Fixed) -> Found:
    """Positive weights take an end as it is, negative ones the other; ``kind`` is the type of the frame."""
    w, (weight, _), (x_lo, x_hi), (bias, _), (shift, _) = windows_of(op.attrs), *args
    up, down = np.maximum(weight, 0), np.minimum(weight, 0)
    nodes = _window_nodes(op, sum_of(weight, bias, kind), args)
    lo, hi = (np.broadcast_to(end, (1, w.inputs)) for end in (x_lo, x_hi))
    ends = [exact_sums(w, up, lo) + exact_sums(w, down, hi), exact_sums(w, up, hi) + exact_sums(w, down, lo)]
    shifted = [(end + bias) >> shift for end in ends]
    if op.attrs["relu"]:
        shifted = [np.maximum(end, 0) for end in shifted]
    lo_end, hi_end = (flat(limited(op, end), w)[0] for end in shifted)
    return lo_end, hi_end, nodes


def _window_nodes(op: Op, found: Sum, args: list[Ends]) -> list[TermRange]:
    """A filter's products and partial sums over any window, 0 beside the frame included, and its shifted total."""
    (weight, _), (x_lo, x_hi), (bias, _), (shift, _) = args
    least, most = np.minimum(x_lo.min(), 0), np.maximum(x_hi.max(), 0)
    ends = Intervals({"w": (weight, weight), "x": (least, most), "shift": (shift, shift)})
    low, high = ends.of(found.each)
    reach = float(max(-least, most)) * np.abs(weight).sum(axis=1).astype(np.float64) + np.abs(bias)
    holds = bool(reach.max() < 2.0 ** (found.word.bits - 1) * NEAR)
    ends.known = {**ends.known, TOTAL: (bias + low.sum(1), bias + high.sum(1))}
    ends.note(arg(TOTAL, found.word), ends.known[TOTAL], holds)
    return _held(op, ends, found.after)


def _held(op: Op, ends: Intervals, after: Term | None) -> list[TermRange]:
    """All nodes, what becomes of the total last."""
    if after is not None:
        ends.of(after)
    misfits = [node for node in ends.nodes if not node.fits]
    if misfits:
        word = misfits[0].term.word
        raise ProofFailed(f"{op.out.name} = {op.kind}: its sums may leave {word.bits} bits: the range proof does not "
                          "close")
    return ends.nodes


def pool_ends(op: Op, args: list[Ends], kind: Fixed) -> Found:
    """Both functions rise with every element."""
    w, function = windows_of(op.attrs), str(op.attrs["function"])
    found = [np.broadcast_to(end, (1, w.inputs)) for end in args[0]]
    if function == "max":
        lo, hi = (flat(largest(x, w), w)[0] for x in found)
        return lo, hi, ()
    factor = mean_factor(elements(w, function))[..., None]
    lo, hi = (flat(fixed.shr(total(x, w) * factor, MEAN_BITS), w)[0] for x in found)
    return lo, hi, _mean_nodes(op, [total(x, w) for x in (np.minimum(found[0], 0), np.maximum(found[1], 0))], factor)


def _mean_nodes(op: Op, sums: list[I64], factor: I64) -> list[TermRange]:
    """A mean's partial sums, and what makes it of its sum."""
    found = mean_sum()
    ends = Intervals({TOTAL: (sums[0], sums[1]), "factor": (factor, factor)})
    whole = arg(TOTAL, found.word)
    ends.note(whole, (sums[0], sums[1]))
    return _held(op, ends, found.after)
