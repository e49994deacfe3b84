"""Graded nodes in closed loops, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.base import step_input
from ncpc.targets.nir_graded.executor import Machine
from ncpc.targets.nir_graded.interpreter import ChainMachine, chain_machine, encoded
from ncpc.targets.nir_graded.layers import GradedLayer
from ncpc.targets.nir_graded.record import GradedLtc

F64 = NDArray[np.float64]


@dataclass
class LtcSession:
    """One LTC node."""

    record: GradedLtc
    status: int = 0
    machine: Machine | None = None

    def reset(self) -> None:
        """State 0, nothing sent."""
        self.machine = None

    def step(self, x: F64, dt: float | None = None) -> F64:
        """One step; the timespan is compiled in, ``dt`` is not looked at."""
        r = self.record
        vector = step_input(x, len(r.x_lo), "the layer")
        if self.machine is None:
            self.machine = Machine(r, np.zeros((1, r.neurons), np.int64))
        raw = np.floor(np.ldexp(np.nan_to_num(vector, nan=0.0), r.x_frac) + 0.5).astype(np.int64)
        y, flags = self.machine.step(raw[None])
        self.status = int(flags[0])
        return np.asarray(np.ldexp(y[0].astype(np.float64), -r.y_frac))

    def close(self) -> None:
        """Nothing is held open."""


@dataclass
class ChainSession:
    """A chain of nodes."""

    layers: tuple[GradedLayer, ...]
    status: int = 0
    machine: ChainMachine | None = None

    def reset(self) -> None:
        """States at their first value, nothing sent."""
        self.machine = None

    def step(self, x: F64, dt: float | None = None) -> F64:
        """One step; ``dt`` None is the nominal timespan."""
        face = self.layers[0].face
        if self.machine is None:
            self.machine = chain_machine(self.layers)
            self.machine.start(1)
        given = None if dt is None else np.array([dt], np.float64)
        y, flags = self.machine.step(encoded(face, step_input(x, len(face.x_frac), "the policy")[None], given))
        self.status = int(flags[0])
        return np.asarray(np.ldexp(y[0].astype(np.float64), -face.y_frac))

    def close(self) -> None:
        """Nothing is held open."""
