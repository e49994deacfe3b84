"""Graded nodes in closed loops, one step at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ncpc.semantics import ports
from ncpc.targets.nir_graded.joined import GradedExecutor, Joined, joined
from ncpc.targets.nir_graded.layers import GradedLayer

F64 = NDArray[np.float64]


@dataclass
class GradedSession:
    """A chain of nodes. After a reset states are at their first value, and nothing is sent yet."""

    layers: tuple[GradedLayer, ...]
    status: int = 0
    chain: Joined = field(init=False)
    machine: GradedExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.chain = joined(self.layers)
        self.reset()

    def reset(self) -> None:
        """A machine that has done nothing."""
        self.machine = GradedExecutor(self.chain)
        self.machine.reset(1)

    def step(self, x: F64, dt: float) -> F64:
        """One step."""
        program = self.chain.program
        timespan = None if program.dt is None else ports.encode(program.dt, np.array([[dt]]))[:, 0]
        y, _, flags = self.machine.step(ports.encode(program.x, x[None]), timespan)
        self.status = int(flags[0])
        return np.asarray(ports.decode(program.y, y)[0])

    def close(self) -> None:
        """Nothing is held open."""
