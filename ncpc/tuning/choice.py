"""What is searched for and how long, and which of the points that were measured to take: the front, what stops a point,
the one that costs least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ncpc.report.record import Json
from ncpc.report.terminal import share
from ncpc.tuning.budgets import OBJECTIVES, Budgets

Point = Mapping[str, str]
"""A value for each knob."""


@dataclass(frozen=True)
class MeasuredPoint:
    """A point and what was measured of it.

    ``error`` is the largest distance of the compiled program from the original policy in float64, ``own`` that from the
    policy as it was compiled (with other unfolds, fewer synapses), both fractions of the output range on the data set
    that decides. ``reasons`` say what speaks against it beside those; without ``error`` it could not be built or run.
    """

    point: Point
    costs: Mapping[str, int] = field(default_factory=dict)
    error: float | None = None
    own: float | None = None
    reasons: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The costs and the error in a line."""
        return ", ".join([*(f"{name} {cost:,}" for name, cost in self.costs.items()), f"error {share(self.error)}"])

    def as_json(self) -> Json:
        """For the study and the record."""
        return asdict(self) | {"reasons": list(self.reasons)}

    def objectives(self, target_costs: Sequence[str]) -> list[float]:
        """What is to be as small as possible."""
        assert self.error is not None
        return [*(float(self.costs[name]) for name in target_costs if name in OBJECTIVES), self.error]


@dataclass(frozen=True)
class Demands:
    """What a point is to meet."""

    tolerance: float
    budgets: Budgets


@dataclass(frozen=True)
class Search:
    """How long to search: points in all, seconds of this run (None: no limit), and the seed of what is sampled."""

    trials: int = 60
    timeout: float | None = None
    seed: int = 0


def point_from(record: Json) -> MeasuredPoint:
    """The inverse of ``as_json``."""
    return MeasuredPoint(**{**record, "reasons": tuple(record["reasons"])})


def over(row: MeasuredPoint, demands: Demands) -> dict[str, float]:
    """What stops a point that was measured, and how many times too much it is: ``error``, the names of costs."""
    found = {"error": max(row.error or 0.0, row.own or 0.0) / demands.tolerance}
    found |= {name: row.costs[name] / most for name, most in demands.budgets.items()}
    return {name: times for name, times in found.items() if not times <= 1}


def meets(row: MeasuredPoint, demands: Demands) -> bool:
    """Whether it was built, its verdict holds, and it keeps to tolerance and budgets."""
    return row.error is not None and not row.reasons and not over(row, demands)


def front(rows: Sequence[MeasuredPoint], names: Sequence[str]) -> list[MeasuredPoint]:
    """The points that no other is better than in one of the objectives and as good as in all; of equal ones the first.

    Cheapest first. What could not be built, or whose links do not hold, is none of them.
    """
    sound = {tuple(row.objectives(names)): row for row in reversed(rows) if row.error is not None and not row.reasons}
    kept = [values for values in sound
            if not any(other != values and all(a <= b for a, b in zip(other, values, strict=True)) for other in sound)]
    return [sound[values] for values in sorted(kept)]


def choose(rows: Sequence[MeasuredPoint], names: Sequence[str], demands: Demands) -> MeasuredPoint | None:
    """Of those that meet everything, the one with the least product of its costs; of equal ones the most exact."""
    able = [row for row in rows if meets(row, demands)]
    return min(able, key=lambda row: (_product(row, names), row.error), default=None)


def nearest(rows: Sequence[MeasuredPoint], demands: Demands) -> MeasuredPoint | None:
    """Where none meets everything: that whose worst excess is the least."""
    built = [row for row in rows if row.error is not None]
    return min(built, key=lambda row: max(over(row, demands).values(), default=0.0), default=None)


def why_chosen(row: MeasuredPoint, rows: Sequence[MeasuredPoint], names: Sequence[str], demands: Demands) -> list[str]:
    """The reasons in words, one line each."""
    able = sum(meets(one, demands) for one in rows)
    least = " x ".join(name for name in names if name in OBJECTIVES) or "error"
    lines = [f"of {len(rows)} points {able} meet everything; of those its {least} is the least"]
    lines.append(f"error {share(row.error)} of the output range from the original policy, at most "
                 f"{share(demands.tolerance)} asked for")
    return lines + [f"{name} {row.costs[name]:,} of {most:,}" for name, most in demands.budgets.items()]


def what_stops(row: MeasuredPoint, demands: Demands) -> list[str]:
    """What a point has too much of, one line each, the worst first, and what its verdict says."""
    if row.error is None:
        return list(row.reasons)
    lines: list[str] = []
    for name, times in sorted(over(row, demands).items(), key=lambda pair: -pair[1]):
        has, most = (share(max(row.error or 0.0, row.own or 0.0)), share(demands.tolerance)) if name == "error" else (
            f"{row.costs[name]:,}", f"{demands.budgets[name]:,}")
        lines.append(f"{name} {has}, {times:.3g} times the {most} that is asked for")
    return [*lines, *row.reasons]


def _product(row: MeasuredPoint, names: Sequence[str]) -> float:
    return math.prod(float(row.costs[name]) for name in names if name in OBJECTIVES)
