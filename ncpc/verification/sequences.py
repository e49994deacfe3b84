"""Test inputs: whole sequences with carried state, several families and seeds, never the calibration data itself.

Families: ``smooth`` (sums of sinusoids), ``startup`` (constants met from reset, again and again), ``extreme`` (channels
jumping between the ends of their range), ``held`` (piecewise constant), ``noise`` (independent every step) and, where
the policy carries calibration data, ``alike`` (blends of it, shifted in time). Sequences come family by family, then
seed by seed, so that the first few already cover every family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import F64, Policy
from ncpc.ir.sequences import Sequences
from ncpc.quant.inputs import heard_range

Family = Callable[[np.random.Generator, Policy, int], F64]

SEEDS = 3
MIN_LENGTH = 50
MAX_SEED = 1 << 16


def suite(policy: Policy, steps: int, runtime_dt: bool, seed: int = 1) -> Sequences:
    """At least ``steps`` steps of every family, ``SEEDS`` times each where there is room; deterministic in ``seed``.

    Inputs cover the declared range and stay in it; every other row covers what the first layer listens to of it, so
    that a range far beyond that does not hide the rest. ``dt`` is irregular over the declared range when
    ``runtime_dt``, else the nominal one. Rows are cut short rather than dropped until ``MIN_LENGTH`` is reached.
    """
    chosen = families(policy)
    rows = max(1, min(len(chosen) * SEEDS, steps // MIN_LENGTH))
    length = -(-steps // rows)
    names = [list(chosen)[row % len(chosen)] for row in range(rows)]
    draws = [np.random.default_rng([seed % MAX_SEED, row]) for row in range(rows)]
    lo, hi = policy.input_range.T
    spans = [_span(policy, row // len(chosen) + row, name) for row, name in enumerate(names)]
    x = [low + width * chosen[n](rng, policy, length)
         for n, rng, (low, width) in zip(names, draws, spans, strict=True)]
    reset = [resets(n, rng, length) for n, rng in zip(names, draws, strict=True)]
    dt = [timespans(policy, rng, length, runtime_dt and row % 2 == 0) for row, rng in enumerate(draws)]
    return Sequences(x=np.clip(np.stack(x), lo, hi), dt=np.stack(dt), reset=np.stack(reset))


def _span(policy: Policy, row: int, family: str) -> tuple[F64, F64]:
    """The lower ends and widths that a row covers; data blended from calibration stay what they are."""
    lo, hi = policy.input_range.T if row % 2 == 0 or family == "alike" else heard_range(policy).T
    return lo, hi - lo


def families(policy: Policy) -> dict[str, Family]:
    """Name -> generator of (T, inputs) numbers between 0 and 1 across the input range."""
    found: dict[str, Family] = {"smooth": _smooth, "startup": _startup, "extreme": _extreme, "held": _held}
    found["noise"] = lambda rng, policy, length: rng.random((length, policy.inputs))
    return found | ({"alike": _alike} if policy.calibration is not None else {})


def prefix(data: Sequences, steps: int) -> Sequences:
    """The first sequences of ``data``, each at least ``MIN_LENGTH`` long where it can be, ``steps`` steps in all."""
    rows, length = data.x.shape[:2]
    keep = max(1, min(rows, steps // min(MIN_LENGTH, length)))
    return take(data, keep, min(length, -(-steps // keep)))


def take(data: Sequences, rows: int, length: int) -> Sequences:
    """The first ``rows`` sequences, each cut to ``length`` steps."""
    return data.part(slice(rows), slice(length))


def within(data: Sequences, policy: Policy, runtime_dt: bool) -> tuple[Sequences, int]:
    """``data`` as a deployed policy sees it, and how many steps had an input or a dt outside the declared ranges.

    Those are saturated at the boundary, NaN counts as zero; without ``runtime_dt`` every dt is the nominal one. A
    guessed input range is no boundary.
    """
    x = np.nan_to_num(data.x, nan=0.0, posinf=np.inf, neginf=-np.inf)
    x = x if policy.range_guessed else np.clip(x, *policy.input_range.T)
    nominal = np.full(x.shape[:2], policy.dt.nominal)
    dt = nominal if data.dt is None or not runtime_dt else np.clip(data.dt, policy.dt.lo, policy.dt.hi)
    outside = (x != data.x).any(axis=2) | (False if data.dt is None or not runtime_dt else dt != data.dt)
    return replace(data, x=x, dt=dt), int(np.sum(outside))


def resets(family: str, rng: np.random.Generator, length: int) -> NDArray[np.bool_]:
    """Where the state is reset: start-up sequences every few steps, the others about once halfway."""
    reset = np.zeros(length, np.bool_)
    if family == "startup":
        at = np.cumsum(rng.integers(3, 24, length))
        reset[at[at < length]] = True
    elif length > 20:
        reset[int(rng.integers(length // 3, 2 * length // 3))] = True
    return reset


def timespans(policy: Policy, rng: np.random.Generator, length: int, irregular: bool) -> F64:
    """(T,) timespans: nominal, or log-uniform over the declared range with both ends met."""
    lo, hi = policy.dt.lo, policy.dt.hi
    if not irregular or policy.dt.fixed:
        return np.full(length, policy.dt.nominal)
    dt = np.exp(rng.uniform(np.log(lo), np.log(hi), length))
    dt[rng.random(length) < 0.05] = lo
    dt[rng.random(length) < 0.05] = hi
    return np.clip(dt, lo, hi)


def _smooth(rng: np.random.Generator, policy: Policy, length: int) -> F64:
    t = np.arange(length)[:, None, None]
    frequency = np.exp(rng.uniform(np.log(0.002), np.log(0.2), (policy.inputs, 3)))
    waves = np.sin(2 * np.pi * (frequency * t + rng.random((policy.inputs, 3))))
    return np.asarray(0.5 + 0.5 * (waves * rng.dirichlet(np.ones(3), policy.inputs)).sum(axis=2), np.float64)


def _held(rng: np.random.Generator, policy: Policy, length: int) -> F64:
    return hold(rng, rng.random((length, policy.inputs)), 40)


def _extreme(rng: np.random.Generator, policy: Policy, length: int) -> F64:
    return hold(rng, rng.choice([0.0, 1.0], (length, policy.inputs)), 25)


def _startup(rng: np.random.Generator, policy: Policy, length: int) -> F64:
    return hold(rng, np.clip(rng.uniform(-0.25, 1.25, (length, policy.inputs)), 0, 1), 24)


def _alike(rng: np.random.Generator, policy: Policy, length: int) -> F64:
    """Two calibration sequences blended, each from a random time on and repeated as often as needed."""
    assert policy.calibration is not None
    x = policy.calibration.x
    lo, hi = policy.input_range.T
    span = np.where(hi > lo, hi - lo, 1.0)
    parts = []
    for row in rng.integers(0, x.shape[0], 2):
        at = (int(rng.integers(x.shape[1])) + np.arange(length)) % x.shape[1]
        parts.append((x[row, at] - lo) / span)
    share = rng.random()
    return np.asarray(np.clip(share * parts[0] + (1 - share) * parts[1], 0, 1), np.float64)


def hold(rng: np.random.Generator, x: F64, longest: int) -> F64:
    """Every channel keeps its value for 1 to ``longest`` steps before it takes the next one."""
    out = np.empty_like(x)
    for channel in range(x.shape[1]):
        starts = np.cumsum(rng.integers(1, longest + 1, x.shape[0]))
        out[:, channel] = x[np.searchsorted(starts, np.arange(x.shape[0]), side="right"), channel]
    return out
