"""Any layer that lowers to the reals, as integers: ranges of its values and boxes of its states decide the formats.

A state's box is found by iterating the step on intervals from the reset state. Cells whose update is a convex
combination or a bounded function close (CfC, GRU, RNN); others (LSTM's cell, explicit ODE steps) are limited to twice
what was observed, or some bits further where nothing reads them in 16 bits, and reaching that limit sets a status bit.
So is what integers hold in 16 bits where intervals overstate it so much that too few of them would be left
(``ncpc.quant.limits``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.policy import F64, I64
from ncpc.ir.program import Op, Program, statements
from ncpc.ir.quantized import TABLE_SIZE, QuantizedGeneric
from ncpc.ir.rewrite import MOVES, carries, only_moves
from ncpc.ir.types import Fixed
from ncpc.passes.weight_rows import RowWeights, row_weights
from ncpc.quant.intervals import ROOM, Ranges, UnclosedError, ranges_of, roomy
from ncpc.quant.limits import (
    FARTHEST,
    OBSERVED_ROOM,
    SPARE,
    coarse,
    held_by_format,
    held_narrow,
    limited,
    snug,
    too_wide,
)
from ncpc.quant.ltc import Demand, Fractions, Incoming, Timespans
from ncpc.quant.matrix_rounding import with_weights
from ncpc.quant.rounding import fraction_for
from ncpc.semantics.bounds import Range, exactly, hull, meet, over

Rounding = Callable[[Sequence[RowWeights]], Mapping[str, I64]]
"""Chooses integers of weights of few bits (``ncpc.quant.matrix_rounding.rounded_rows``)."""

ITERATIONS = 24
WIDEST = 2.0**14
"""A state's box beyond which what was observed is the better guide."""
HOPELESS = 2.0**30
"""A box on its way to infinity."""
HANDING = (*MOVES, "pool", "min", "max", "relu")
"""Ops whose result lies among their arguments."""
TABLES, WITHIN = ("sigmoid", "tanh"), {"mix": 2, "mul": 2, "min": 2, "max": 2, "concat": 64, "slice": 1, "gather": 1}
"""Ops that integers read from tables, and those whose result lies within their first few arguments if these are within
-1 .. 1.
"""
NARROWEST = 8
"""Bits in which an entry of a table may round up to 1."""
ENOUGH = 0.1
"""A closed box that its image fills up to this share is not worth tightening."""


def quantize_generic(real: Program, incoming: Incoming, dt: Timespans, demand: Demand, fractions: Fractions,
                     observed: Mapping[str, Range], rounding: Rounding) -> QuantizedGeneric:
    """Formats of one layer's step ``real``; ``observed`` holds the ranges its states took on calibration data.

    ``rounding`` is asked for the integers of weights that are rounded together.
    """
    if demand.together:
        weights = row_weights(real)
        chosen = rounding(weights) if weights else {}
        real = with_weights(real, weights, demand.bits, chosen)
    inputs = {real.x.value.name: _physical(incoming)}
    if real.dt is not None:
        inputs[real.dt.value.name] = Range(np.array(dt.lo), np.array(dt.hi))
    boxes, limits = _boxes(real, inputs, observed, demand.far)
    carried = {c.inner.name: boxes[c.inner.name] for c in carries(real.body) if c.inner.name in boxes}
    try:
        real, ranges = limited(real, {**inputs, **boxes}, carried, observed, not any(limits.values()))
    except UnclosedError:
        raise Unsupported(f"{real.name}: no range is known for what a repeat carries; use --quant float32") from None
    ranges.update(_convolved(real, ranges, observed))
    _require_bounded(real, ranges)
    reach = _reach(real, ranges, demand.out_bits)
    kept = _chosen_from(real, incoming, demand)
    y = Fixed(demand.out_bits, fraction_for(reach, demand.out_bits, most=demand.out_bits + 8) if kept is None else kept)
    return QuantizedGeneric(
        real, ranges, limits, dict(fractions(_matrices(real), demand.bits)),
        demand.bits, incoming.fracs, y, (y.frac,) * real.y.value.shape[0],
        min(demand.table, TABLE_SIZE), demand.together,
    )


