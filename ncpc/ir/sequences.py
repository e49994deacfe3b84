"""Input sequences and recorded traces: what every runtime takes and gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LATER = {"later": True}
"""Metadata of a field that containers did not always have: it is left out where it has its default, so that policies
without it keep their bytes.
"""


@dataclass(frozen=True, eq=False)
class Sequences:
    """A batch of input sequences in physical units.

    ``x`` (B, T, inputs) float64; ``dt`` (B, T) float64 or None (the policy's nominal dt); ``reset`` (B, T) bool or
    None: True where the state is reset *before* that step. Every sequence starts from the reset state, or from
    ``restored`` (B, S) int64, raw states that are given to ``restore`` before the first step.
    ``y`` (B, T, outputs) float64 or None: what the user's own system gave for these inputs, where that was recorded.
    """

    x: NDArray[np.float64]
    dt: NDArray[np.float64] | None = None
    reset: NDArray[np.bool_] | None = None
    y: NDArray[np.float64] | None = field(default=None, metadata=LATER)
    restored: NDArray[np.int64] | None = field(default=None, metadata=LATER)

    @property
    def steps(self) -> int:
        return int(self.x.shape[0] * self.x.shape[1])

    def part(self, rows: slice | NDArray[np.bool_] | NDArray[np.int64], steps: slice = slice(None)) -> Sequences:
        """Some of the sequences, and some steps of each, as sequences of their own."""
        return Sequences(
            x=self.x[rows, steps],
            dt=None if self.dt is None else self.dt[rows, steps],
            reset=None if self.reset is None else self.reset[rows, steps],
            y=None if self.y is None else self.y[rows, steps],
            restored=None if self.restored is None else self.restored[rows],
        )


@dataclass(frozen=True, eq=False)
class Trace:
    """What a run produced.

    ``y`` (B, T, outputs) and ``state`` (B, T, S), the state *after* each step, states in program order, concatenated.
    For integer programs ``raw_y`` and ``raw_state`` hold the integers (int64) behind the physical values; for float32
    programs they hold the bit patterns as int64, so that "bit for bit" is one comparison of integers.
    ``flags`` (B, T) int64: the status bits of each step.
    """

    y: NDArray[np.float64]
    state: NDArray[np.float64]
    raw_y: NDArray[np.int64]
    raw_state: NDArray[np.int64]
    flags: NDArray[np.int64]
