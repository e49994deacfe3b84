"""Any layer that lowers to the reals, as integers: ranges of its values and boxes of its states decide the formats.

A state's box is found by iterating the step on intervals from the reset state. Cells whose update is a convex
combination or a bounded function close (CfC, GRU, RNN); others (LSTM's cell, explicit ODE steps) are limited to twice
what was observed, and reaching that limit sets a status bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.program import Program, Repeat, Stmt, statements
from ncpc.ir.quantized import QuantizedGeneric
from ncpc.ir.types import Fixed
from ncpc.quant.intervals import Range, Ranges, hull, ranges_of
from ncpc.quant.ltc import Demand, Fractions, Incoming, Timespans
from ncpc.quant.rounding import fraction_for

ITERATIONS = 12
ROOM = 0.01
"""Share of its width by which a closed box is widened, so that roundings stay inside it."""
OBSERVED_ROOM = 0.5
"""Share of its width by which an observed range is widened on each side."""


def quantize_generic(real: Program, incoming: Incoming, dt: Timespans, demand: Demand, fractions: Fractions,
                     observed: Mapping[str, Range]) -> QuantizedGeneric:
    """Formats of one layer's step ``real``; ``observed`` holds the ranges its states took on calibration data."""
    inputs = {real.x.value.name: _physical(incoming)}
    if real.dt is not None:
        inputs[real.dt.value.name] = Range(np.array(dt.lo), np.array(dt.hi))
    boxes, limits = _boxes(real, inputs, observed)
    ranges = ranges_of(real, {**inputs, **boxes}, {n: boxes[n] for n in _carried(real.body) if n in boxes})
    reach = ranges[real.y.value.name].most * (1 + 2.0**-8) + 2.0**-12
    y = Fixed(demand.out_bits, fraction_for(reach, demand.out_bits, most=demand.out_bits + 8))
    return QuantizedGeneric(
        real, {name: (r.lo, r.hi) for name, r in ranges.items()}, limits, dict(fractions(_matrices(real), demand.bits)),
        demand.bits, incoming.fracs, y, (y.frac,) * real.y.value.shape[0],
    )


def _physical(incoming: Incoming) -> Range:
    lsb = np.exp2(-np.array(incoming.fracs, np.float64))
    lo, hi = incoming.range.astype(np.float64).T
    return Range(lo * lsb, hi * lsb)


def _matrices(real: Program) -> dict[str, F64]:
    """The weight matrices, by name."""
    names = [op.args[0] for op in statements(real.body) if op.kind == "matmul"]
    return {name: real.constants[name][1].astype(np.float64) for name in names}


def _boxes(real: Program, inputs: Ranges, observed: Mapping[str, Range]) -> tuple[Ranges, dict[str, bool]]:
    """Boxes of states and of carried values; True for those that are only observed."""
    if not real.states:
        return {}, {}
    closed = _closed(real, inputs)
    if closed is not None:
        return _with_carried(real, closed), dict.fromkeys(_with_carried(real, closed), False)
    boxes = {s.inp.name: _roomy(observed[s.inp.name], OBSERVED_ROOM) for s in real.states}
    return _with_carried(real, boxes), dict.fromkeys(_with_carried(real, boxes), True)


def _closed(real: Program, inputs: Ranges) -> Ranges | None:
    """Boxes that the step maps into themselves, or None when iterating finds none."""
    if any(_carried(real.body)):
        return None
    boxes = {s.inp.name: Range(np.asarray(s.init, np.float64), np.asarray(s.init, np.float64)) for s in real.states}
    for _ in range(ITERATIONS):
        found = ranges_of(real, {**inputs, **boxes}, {})
        after = {s.inp.name: found[s.out] for s in real.states}
        roomy = {name: _roomy(box, ROOM) for name, box in boxes.items()}
        if all(after[name].within(roomy[name]) for name in boxes):
            return roomy
        boxes = {name: hull(box, after[name]) for name, box in boxes.items()}
    return None


def _with_carried(real: Program, boxes: Ranges) -> Ranges:
    """Values carried around a repeat take the box of the state they start from."""
    carried = {inner: boxes[init] for inner, init in _carried(real.body).items() if init in boxes}
    return {**boxes, **carried}


def _carried(body: tuple[Stmt, ...]) -> dict[str, str]:
    return {c.inner.name: c.init for stmt in body if isinstance(stmt, Repeat) for c in stmt.carried}


def _roomy(r: Range, share: float) -> Range:
    room = share * (r.hi - r.lo) + 2.0**-10
    return Range(r.lo - room, r.hi + room)
