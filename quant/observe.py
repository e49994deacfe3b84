"""What a policy does on its calibration data, over the reals: ranges that decide widths, never correctness."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ncpc.ir.heads import affordable
from ncpc.ir.policy import F64, INPUT, Policy, Tap
from ncpc.ir.program import Op, Program
from ncpc.ir.rewrite import carries
from ncpc.ir.sequences import Sequences
from ncpc.ir.state import split
from ncpc.ir.wires import before, taps_of
from ncpc.passes.lower import lower
from ncpc.quant.intervals import roomy
from ncpc.semantics.bounds import Range, hull, meet
from ncpc.semantics.run import Executor, run, stepping

FRAME, SHORT = 512, 20
"""Inputs beyond which a policy reads frames, and the steps of generated data for one."""
STEPS, PROBED = 400, 200
"""Steps of generated data where a policy carries no calibration, and beside it."""
ROWS, HELD = 16, 4
"""Sequences that cover the declared ranges, and the steps for which each of their values is held."""
STILL = 1e-6
"""An output that moves less than this says nothing about the tolerance."""


def output_range(policy: Policy) -> float:
    """The smallest range (max - min) among the outputs that move, in physical units; 1 when none does."""
    y = run(lower(policy), _data(policy)).y
    spread = np.ptp(y.reshape(-1, y.shape[2]), axis=0)
    moving = spread[spread > STILL]
    return float(moving.min()) if moving.size else 1.0


def observed_values(policy: Policy) -> tuple[F64, dict[str, F64], F64]:
    """Inputs, states by name and outputs on the calibration data: (n, inputs), (n, neurons) each, (n, outputs)."""
    real, data = lower(policy), _data(policy)
    trace = run(real, data)
    states = {name: part.reshape(-1, part.shape[2]) for name, part in split(real.states, trace.state).items()}
    return data.x.reshape(-1, policy.inputs), states, trace.y.reshape(-1, policy.outputs)


def observed_step(policy: Policy, position: int, step: Program) -> dict[str, Range]:
    """The range of each value of one layer's own ``step``, a single one for all of its elements.

    It is seen on the calibration and on data that cover the declared ranges, so that an integer form does not meet its
    limits as soon as inputs are others. A state that runs away on those counts with no more than three times the
    calibration's width; what has no state gives what declared inputs make it give, however little of them was recorded.
    """
    found = _ranges(step, _before(policy, position, _few(policy)))
    probed = _ranges(step, _before(policy, position, _probe(policy)))
    return {name: hull(seen, meet(probed[name], roomy(seen, 1.0)) if step.states else probed[name])
            for name, seen in found.items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Signals:
    """What a layer meets: its inputs ``x`` (n, inputs), and what it computes of them by name (n, ...)."""

    x: F64
    values: Mapping[str, F64]


def observed_signals(policy: Policy, position: int, step: Program, names: Sequence[str]) -> tuple[Signals, ...]:
    """The values ``names`` of one layer's own ``step`` (states as they are after it), on the calibration data and on
    data that cover the declared ranges; each counts as much as the other, however many steps it has.
    """
    return tuple(Signals(*_seen(step, _before(policy, position, data), names))
                 for data in (_few(policy), _corners(policy)))


def _seen(step: Program, data: Sequences, names: Sequence[str]) -> tuple[F64, dict[str, F64]]:
    seen = [{name: now.value(name).astype(np.float64) for name in names} for now in _steps(step, data)]
    values = {name: np.concatenate([_rows(now[name], len(data.x)) for now in seen]) for name in names}
    return data.x.swapaxes(0, 1).reshape(-1, data.x.shape[2]), values


def _steps(step: Program, data: Sequences) -> Iterator[Executor]:
    """The executor of a layer's step after each step of data that the layer receives."""
    executor = Executor(step)
    executor.reset(len(data.x))
    for _ in stepping(executor, step, data):
        yield executor


def _rows(value: F64, batch: int) -> F64:
    """(batch, n), also of what does not depend on the data."""
    flat = value.reshape(len(value), -1) if value.ndim > 1 else value[None]
    return np.broadcast_to(flat, (batch, flat.shape[1]))


