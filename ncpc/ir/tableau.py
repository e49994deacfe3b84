"""Explicit Runge-Kutta methods as data: what a step of an ODE ``dv/dt = f(v)`` is made of.

    k_i = f(v + h * sum_j a_ij k_j),    v' = v + h * sum_i b_i k_i

(Hairer, Nørsett & Wanner 1993, II.1). A new method is a row of ``TABLEAUS``: the torch cells, the lowering, the test
of stability and ``inspect --solver-study`` know it then.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm

Row = tuple[Fraction, ...]


@dataclass(frozen=True)
class Tableau:
    """``a``: row i holds what stage i + 2 takes of the stages before it; ``b``: what the step takes of each stage."""

    a: tuple[Row, ...]
    b: Row

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for rows of another form, and for weights that are no mean."""
        if [len(row) for row in self.a] != list(range(1, len(self.b))) or sum(self.b) != 1 or min(self.b) < 0:
            raise ValueError("a tableau: row i of a has i entries, b one more than a has rows, b >= 0 adds up to 1")

    @property
    def stages(self) -> int:
        """Evaluations of the right-hand side in a step."""
        return len(self.b)

    @property
    def parts(self) -> tuple[int, tuple[int, ...]]:
        """``b`` as whole numbers over one denominator: (6, (1, 2, 2, 1)) for the classical method."""
        most = lcm(*(share.denominator for share in self.b))
        return most, tuple(int(share * most) for share in self.b)

    @cached_property
    def growth(self) -> tuple[Fraction, ...]:
        """Coefficients of the polynomial R: a step multiplies what decays at rate ``r`` by R(-h*r), lowest first."""
        stages: list[list[Fraction]] = []
        for row in ((), *self.a):
            stages.append(_stage(row, stages))
        return tuple(_stage(self.b, stages))

    @cached_property
    def stable(self) -> float:
        """The largest (step x decay rate) at which a linear decay does not grow: where |R(-z)| first exceeds 1.

        2 for Euler and Heun, 2.785 for the classical method (Hairer & Wanner 1996, IV.2).
        """
        step, z = 2.0**-10, 0.0
        while abs(self._decay(z + step)) <= 1.0:
            z += step
        for _ in range(40):
            step /= 2
            z += step if abs(self._decay(z + step)) <= 1.0 else 0.0
        return z

    def _decay(self, z: float) -> float:
        return float(sum(float(c) * (-z) ** k for k, c in enumerate(self.growth)))


def _stage(row: Row, stages: list[list[Fraction]]) -> list[Fraction]:
    """``1 + z * sum of the row's shares of the stages`` as a polynomial in z."""
    found = [Fraction(0)] * (len(stages) + 1)
    found[0] = Fraction(1)
    for share, stage in zip(row, stages, strict=False):
        for power, c in enumerate(stage):
            found[power + 1] += share * c
    return found


def _row(*shares: int | str) -> Row:
    return tuple(map(Fraction, shares))


TABLEAUS = {
    "euler": Tableau((), _row(1)),
    "heun": Tableau((_row(1),), _row("1/2", "1/2")),
    "rk38": Tableau((_row("1/3"), _row("-1/3", 1), _row(1, -1, 1)), _row("1/8", "3/8", "3/8", "1/8")),
    "rk4": Tableau((_row("1/2"), _row(0, "1/2"), _row(0, 0, 1)), _row("1/6", "1/3", "1/3", "1/6")),
}
"""Methods by the name of a solver: Euler's, Heun's, and of order 4 Kutta's 3/8 rule and the classical one (Kutta 1901).
"""

MEANS = ("fused", "exponential")
"""Solvers of an LTC alone: a step of any length is a weighted mean of the state and of what it is driven to."""
LTC_SOLVERS = (*MEANS, *TABLEAUS)
