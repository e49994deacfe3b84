"""What sources send to synapses: a value goes when it has moved by more than theta, and the rest is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.sequences import Trace

I64 = NDArray[np.int64]


@dataclass
class Source:
    """What synapses last received, (B, n), None before anything was sent, and how much was sent.

    ``fan_out`` (n,) counts the synapses of each value. What follows from a state is sent when it moved by more than
    ``theta``, anything else when it changed.
    """

    fan_out: I64
    follows_state: bool
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
            moved = np.abs(values - self.last) > (self.theta if self.follows_state else 0)
            moved = moved if self.forgotten is None else moved | self.forgotten[:, None]
        seen = values.copy() if self.last is None else np.where(moved, values, self.last)
        self.messages += int(moved.sum())
        self.events += int((moved * self.fan_out).sum())
        self.last, self.forgotten = seen, None
        return seen

    def forget(self, rows: NDArray[np.bool_]) -> None:
        """After a reset of ``rows`` (B,) everything there is sent anew."""
        self.forgotten = rows


@dataclass(frozen=True, eq=False)
class GradedRun:
    """A run and its traffic: messages sent and synaptic events caused, per step and sequence; how many ``synapses``."""

    trace: Trace
    messages: float
    events: float
    synapses: int


def with_traffic(trace: Trace, sources: Sequence[Source], steps: int) -> GradedRun:
    """The run, and what its sources sent in ``steps`` steps."""
    messages, events = sum(s.messages for s in sources), sum(s.events for s in sources)
    return GradedRun(trace, messages / steps, events / steps, sum(int(s.fan_out.sum()) for s in sources))
