"""A search for the worst input: sequences bred to drive the deployed arithmetic away from the float64 policy.

It reports a witness, never a bound: nothing found proves nothing. A fully connected network may be multistable, and
then a difference of one rounding can end in another basin; that is why the search counts only when asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.quant.inputs import heard_range
from ncpc.verification.sequences import MAX_SEED, SEEDS, families, suite, timespans

Progress = Callable[[float], None]
Arithmetic = Callable[[Sequences], Trace]


@dataclass(frozen=True, eq=False)
class Worst:
    """The worst input found: largest output error in physical units, the step (T axis) it occurs at, the sequence."""

    max_abs: float
    step: int
    evaluations: int
    steps: int
    witness: Sequences


def search(
    policy: Policy,
    reference: Arithmetic,
    deployed: Arithmetic,
    *,
    runtime_dt: bool,
    screens: int = 10,
    generations: int = 12,
    population: int = 24,
    length: int = 96,
    progress: Progress = lambda _: None,
) -> Worst:
    """Screen ``screens`` suites of random sequences, then breed the worst of them for ``generations`` generations.

    ``reference`` and ``deployed`` run sequences, the float64 policy and what the device computes. Sequences have
    ``length`` steps. Deterministic; the effort is a number of steps, not a time.
    """
    rng = np.random.default_rng([len(policy.layers) % MAX_SEED, policy.inputs, 2])
    pool = [_suite(policy, length, runtime_dt, seed) for seed in range(101, 101 + screens)]
    data, error = _screened(reference, deployed, _joined(*pool), population)
    progress(0.5)
    for generation in range(generations):
        children = _breed(rng, policy, data, error, runtime_dt)
        both = np.concatenate([error, _errors(reference, deployed, children)])
        data, error = _fittest(_joined(data, children), both, population)
        progress(0.5 + 0.5 * (generation + 1) / generations)
    evaluations = sum(len(part.x) for part in pool) + generations * population
    return Worst(float(error[0].max()), int(error[0].argmax()), evaluations, evaluations * length,
                 _rows(data, np.array([0])))


def _suite(policy: Policy, length: int, runtime_dt: bool, seed: int) -> Sequences:
    return suite(policy, length * len(families(policy)) * SEEDS, runtime_dt, seed)


def _screened(
    reference: Arithmetic, deployed: Arithmetic, data: Sequences, keep: int
) -> tuple[Sequences, NDArray[np.float64]]:
    return _fittest(data, _errors(reference, deployed, data), keep)


def _fittest(data: Sequences, error: NDArray[np.float64], keep: int) -> tuple[Sequences, NDArray[np.float64]]:
    """The sequences with the largest errors, worst first."""
    order = np.argsort(-error.max(axis=1), kind="stable")[:keep]
    return _rows(data, order), error[order]


def _errors(reference: Arithmetic, deployed: Arithmetic, data: Sequences) -> NDArray[np.float64]:
    """(B, T) largest output error at each step."""
    difference = np.abs(reference(data).y - deployed(data).y).max(axis=2)
    return np.where(np.isnan(difference), np.inf, difference)


def _breed(
    rng: np.random.Generator, policy: Policy, data: Sequences, error: NDArray[np.float64], runtime_dt: bool
) -> Sequences:
    """One child per sequence: a good parent, crossed with another or not, and changed shortly before its worst step."""
    count = len(data.x)
    parents = np.minimum(rng.geometric(0.2, (count, 2)) - 1, count - 1)
    children, other = _rows(data, parents[:, 0]), _rows(data, parents[:, 1])
    for child in range(count):
        worst = int(error[parents[child, 0]].argmax())
        if rng.random() < 0.3:
            children.x[child, : max(1, worst // 2)] = other.x[child, : max(1, worst // 2)]
        for _ in range(int(rng.integers(1, 4))):
            _mutate(rng, policy, children.x[child], worst)
        if runtime_dt and rng.random() < 0.4:
            _retime(rng, policy, children, child)
    return children


def _mutate(rng: np.random.Generator, policy: Policy, x: NDArray[np.float64], worst: int) -> None:
    """Redraw, or shift a little, a segment of some channels that begins before the worst step.

    Half of the time within what the first layer listens to, where that is less than the declared range.
    """
    whole, heard = policy.input_range, heard_range(policy)
    lo, hi = (heard if not np.array_equal(whole, heard) and rng.random() < 0.5 else whole).T
    begin = max(0, worst - int(rng.integers(0, 32)))
    segment = slice(begin, begin + int(rng.integers(1, 24)))
    channels = np.nonzero(rng.random(policy.inputs) < max(0.3, 1 / policy.inputs))[0]
    for channel in channels:
        width = hi[channel] - lo[channel]
        if rng.random() < 0.5:
            x[segment, channel] += rng.normal(0, 0.1) * width
        else:
            x[segment, channel] = lo[channel] + width * (rng.integers(0, 2) if rng.random() < 0.5 else rng.random())
    np.clip(x, *whole.T, out=x)


def _retime(rng: np.random.Generator, policy: Policy, data: Sequences, row: int) -> None:
    assert data.dt is not None
    data.dt[row] = timespans(policy, rng, data.x.shape[1], True)


def _joined(*parts: Sequences) -> Sequences:
    columns = [[getattr(part, name) for part in parts] for name in ("x", "dt", "reset")]
    return Sequences(*(np.concatenate(column) for column in columns))


def _rows(data: Sequences, rows: NDArray[np.int64]) -> Sequences:
    assert data.dt is not None
    assert data.reset is not None
    return Sequences(x=data.x[rows].copy(), dt=data.dt[rows].copy(), reset=data.reset[rows].copy())
