"""How far a deployed policy is from the float64 one: overall, per neuron, over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.verification.compare import largest, state_names, widest_range


@dataclass(frozen=True, eq=False)
class ErrorStats:
    """Errors against the reference, outputs in physical units.

    ``fraction`` is ``max_abs`` over the reference's output range (the largest channel's), which is what tolerances
    speak of. ``neurons`` gives name, max_abs and rmse of each state, where the run has them. ``worst_step`` counts the
    steps of all sequences in order, from 0; it is step ``worst_time`` of ``worst_sequence``.
    """

    steps: int
    max_abs: float
    rmse: float
    output_range: float
    output_std: float
    worst_step: int
    worst_output: str
    neurons: tuple[tuple[str, float, float], ...]
    over_time: NDArray[np.float64]
    """(T,) largest absolute output error of all sequences at each time."""

    @property
    def fraction(self) -> float:
        return self.max_abs / self.output_range if self.output_range > 0 else (0.0 if self.max_abs == 0 else np.inf)

    @property
    def worst_sequence(self) -> int:
        return self.worst_step // len(self.over_time)

    @property
    def worst_time(self) -> int:
        return self.worst_step % len(self.over_time)

    @property
    def worst_neuron(self) -> str | None:
        """The neuron whose state differs most."""
        return max(self.neurons, key=lambda n: n[1])[0] if self.neurons else None


@dataclass(frozen=True)
class Agreement:
    """Whether a classifier decides alike: in how many ``steps`` its largest output is the same one, and at how many of
    the sequences' ``ends``.
    """

    steps: int
    equal: int
    ends: int
    equal_ends: int

    @property
    def share(self) -> float:
        return self.equal / self.steps


def agreement(reference: Trace, found: Trace) -> Agreement:
    """Compare decisions, the largest output of each step; of equal ones the first."""
    same = reference.y.argmax(axis=2) == found.y.argmax(axis=2)
    return Agreement(same.size, int(same.sum()), len(same), int(same[:, -1].sum()))


def measure(reference: Trace, found: Trace, program: Program, data: Sequences) -> ErrorStats:
    """Compare two runs of ``data``; not-a-number counts as an infinite error."""
    difference = np.abs(reference.y - found.y)
    difference = np.where(np.isnan(difference), np.inf, difference)
    worst = int(difference.max(axis=2).argmax())
    channel = int(difference.reshape(-1, difference.shape[2])[worst].argmax())
    return ErrorStats(
        steps=data.steps,
        max_abs=largest(reference.y, found.y),
        rmse=float(np.sqrt(np.mean(difference**2))),
        output_range=widest_range(reference.y),
        output_std=float(reference.y.std(axis=(0, 1)).max()),
        worst_step=worst,
        worst_output=program.y.names[channel],
        neurons=_neurons(reference, found, program),
        over_time=difference.max(axis=(0, 2)),
    )


def _neurons(reference: Trace, found: Trace, program: Program) -> tuple[tuple[str, float, float], ...]:
    if reference.state.shape != found.state.shape:
        return ()
    difference = np.abs(reference.state - found.state)
    worst, rmse = difference.max(axis=(0, 1)), np.sqrt(np.mean(difference**2, axis=(0, 1)))
    return tuple((n, float(w), float(r)) for n, w, r in zip(state_names(program), worst, rmse, strict=True))
