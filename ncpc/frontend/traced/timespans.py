"""Cells that are given another timespan than the step's: by a multiple of it they become as much slower or faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.traced.channels import TIMESPAN, Traced, TracedGraph
from ncpc.ir.cells import CtGru, CtRnn, LeakyIntegrator, Lif, NeuralOde
from ncpc.ir.gated import Cfc, MixedMemory, WiredCfc
from ncpc.ir.policy import Dense, Layer, Ltc


@dataclass(frozen=True)
class GivenTimespan:
    """``factor`` times the step's, or, ``constant``, a number; ``line`` says where, ``places`` to which layers."""

    factor: float
    constant: bool
    places: range
    line: str


def factor_of(timespan: Traced, name: str) -> tuple[float, bool]:
    """What a cell is given: a multiple of the step's timespan, or a constant. Raises Unsupported for anything else."""
    gain, offset = (np.asarray(part).reshape(-1) for part in (timespan.gain, timespan.offset))
    number = offset if timespan.constant else gain
    if np.ptp(number) != 0:
        raise Unsupported(f"{name} is given several timespans in one step, {number.min():g} to {number.max():g}")
    if timespan.constant:
        return float(number[0]), True
    if bool(offset.any()) or not bool((timespan.channel == TIMESPAN).all()):
        raise Unsupported(f"{name} is given timespans that are computed; pass those of forward as they are, or times a "
                          "number")
    if number[0] <= 0:
        raise Unsupported(f"{name} is given {number[0]:g} times the timespan; the factor must be positive")
    return float(number[0]), False


def common_timespan(graph: TracedGraph, given: Mapping[str, GivenTimespan]) -> float | None:
    """The timespan that cells have fixed inside, the first one's; None where they take the step's, or read none. The
    layers of all others become as much faster. Raises Unsupported where that cannot be.
    """
    fixed = {name: span for name, span in given.items() if span.constant}
    if fixed and len(fixed) < len(given):
        told = ", ".join(f"{name} {f'{span.factor:g}' if span.constant else 'that of forward'}"
                         for name, span in given.items())
        raise Unsupported(f"its cells are given different timespans ({told}), of which only some follow that of "
                          "forward; hand it on to all of them, or to none")
    base = next(iter(fixed.values())).factor if fixed else 1.0
    for name, span in given.items():
        for place in span.places if span.factor != base else ():
            graph.layers[place] = faster(graph.layers[place], span.factor / base, f"{span.line}: {name}")
    return base if fixed else None


def faster(layer: Layer, factor: float, where: str) -> Layer:
    """The layer that does over a timespan what this one does over ``factor`` times it. Raises Unsupported."""
    change = FASTER.get(type(layer))
    if change is None or (isinstance(layer, Cfc) and layer.mode == "pure"):
        kind = "CfC in pure mode" if isinstance(layer, Cfc) else layer.kind
        raise Unsupported(f"{where} is given {factor:g} times the timespan of the policy, which no weights of a {kind} "
                          "make up for; give all cells the same timespan, and train again")
    return change(layer, factor, where)


def _scaled(dense: Dense | None, factor: float) -> Dense | None:
    return None if dense is None else Dense(dense.weight * factor, dense.bias * factor)


def _cfc(layer: Cfc, factor: float, _: str) -> Layer:
    return replace(layer, time_a=_scaled(layer.time_a, factor))


def _wired(layer: WiredCfc, factor: float, where: str) -> Layer:
    return replace(layer, stages=tuple(cast(Cfc, faster(stage, factor, where)) for stage in layer.stages))


def _mixed(layer: MixedMemory, factor: float, where: str) -> Layer:
    return replace(layer, cell=faster(layer.cell, factor, where))


def _slower_by(*names: str) -> Callable[[Any, float, str], Layer]:
    return lambda layer, factor, _: replace(layer, **{name: getattr(layer, name) / factor for name in names})


def _longer(layer: CtRnn | NeuralOde, factor: float, _: str) -> Layer:
    return replace(layer, step=layer.step * factor)


FASTER: Mapping[type, Callable[[Any, float, str], Layer]] = {
    Ltc: _slower_by("cm"), Cfc: _cfc, WiredCfc: _wired, MixedMemory: _mixed, CtRnn: _longer, NeuralOde: _longer,
    CtGru: lambda layer, factor, _: replace(layer, decay=layer.decay**factor), Lif: _slower_by("tau"),
    LeakyIntegrator: _slower_by("tau", "lookahead"),
}
"""By the kind of a layer: all kinds that read dt but those whose equations have no weight of their own for it."""