def _require_bounded(real: Program, ranges: Ranges) -> None:
    """Raises Unsupported for a value beyond ``FARTHEST``."""
    for name, found in ranges.items():
        if not found.most <= FARTHEST:
            raise Unsupported(f"{real.name}: {name} reaches {found.most:.0e}, beyond what integers can be sized for; "
                              "train with smaller weights, or use --quant float32")


def _convolved(real: Program, ranges: Ranges, observed: Mapping[str, Range]) -> Ranges:
    """What the results of convolutions are limited to: what was seen. That of one place is a matrix, and like other
    products limited only where the bound overstates it too much.
    """
    found = {op.out.name: (int(op.attrs["rows"] or 0) * int(op.attrs["cols"] or 0), roomy(observed[op.out.name],
             OBSERVED_ROOM)) for op in statements(real.body) if op.kind == "conv2d"}
    return {name: meet(ranges[name], seen) for name, (places, seen) in found.items()
            if places > 1 or coarse(ranges[name], seen)}


def _reach(real: Program, ranges: Ranges, bits: int) -> float:
    """The largest magnitude of a result, with room for roundings; what is made of tables alone needs none in 16 bits,
    as their entries are less than 1 by a unit of those.
    """
    most = ranges[real.y.value.name].most * (1 + 2.0**-8) + 2.0**-12
    return min(most, 1.0 - 2.0**-15) if bits > NARROWEST and _below_one(real, real.y.value.name) else most


def _below_one(real: Program, name: str) -> bool:
    """Whether a value lies within what sigmoids and tanhs give: it is one, lies between some, or is their product."""
    op = next((op for op in statements(real.body) if op.out.name == name), None)
    if op is None or op.kind not in (*TABLES, *WITHIN):
        return False
    return op.kind in TABLES or all(_below_one(real, arg) for arg in op.args[: WITHIN[op.kind]])


def _chosen_from(real: Program, incoming: Incoming, demand: Demand) -> int | None:
    """The inputs' fraction where a layer hands on some of them, or their means, and as many bits."""
    hands = all(isinstance(stmt, Op) and stmt.kind in HANDING for stmt in real.body)
    same = len(set(incoming.fracs)) == 1 and incoming.type.bits == demand.out_bits
    return incoming.fracs[0] if hands and same else None


def _physical(incoming: Incoming) -> Range:
    lsb = np.exp2(-np.array(incoming.fracs, np.float64))
    lo, hi = incoming.range.astype(np.float64).T
    return Range(lo * lsb, hi * lsb)


def _matrices(real: Program) -> dict[str, F64]:
    """The weight matrices, by name."""
    names = [op.args[0] for op in statements(real.body) if op.kind == "matmul"]
    return {name: real.constants[name][1].astype(np.float64) for name in names}


def _boxes(
    real: Program, inputs: Ranges, observed: Mapping[str, Range], far: bool
) -> tuple[Ranges, dict[str, bool]]:
    """Boxes of states and of carried values; True for those that are only observed. ``far``: states that nothing reads
    in 16 bits may go further than was seen.
    """
    if not real.states:
        return {}, {}
    if only_moves(real):
        given = hull(inputs[real.x.value.name], exactly(np.zeros(real.x.value.shape)))
        ends = [np.resize(end, real.states[0].inp.shape) for end in given]
        return {real.states[0].inp.name: Range(*ends)}, {real.states[0].inp.name: False}
    seen = {s.inp.name: over(roomy(observed[s.inp.name], OBSERVED_ROOM), s.inp.shape) for s in real.states}
    closed = _closed(real, inputs)
    if closed is None:
        narrow = _narrow_states(real)
        held = {name: held_by_format(box, SPARE) if far and name not in narrow else box for name, box in seen.items()}
        boxes = _with_carried(real, held, observed)
        images = _bounded_by_others(real, inputs, boxes)
        return {**boxes, **images}, {name: name not in images for name in boxes}
    limits = dict.fromkeys(closed, False)
    for state in real.states:
        name = state.inp.name
        if name in held_narrow(real) and too_wide(closed[name], seen[name]):
            closed[name], limits[name] = meet(closed[name], seen[name]), True
        elif np.ptp(state.init) == 0:
            closed[name] = snug(closed[name])
    return closed, limits


