"""The prover: searches the smallest errors whose inequalities close, component by component, in float64.

What it finds is only proposed; ``ncpc.proofs.errors.check`` confirms it in other arithmetic and with other code.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import F64
from ncpc.proofs.errors.box import invariant_box
from ncpc.proofs.errors.certificate import Certificate
from ncpc.proofs.errors.components import components, feeds_itself
from ncpc.proofs.errors.facts import Facts
from ncpc.proofs.errors.trial import Trial

SLICES, PIECES = 12, 12
SLOPES, STEEPEST = 21, 4.0
ROUNDS = 200
SETTLED, ROOM = 2e-3, 1.02
"""A component's errors stand when they grow by less than this share; they are then enlarged by this factor."""
CAP = 0.5
"""An error of this share of a neuron's range says nothing; the search gives up there."""
SLACK = 1e-6
"""Share by which errors are enlarged, so that the inequalities hold in outward-rounded arithmetic too."""


@dataclass(frozen=True, eq=False)
class Found:
    """A certificate to be checked, or the neurons (names) whose errors did not close."""

    certificate: Certificate | None
    open: tuple[str, ...]


def search(held: Facts, policy: str, program: str) -> Found:
    """The errors of all neurons, in the order in which they feed each other."""
    box = invariant_box(held)
    errors, shapes = np.zeros(held.layer.neurons), np.ones((held.layer.neurons, SLICES + 1))
    for group in components(held.layer):
        if not _settle(held, box, errors, shapes, group):
            return Found(None, tuple(held.names[i] for i in group))
    errors *= 1.0 + SLACK
    rows = tuple(Trial(held, box, errors, shapes, i, shapes[i], PIECES).row(float(e)) for i, e in enumerate(errors))
    most = np.array([row.errors.max() for row in rows])
    motor = slice(0, held.layer.outputs)
    largest = np.abs(box[motor]).max(axis=1) + most[motor]
    outputs = (held.y_slope * most[motor] + held.y_share * largest + held.y_fixed) * (1.0 + 1e-12)
    return Found(Certificate(policy, program, box, most, outputs, rows), ())


def _settle(held: Facts, box: F64, errors: F64, shapes: F64, group: list[int]) -> bool:
    """Errors and shapes of one component, in place: Gauss-Seidel over its neurons until they stand."""
    alone = not feeds_itself(held.layer, group)
    for _ in range(ROUNDS):
        before = errors[group].copy()
        for i in group:
            errors[i], shapes[i] = _best(held, box, errors, shapes, i)
            if not np.isfinite(errors[i]):
                return False
        if alone or (errors[group] <= before * (1 + SETTLED)).all():
            errors[group] *= 1.0 if alone else ROOM
            return alone or _confirmed(held, box, errors, shapes, group)
    return False


def _confirmed(held: Facts, box: F64, errors: F64, shapes: F64, group: list[int]) -> bool:
    """Whether all inequalities of a component hold at once; not below: smaller errors would do too."""
    return all(Trial(held, box, errors, shapes, i, shapes[i], PIECES).closes(float(errors[i])) for i in group)


def _best(held: Facts, box: F64, errors: F64, shapes: F64, i: int) -> tuple[float, F64]:
    """The smallest error of a neuron over all shapes, and the shape."""
    cap = CAP * float(box[i, 1] - box[i, 0])
    flat = Trial(held, box, errors, shapes, i, SHAPES[0], PIECES)
    if len(flat.sides) > 1:
        return _best_of_few(held, box, errors, shapes, i, cap)
    most = max(float(errors[i]) * 1.05, 1e-4)
    while most < cap:
        reach = np.linspace(-1.0, 1.0, SLOPES) * STEEPEST * most / (box[i, 1] - box[i, 0])
        shape, found = _shaped(flat.levels, reach, flat.needs(most, reach), most)
        if found <= most:
            trial = Trial(held, box, errors, shapes, i, shape, PIECES)
            return _least(trial, found * 0.95, min(cap, found * 1.5)), shape
        most = min(found * 1.05, 3.0 * most)
    return float("inf"), SHAPES[0]


def _best_of_few(held: Facts, box: F64, errors: F64, shapes: F64, i: int, cap: float) -> tuple[float, F64]:
    """The same of a neuron with a synapse onto itself, whose multipliers matter too."""
    best, chosen = float("inf"), shapes[i]
    for shape in (shapes[i], *FEW):
        trial = Trial(held, box, errors, shapes, i, shape, PIECES)
        if best == float("inf") or trial.closes(best * 0.99):
            found = _least(trial, max(float(errors[i]), 1e-4), min(cap, best), 1.002)
            best, chosen = (found, shape) if found < best else (best, chosen)
    return best, chosen


def _shaped(levels: F64, slopes: F64, needs: F64, most: float) -> tuple[F64, float]:
    """The shape whose scale, by the needs at each level and slope, is the smallest; and that scale."""
    steep = np.diff(SHAPES, axis=1) / np.diff(levels)
    low, high = np.zeros(len(SHAPES)), np.full(len(SHAPES), 3.0 * most)
    for _ in range(24):
        scale = (low + high) / 2
        holds = _meets(SHAPES * scale[:, None], steep * scale[:, None], slopes, needs)
        low, high = np.where(holds, low, scale), np.where(holds, scale, high)
    best = int(high.argmin())
    return SHAPES[best], float(high[best])


def _meets(errors: F64, steep: F64, slopes: F64, needs: F64) -> NDArray[np.bool_]:
    """Per shape, whether its errors are at least the needs at both ends of each slice, at the slope there."""
    unit = slopes[1] - slopes[0]
    at = np.clip((steep - slopes[0]) / unit, 0.0, len(slopes) - 1.0)
    first = np.minimum(at.astype(np.int64), len(slopes) - 2)
    share = at - first
    inside = (steep >= slopes[0]) & (steep <= slopes[-1])
    holds: NDArray[np.bool_] = inside.all(axis=1)
    k = np.arange(steep.shape[1])[None, :]
    with np.errstate(invalid="ignore"):
        for end in (0, 1):
            left, right = needs[k + end, first], needs[k + end, first + 1]
            need = np.where(share == 0.0, left, left + share * (right - left))
            holds &= (errors[:, end : errors.shape[1] - 1 + end] >= need).all(axis=1)
    return holds


def _least(trial: Trial, low: float, cap: float, exact: float = 1 + 1e-4) -> float:
    """The smallest error, to within the factor ``exact``, at which the trial closes; infinite beyond ``cap``."""
    high = max(low, 1e-5)
    while not trial.closes(high):
        low, high = high, high * 1.25
        if high > cap * 1.25:
            return float("inf")
    while high > low * exact + 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if trial.closes(middle) else (middle, high)
    return high


def _shapes(bows: F64, tops: F64, powers: tuple[float, ...]) -> F64:
    """1, and curves that fall by ``bow`` at most from their top to an end of the range, as shares of their most."""
    found = [np.ones(SLICES + 1)]
    at = np.linspace(-1.0, 1.0, SLICES + 1)
    for bow, top, power in product(bows, tops, powers):
        fall = (np.abs(at - top) / (1.0 + abs(top))) ** power
        found.append((1.0 - bow * fall) / (1.0 - bow * fall.min()))
    return np.stack(found)


SHAPES = _shapes(np.linspace(0.1, 0.95, 18), np.linspace(-0.9, 0.9, 19), (1.5, 2.0, 3.0))
FEW = _shapes(np.array([0.3, 0.6, 0.9]), np.array([-0.6, 0.0, 0.6]), (2.0,))
