"""Data for bitwise links alone: what lies outside the declared ranges, where every status bit has its work.

No error is measured on it: the policy itself means nothing there. Runtimes are to do exactly what the Program says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import F64, Policy
from ncpc.ir.program import Program, State
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed, Float32

STEPS = 24
FAR = 1e6
"""Multiples of an input's range that are far beyond it, and leave binary32 room to compute with."""


def outside(policy: Policy, runtime_dt: bool) -> Sequences:
    """Inputs at and beyond the ends of their ranges, not-a-number and infinite ones; so is dt with ``runtime_dt``.

    Four sequences: near the ends, around them, far away, and no numbers among ordinary ones.
    """
    rng, (lo, hi) = np.random.default_rng(3), policy.input_range.T
    width = np.where(hi > lo, hi - lo, 1.0)
    shape = (STEPS, policy.inputs)
    ends = np.where(rng.random(shape) < 0.5, lo, hi)
    step = width * 2.0 ** -rng.integers(4, 24, shape)
    near = ends + step * rng.choice([-1.0, 0.0, 1.0], shape)
    around = lo + width * rng.uniform(-1, 2, shape)
    far = lo + width * rng.choice([-FAR, FAR, -3.0, 4.0, 0.5], shape)
    strange = rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0], shape)
    mixed = np.where(rng.random(shape) < 0.3, strange, lo + width * rng.random(shape))
    x = np.stack([near, around, far, mixed])
    return Sequences(x, timespans(policy, x.shape[:2], rng) if runtime_dt else None, rng.random(x.shape[:2]) < 0.05)


def timespans(policy: Policy, shape: tuple[int, ...], rng: np.random.Generator) -> F64:
    """Timespans at, within and beyond their declared range, and no numbers."""
    lo, hi = policy.dt.lo, policy.dt.hi
    known = [lo, hi, policy.dt.nominal, np.nextafter(lo, 0), np.nextafter(hi, np.inf), lo / 2, hi * 2, 0.0, -lo,
             hi * FAR, np.nan, np.inf]
    return np.asarray(rng.choice(known, shape), np.float64)


def kept_states(policy: Policy, program: Program) -> Sequences | None:
    """States to restore, at the corners of their box and beyond, before ordinary steps; None without a state.

    Each sequence restores one state: all at an end, ends mixed, a unit beyond, far beyond, and no numbers.
    """
    if not program.states:
        return None
    rng = np.random.default_rng(4)
    raw = np.concatenate([_corners(state, rng) for state in program.states], axis=1)
    lo, hi = policy.input_range.T
    x = lo + (hi - lo) * rng.random((len(raw), STEPS // 2, policy.inputs))
    return Sequences(x, restored=raw)


def _corners(state: State, rng: np.random.Generator) -> NDArray[np.int64]:
    """(7, n) raw numbers of one state."""
    size = int(np.prod(state.inp.shape, dtype=np.int64))
    kind = state.inp.type
    real = isinstance(kind, Float32)
    box = np.tile([-8.0, 8.0], (size, 1)) if state.box is None else np.asarray(state.box, np.float64).reshape(-1, 2)
    lo, hi = box.T
    if isinstance(kind, Fixed):
        lo, hi = (np.full(size, float(e)) if state.box is None else b for e, b in ((kind.lo, lo), (kind.hi, hi)))
    mixed = np.where(rng.random(size) < 0.5, lo, hi)
    unit = np.spacing(np.abs(mixed.astype(np.float32))).astype(np.float64) if real else np.ones(size)
    beyond = np.where(mixed == lo, mixed - unit, mixed + unit)
    around = lo + (hi - lo) * rng.uniform(-0.5, 1.5, size)
    last = np.where(rng.random(size) < 0.5, np.nan, np.inf) if real else np.where(mixed == lo, -(2.0**31), 2.0**31 - 1)
    rows = np.stack([lo, hi, mixed, beyond, around, mixed * 1e3, last])
    return _raw(rows, state)


def _raw(numbers: F64, state: State) -> NDArray[np.int64]:
    """Numbers as a Trace holds them: bit patterns for binary32, integers within the type otherwise."""
    kind = state.inp.type
    if isinstance(kind, Fixed):
        return np.clip(np.rint(numbers), kind.lo, kind.hi).astype(np.int64)
    return numbers.astype(np.float32).view(np.int32).astype(np.int64)
