"""Two traces side by side: equal bit for bit, or how far apart, and where first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program, Value
from ncpc.ir.sequences import Sequences, Trace
from ncpc.ir.types import Float32

MOST_NAMED = 6


def widest_range(y: NDArray[np.float64]) -> float:
    """Of outputs (B, T, outputs) the widest range, which errors are shares of."""
    return float(np.ptp(y, axis=(0, 1)).max())


@dataclass(frozen=True)
class Divergence:
    """The first place where two traces differ.

    ``step`` counts the steps of all sequences in order, from 0; ``sequence`` and ``time`` locate it among them.
    ``neurons`` are the states that differ there (outputs, where no state does), the largest difference first, at most
    ``MOST_NAMED``; ``others`` how many more do; ``context`` says in words what happened just before (start, reset).
    """

    step: int
    sequence: int
    time: int
    neurons: tuple[str, ...]
    others: int
    expected: float
    found: float
    context: str

    @property
    def neuron(self) -> str:
        """The one that differs most."""
        return self.neurons[0]

    def __str__(self) -> str:
        also = f" (also {', '.join(self.neurons[1:])}{' and more' if self.others else ''})" if self.neurons[1:] else ""
        return (f"step {self.time} of sequence {self.sequence}, {self.context}, {self.neuron}{also}: "
                f"expected {self.expected:.6g}, found {self.found:.6g}")


@dataclass(frozen=True)
class Difference:
    """``mismatches`` steps that are not equal as integers, the largest difference of outputs, the first divergence."""

    steps: int
    mismatches: int
    max_abs: float
    first: Divergence | None


SMALLEST = 2.0**-126
"""The smallest normal number of binary32."""


def bitwise(expected: Trace, found: Trace, program: Program, data: Sequences) -> Difference:
    """Compare outputs, states (where ``found`` has them) and flags as integers, step by step.

    Outputs in physical units must be equal too: a runtime may compute the right bits and scale them wrongly.
    Of binary32 numbers below 2**-126 the sign alone is compared: the division of cores without an FPU rounds subnormal
    quotients by a unit of 2**-149 otherwise than IEEE 754 does, and FPUs are often set to flush them.
    """
    if isinstance(program.y.value.type, Float32):
        expected, found = _normal(expected), _normal(found)
    names = (*output_names(program), *state_names(program), "status flags")
    with_state = found.raw_state.shape == expected.raw_state.shape
    pairs = [(expected.raw_y, found.raw_y, expected.y, found.y)]
    if with_state:
        pairs.append((expected.raw_state, found.raw_state, expected.state, found.state))
    else:
        names = (*output_names(program), "status flags")
    flags = expected.flags[..., None], found.flags[..., None]
    pairs.append((*flags, flags[0].astype(np.float64), flags[1].astype(np.float64)))
    wrong = np.concatenate([(a != b) | _unlike(p, q) for a, b, p, q in pairs], axis=2)
    values = [np.concatenate([p[k] for p in pairs], axis=2) for k in (2, 3)]
    # A state is the cause of a wrong output: name it first.
    order = np.arange(wrong.shape[2]) if not with_state else _states_first(len(output_names(program)), wrong.shape[2])
    first = _first(wrong[..., order], values[0][..., order], values[1][..., order], [names[i] for i in order], data)
    return Difference(data.steps, int(wrong.any(axis=2).sum()), largest(expected.y, found.y), first)


def _normal(trace: Trace) -> Trace:
    """A binary32 trace whose subnormal numbers are zeros of the same sign."""
    def physical(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.abs(x) < SMALLEST, np.copysign(0.0, x), x)

    def raw(bits: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(bits & 0x7F800000 == 0, bits & ~np.int64(0x7FFFFF), bits)

    return replace(trace, y=physical(trace.y), state=physical(trace.state), raw_y=raw(trace.raw_y),
                   raw_state=raw(trace.raw_state))


def _unlike(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where two arrays differ, two not-a-numbers being alike."""
    return np.asarray((a != b) & ~(np.isnan(a) & np.isnan(b)), np.bool_)


def tolerance(expected: Trace, found: Trace, limit: float, program: Program, data: Sequences) -> Difference:
    """Compare outputs in physical units; a step mismatches where any output differs by more than ``limit``."""
    wrong = ~(np.abs(expected.y - found.y) <= limit)
    first = _first(wrong, expected.y, found.y, list(output_names(program)), data)
    return Difference(data.steps, int(wrong.any(axis=2).sum()), largest(expected.y, found.y), first)


def largest(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """The largest absolute difference, infinite where one of the two is not a number."""
    difference = np.abs(a - b)
    return float(np.where(np.isnan(difference), np.inf, difference).max(initial=0.0))


def state_names(program: Program) -> tuple[str, ...]:
    """A name for every element of the state, in the order traces hold them."""
    return tuple(name for state in program.states for name in element_names(program, state.inp.name))


def element_names(program: Program, state: str) -> tuple[str, ...]:
    """Names of one state's elements: the labels of its axis, else ``state[3]``.

    Where a state before it has the same labels (a memory beside a cell), ``state.label``.
    """
    names = [s.inp.name for s in program.states]
    value = program.states[names.index(state)].inp
    size = int(np.prod(value.shape, dtype=np.int64))
    labels = _labels(program, value)
    if len(labels) != size:
        return tuple(f"{state}[{i}]" for i in range(size))
    taken = {label for s in program.states[: names.index(state)] for label in _labels(program, s.inp)}
    return tuple(f"{state}.{label}" for label in labels) if taken & set(labels) else labels


def _labels(program: Program, value: Value) -> tuple[str, ...]:
    return program.labels.get(value.axes[0].name, ()) if len(value.axes) == 1 else ()


def output_names(program: Program) -> tuple[str, ...]:
    """The outputs' names, told apart from neurons of the same name."""
    return tuple(f"output {name}" for name in program.y.names)


def _states_first(outputs: int, total: int) -> NDArray[np.int64]:
    return np.concatenate([np.arange(outputs, total - 1), np.arange(outputs), [total - 1]])


def _first(
    wrong: NDArray[np.bool_],
    expected: NDArray[np.float64],
    found: NDArray[np.float64],
    names: list[str],
    data: Sequences,
) -> Divergence | None:
    """The earliest time at which any sequence differs: an early divergence says more than a late one."""
    if not wrong.any():
        return None
    rows, times = np.nonzero(wrong.any(axis=2))
    pick = int(np.lexsort((rows, times))[0])
    row, time = int(rows[pick]), int(times[pick])
    here = np.nonzero(wrong[row, time])[0]
    named = [i for i in here if not names[i].startswith(("output ", "status"))] or list(here)
    size = np.nan_to_num(np.abs(expected[row, time] - found[row, time]), nan=np.inf)
    ordered = sorted(named, key=lambda i: (-float(size[i]), int(i)))
    worst = int(ordered[0])
    return Divergence(
        step=row * wrong.shape[1] + time, sequence=row, time=time,
        neurons=tuple(names[i] for i in ordered[:MOST_NAMED]), others=max(0, len(ordered) - MOST_NAMED),
        expected=float(expected[row, time, worst]), found=float(found[row, time, worst]),
        context=_context(data, row, time),
    )


def _context(data: Sequences, row: int, time: int) -> str:
    """Where the step stands: after the start, or how long after a reset."""
    before = np.nonzero(data.reset[row, : time + 1])[0] if data.reset is not None else np.zeros(0, np.int64)
    if before.size:
        return f"{time - int(before[-1])} steps after a reset"
    return "from the start"