def _narrow_states(real: Program) -> set[str]:
    """The states that something reads in 16 bits, or that start what a repeat carries and something in it reads so."""
    narrow = held_narrow(real)
    return narrow | {c.init for c in carries(real.body) if c.inner.name in narrow}


def _bounded_by_others(real: Program, inputs: Ranges, boxes: Ranges) -> Ranges:
    """Boxes of the states that the step bounds while the others stay in theirs: an LSTM's h = o*tanh(c) within 1.

    Not of what a repeat carries, which is limited in there.
    """
    carried = {c.inner.name: boxes[c.inner.name] for c in carries(real.body) if c.inner.name in boxes}
    try:
        found = ranges_of(real, {**inputs, **boxes}, carried)
    except UnclosedError:
        return {}
    limited_inside = {c.out.name for c in carries(real.body)}
    images = {s.inp.name: hull(exactly(np.asarray(s.init, np.float64)), found[s.out]) for s in real.states
              if s.out not in limited_inside}
    return {name: snug(roomy(image, ROOM)) for name, image in images.items() if image.within(boxes[name])}


def _closed(real: Program, inputs: Ranges) -> Ranges | None:
    """Boxes of states and carried values that the step maps into themselves; None when iterating finds none.

    Boxes are replaced by their image until they settle. A slow memory (LSTM) would take hundreds of rounds, so every
    third jumps to where a geometric series would end; what overshoots shrinks again.
    """
    start = {s.inp.name: exactly(np.asarray(s.init, np.float64)) for s in real.states}
    boxes, best, grown = start, None, {n: Range(np.zeros_like(r.lo), np.zeros_like(r.hi)) for n, r in start.items()}
    for k in range(ITERATIONS):
        tried = {name: roomy(box, ROOM) for name, box in boxes.items()}
        after = _image(real, inputs, tried, start)
        if after is None or max(box.most for box in after.values()) > HOPELESS:
            break
        if all(after[name].within(tried[name]) for name in boxes):
            best = {**tried, **{c.inner.name: after[c.inner.name] for c in carries(real.body)}}
            if all(boxes[name].within(roomy(after[name], ENOUGH)) for name in boxes):
                break
        step = {n: Range(after[n].lo - boxes[n].lo, after[n].hi - boxes[n].hi) for n in boxes}
        boxes = {n: _ahead(after[n], grown[n], step[n]) if k % 3 == 2 else after[n] for n in boxes}
        grown = step
    return best if best is None or max(box.most for box in best.values()) <= WIDEST else None


def _image(real: Program, inputs: Ranges, boxes: Ranges, start: Ranges) -> Ranges | None:
    """Where a step takes the boxes, with the reset state; the boxes of carried values beside them."""
    try:
        found = ranges_of(real, {**inputs, **boxes}, {})
    except UnclosedError:
        return None
    carried = {c.inner.name: found[c.inner.name] for c in carries(real.body)}
    return {**carried, **{s.inp.name: hull(start[s.inp.name], found[s.out]) for s in real.states}}


def _ahead(box: Range, before: Range, now: Range) -> Range:
    """Where a box that grew by ``before`` and then by ``now`` will end if it goes on so: the sum of what follows."""
    return Range(box.lo + _rest(before.lo, now.lo), box.hi + _rest(before.hi, now.hi))


def _rest(before: F64, now: F64) -> F64:
    share = np.divide(now, before, out=np.zeros_like(now), where=before != 0)
    rest: F64 = np.where((share > 0) & (share < 1), now * share / (1.0 - np.minimum(share, 1.0 - 2.0**-20)), 0.0)
    return rest


def _with_carried(real: Program, boxes: Ranges, observed: Mapping[str, Range]) -> Ranges:
    """Values carried around a repeat take the box of the state they start from, else one around where they start and
    end.
    """
    found = dict(boxes)
    for carry in carries(real.body):
        if carry.init in boxes:
            found[carry.inner.name] = boxes[carry.init]
        elif carry.init in observed:
            seen = hull(observed[carry.init], observed[carry.out.name])
            found[carry.inner.name] = over(roomy(seen, OBSERVED_ROOM), carry.inner.shape)
    return found
