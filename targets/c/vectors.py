"""The self test's vectors: inputs spread over the declared ranges and what the program answers, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Port, Program
from ncpc.semantics import ports
from ncpc.semantics.run import Executor

STEPS = 8
NUMBERS = 4096
"""Input numbers of all steps together: a network that reads frames runs fewer of them."""
GOLDEN_RATIO = 0.6180339887498949
"""Multiples of it, taken modulo 1, fill the unit interval evenly."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Steps from the reset state: ``x`` (steps, inputs), ``dt`` (steps,) or None, ``y`` (steps, outputs), all raw;
    ``states`` after the last step, in program order."""

    x: NDArray[Any]
    dt: NDArray[Any] | None
    y: NDArray[Any]
    states: tuple[NDArray[Any], ...]


def vectors_of(program: Program, steps: int = STEPS) -> Vectors:
    """Run ``steps`` steps of the program's semantics."""
    executor = Executor(program)
    executor.reset(1)
    steps = max(1, min(steps, NUMBERS // program.x.value.shape[0]))
    x = ports.encode(program.x, _spread(program.x, steps, 0))
    dt = ports.encode(program.dt, _spread(program.dt, steps, 1))[:, 0] if program.dt else None
    ys = []
    after: list[NDArray[Any]] = []
    with np.errstate(over="ignore", under="ignore"):
        for t in range(steps):
            y, after, _ = executor.step(x[t : t + 1], None if dt is None else dt[t : t + 1])
            ys.append(y[0])
    return Vectors(x, dt, np.stack(ys), tuple(state[0] for state in after))


def _spread(port: Port, steps: int, start: int) -> NDArray[np.float64]:
    """Numbers in the port's range; in [-1, 1] where the range is infinite."""
    lo, hi = port.range[:, 0], port.range[:, 1]
    finite = np.isfinite(lo) & np.isfinite(hi)
    lo, hi = np.where(finite, lo, -1.0), np.where(finite, hi, 1.0)
    count = steps * len(lo)
    unit = np.modf((1 + start + np.arange(count)) * GOLDEN_RATIO)[0].reshape(steps, len(lo))
    spread: NDArray[np.float64] = lo + unit * (hi - lo)
    return spread