def _before(policy: Policy, position: int, data: Sequences) -> Sequences:
    """What one layer receives."""
    if taps_of(policy)[position] == (Tap(INPUT, 0, policy.inputs),):
        return data
    return dataclasses.replace(data, x=run(lower(before(policy, position)), data).y)


def _ranges(step: Program, data: Sequences) -> dict[str, Range]:
    """What the results of repeats and of ops outside of them, and the states, reach on data that the layer receives."""
    names = [s.inp.name for s in step.states] + [s.out.name for s in step.body if isinstance(s, Op)]
    names += [carry.out.name for carry in carries(step.body)]
    ends = dict.fromkeys(names, (np.inf, -np.inf)) | {s.inp.name: (0.0, 0.0) for s in step.states}
    for now in _steps(step, data):
        for name, (lo, hi) in ends.items():
            value = now.value(name)
            ends[name] = float(value.min(initial=lo)), float(value.max(initial=hi))
    return {name: Range(np.asarray(lo), np.asarray(hi)) for name, (lo, hi) in ends.items()}


def _probe(policy: Policy) -> Sequences:
    """Noise, held values, held ends of the ranges, random walks, all inputs at an end; timespans over their range.

    Frames alone are dark and bright ones, as of a lens that is covered or blinded: noise is like none that a camera
    sees. Beside other inputs they are all of these, since those others may be anything.
    """
    rng, steps = np.random.default_rng(0), affordable(policy.layers, PROBED, 6)
    part = rng.random((6, steps, policy.inputs))
    part[1] = np.repeat(part[1, ::20], 20, axis=0)[:steps]
    part[2] = np.repeat(part[2, ::20] > 0.5, 20, axis=0)[:steps]
    part[3] = np.clip(0.5 + np.cumsum(part[3] - 0.5, axis=0) * 0.2, 0, 1)
    part[4:] = np.arange(2)[:, None, None]
    if policy.inputs > FRAME and len(policy.input_groups) < 2:
        part = part[4:]
    return _over_ranges(policy, rng, part)


def _corners(policy: Policy) -> Sequences:
    """Values held for some steps, half of them ends of the ranges; timespans over their range."""
    rng, steps = np.random.default_rng(1), affordable(policy.layers, PROBED, ROWS)
    part = rng.random((ROWS, -(-steps // HELD), policy.inputs))
    part[::2] = part[::2] > 0.5
    return _over_ranges(policy, rng, np.repeat(part, HELD, axis=1)[:, :steps])


def _over_ranges(policy: Policy, rng: np.random.Generator, part: F64) -> Sequences:
    """Shares (B, T, inputs) of the declared ranges as inputs; timespans over their range."""
    lo, hi = policy.input_range.T
    dt = np.exp(rng.uniform(np.log(policy.dt.lo), np.log(policy.dt.hi), part.shape[:2]))
    return Sequences(lo + (hi - lo) * part, dt.clip(policy.dt.lo, policy.dt.hi))


def _few(policy: Policy) -> Sequences:
    """The calibration's first steps, as many as the products of a step allow."""
    data = _data(policy)
    rows, length = data.x.shape[:2]
    steps = affordable(policy.layers, length, rows)
    dt = None if data.dt is None else data.dt[:, :steps]
    return Sequences(data.x[:, :steps], dt, None if data.reset is None else data.reset[:, :steps])


def _data(policy: Policy) -> Sequences:
    """The calibration, or uniform noise and held values within the declared ranges."""
    if policy.calibration is not None:
        return policy.calibration
    rng = np.random.default_rng(0)
    lo, hi = policy.input_range.T
    steps = STEPS if policy.inputs <= FRAME else SHORT
    noise = rng.uniform(lo, hi, (2, steps, policy.inputs))
    noise[1] = np.repeat(noise[1, ::20], 20, axis=0)
    return Sequences(noise, np.full((2, steps), policy.dt.nominal))
