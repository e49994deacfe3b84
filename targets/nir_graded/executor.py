"""Runs a record: integers in, integers out, and counts the messages that sources send to synapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import fixed
from ncpc.semantics.ops import FLAGS
from ncpc.targets.nir_graded.record import GradedLtc, Wires

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
TABLE_SHIFT = 7
"""Bits of the sigmoid's argument that interpolate (as ``ncpc.ir.quantized.TABLE_SHIFT``)."""
MANTISSA_BITS = 16
"""Bits of ``fixed.recip``."""


@dataclass
class Source:
    """What the synapses of a set last received, (B, n), None before anything was sent, and how much was sent."""

    fan_out: I64
    theta: int
    last: I64 | None = None
    forgotten: NDArray[np.bool_] | None = None
    messages: int = 0
    events: int = 0

    def send(self, values: I64) -> I64:
        """The values synapses see: those that moved by more than theta are sent, the others stay."""
        if self.last is None:
            moved = np.ones(values.shape, np.bool_)
        else:
            moved = np.abs(values - self.last) > self.theta
            moved = moved if self.forgotten is None else moved | self.forgotten[:, None]
        seen = values.copy() if self.last is None else np.where(moved, values, self.last)
        self.messages += int(moved.sum())
        self.events += int((moved * self.fan_out).sum())
        self.last, self.forgotten = seen, None
        return seen

    def forget(self, rows: NDArray[np.bool_]) -> None:
        """After a reset of ``rows`` everything there is sent anew."""
        self.forgotten = rows


@dataclass
class Machine:
    """A layer at work on a batch. ``step`` takes raw x (B, inputs) and gives raw y (B, outputs) and flags (B,)."""

    record: GradedLtc
    v: I64
    inputs: Source = field(init=False)
    neurons: Source = field(init=False)

    def __post_init__(self) -> None:
        r = self.record
        self.inputs = Source(np.bincount(r.sensory.pre, minlength=len(r.x_lo)), 0)
        self.neurons = Source(np.bincount(r.recurrent.pre, minlength=r.neurons), r.theta)

    def reset(self, rows: NDArray[np.bool_]) -> None:
        """Put ``rows`` (B,) back to 0."""
        self.v = np.where(rows[:, None], 0, self.v)
        self.neurons.forget(rows)

    def step(self, x: I64) -> tuple[I64, I64]:
        """One step of the policy."""
        r = self.record
        limited = np.clip(x, r.x_lo, r.x_hi)
        flags = (limited != x).any(axis=1).astype(np.int64) << FLAGS.index("input_saturated")
        base = _sums(r, r.sensory, self.inputs.send(limited), (r.gleak, r.leak))
        for _ in range(r.unfolds):
            seen = self.neurons.send(fixed.shr(self.v, r.u_shift))
            self.v = _updated(r, self.v, _sums(r, r.recurrent, seen, base))
        motor = self.v[:, : len(r.output_w)]
        return fixed.mulshr(motor, r.output_w, r.y_shift) + r.output_b, flags


def _sums(r: GradedLtc, wires: Wires, source: I64, base: tuple[I64, I64]) -> tuple[I64, I64]:
    """G and N."""
    s = sigmoids(wires, source, r.table)
    onto = np.zeros((len(wires), r.neurons), np.int64)
    onto[np.arange(len(wires)), wires.post] = 1
    g = base[0] + (wires.w * s >> wires.den_shift) @ onto
    n = base[1] + (wires.we * s >> wires.num_shift) @ onto
    return _fitting(g, r.sum_bits, "G"), _fitting(n, r.sum_bits, "N")


def sigmoids(wires: Wires, source: I64, table: I64) -> I64:
    """What the synapses' table returns for ``source`` (B, sources): (B, synapses)."""
    slope = wires.sigma * source[:, wires.pre]
    widened = slope << -wires.z_shift if wires.z_shift < 0 else slope
    return fixed.lut((widened + wires.offset) >> max(wires.z_shift, 0), table, TABLE_SHIFT)


def _updated(r: GradedLtc, v: I64, sums: tuple[I64, I64]) -> I64:
    g, n = sums
    drive = _fitting(n - fixed.mulshr(g, v, r.pull_shift), r.sum_bits, "N - G*v")
    divisor = _fitting(r.cm_t + fixed.shr(g, r.g_shift), r.sum_bits, "D")
    delta = fixed.mulshr(drive, _inverse(r, divisor), r.delta_shift)
    return _fitting(v + delta, r.state_bits, "v")


def _inverse(r: GradedLtc, divisor: I64) -> I64:
    if not r.inverse_bits:
        return fixed.inverse(divisor, r.inverse_shift)
    e, spare = fixed.norm(divisor), MANTISSA_BITS - r.inverse_bits
    return (fixed.shr(fixed.recip(divisor, e), spare) << spare) << (e + r.inverse_shift)


def _fitting(values: I64, bits: int, what: str) -> I64:
    """``values``; raises ProofFailed when one leaves ``bits``, which formats proved for all time do not let happen."""
    if values.size and (values.min() < -(1 << (bits - 1)) or values.max() >= 1 << (bits - 1)):
        raise ProofFailed(f"graded LTC node: {what} = {values.min()}..{values.max()} leaves {bits} bits; "
                          "this policy needs wider arithmetic")
    return values


@dataclass(frozen=True, eq=False)
class GradedRun:
    """A run and its traffic: messages sent and synaptic events caused, per step and sequence; how many ``synapses``."""

    trace: Trace
    messages: float
    events: float
    synapses: int


def execute(r: GradedLtc, data: Sequences, initial: I64 | None = None) -> GradedRun:
    """Physical inputs in, ``floor(x*2^frac + 1/2)``; every sequence starts from 0, or from ``initial`` (B, neurons)."""
    raw = np.floor(np.ldexp(np.nan_to_num(data.x, nan=0.0), r.x_frac) + 0.5)
    x = np.clip(raw, -(2.0**31), 2.0**31 - 1).astype(np.int64)
    machine = Machine(r, np.zeros((x.shape[0], r.neurons), np.int64) if initial is None else initial)
    ys, states, flags = [], [], []
    for t in range(x.shape[1]):
        if data.reset is not None and t and data.reset[:, t].any():
            machine.reset(data.reset[:, t])
        y, flag = machine.step(x[:, t])
        ys.append(y)
        states.append(machine.v)
        flags.append(flag)
    y, state = np.stack(ys, 1), np.stack(states, 1)
    trace = Trace(np.ldexp(y.astype(float), -r.y_frac), np.ldexp(state.astype(float), -r.v_frac), y, state,
                  np.stack(flags, 1))
    return with_traffic(trace, (machine.inputs, machine.neurons), data.steps)


def with_traffic(trace: Trace, sources: Sequence[Source], steps: int) -> GradedRun:
    """The run, and what its sources sent in ``steps`` steps."""
    messages, events = sum(s.messages for s in sources), sum(s.events for s in sources)
    return GradedRun(trace, messages / steps, events / steps, sum(int(s.fan_out.sum()) for s in sources))
