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
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.verify.sequences import MAX_SEED, resets, suite, timespans

Progress = Callable[[float], None]


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
    real: Program,
    program: Program,
    *,
    runtime_dt: bool,
    generations: int = 12,
    population: int = 48,
    length: int = 64,
    progress: Progress = lambda _: None,
) -> Worst:
    """Evolve ``population`` sequences of ``length`` steps; the best quarter survives, the others are its children.

    Deterministic, and its effort is a number of steps: ``generations * population * length``, not a time.
    """
    rng = np.random.default_rng([len(policy.layers) % MAX_SEED, policy.inputs, 2])
    data = _start(policy, population, length, runtime_dt)
    error = np.zeros((population, length))
    for generation in range(generations):
        if generation:
            data = _breed(rng, policy, data, error.max(axis=1), runtime_dt)
        error = _errors(real, program, data)
        progress((generation + 1) / generations)
    best = int(error.max(axis=1).argmax())
    witness = _rows(data, np.array([best]))
    return Worst(float(error[best].max()), int(error[best].argmax()), generations * population,
                 generations * population * length, witness)


def _start(policy: Policy, population: int, length: int, runtime_dt: bool) -> Sequences:
    parts = [suite(policy, population * length, runtime_dt, seed) for seed in (101, 102, 103)]
    rows = [_windows(part, length) for part in parts]
    x, dt, reset = (np.concatenate([r[k] for r in rows])[:population] for k in range(3))
    return Sequences(x=x, dt=dt, reset=reset.astype(np.bool_))


def _windows(data: Sequences, length: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sequences cut into pieces of ``length`` steps."""
    assert data.dt is not None
    assert data.reset is not None
    pieces = data.x.shape[1] // length
    def cut(a: NDArray[np.float64]) -> NDArray[np.float64]:
        return a[:, : pieces * length].reshape(-1, length, *a.shape[2:])
    return cut(data.x), cut(data.dt), cut(data.reset.astype(np.float64))


def _errors(real: Program, program: Program, data: Sequences) -> NDArray[np.float64]:
    difference = np.abs(run(real, data).y - run(program, data).y).max(axis=2)
    return np.where(np.isnan(difference), np.inf, difference)


def _breed(
    rng: np.random.Generator, policy: Policy, data: Sequences, score: NDArray[np.float64], runtime_dt: bool
) -> Sequences:
    """Survivors unchanged, children crossed at a random time with a few held segments redrawn."""
    population, length = data.x.shape[:2]
    keep = np.argsort(-score, kind="stable")[: population // 4]
    parents = rng.choice(keep, (population - len(keep), 2))
    children = _rows(data, parents[:, 0])
    other = _rows(data, parents[:, 1])
    assert children.dt is not None
    assert other.dt is not None
    for child in range(len(parents)):
        cut = int(rng.integers(length))
        children.x[child, cut:] = other.x[child, cut:]
        children.dt[child, cut:] = other.dt[child, cut:]
        _mutate(rng, policy, children, child, runtime_dt)
    kept = _rows(data, keep)
    return Sequences(*(np.concatenate([getattr(kept, f), getattr(children, f)]) for f in ("x", "dt", "reset")))


def _mutate(rng: np.random.Generator, policy: Policy, data: Sequences, row: int, runtime_dt: bool) -> None:
    """Redraw a few segments of a few channels, at the ends of the range as often as inside it."""
    length, (lo, hi) = data.x.shape[1], policy.input_range.T
    assert data.dt is not None
    assert data.reset is not None
    for _ in range(int(rng.integers(1, 4))):
        begin, size = int(rng.integers(length)), int(rng.integers(1, length // 2))
        channels = rng.random(policy.inputs) < max(0.3, 1 / policy.inputs)
        share = rng.choice([0.0, 1.0]) if rng.random() < 0.5 else rng.random()
        data.x[row, begin : begin + size, channels] = (lo + share * (hi - lo))[channels, None]
    if runtime_dt and rng.random() < 0.3:
        data.dt[row] = timespans(policy, rng, length, True)
    if rng.random() < 0.1:
        data.reset[row] = resets("held", rng, length)


def _rows(data: Sequences, rows: NDArray[np.int64]) -> Sequences:
    assert data.dt is not None
    assert data.reset is not None
    return Sequences(x=data.x[rows].copy(), dt=data.dt[rows].copy(), reset=data.reset[rows].copy())
