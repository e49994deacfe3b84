"""Sequences through a runtime that advances tick by tick, and back to what a step of the policy says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ops import FLAGS
from ncpc.targets.nir.spikes import Bools, SpikeInterface, SpikeRun, Spikes, predict

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]


class Machine(Protocol):
    """A loaded .nir file at rest; ``tick`` takes x (B, inputs) float32 and gives y (B, outputs), spikes (B, U) or None.

    ``fork`` is an independent copy in the same state.
    """

    def tick(self, x: F32) -> tuple[F32, Bools | None]: ...

    def fork(self) -> Machine: ...


@dataclass(frozen=True, eq=False)
class Segments:
    """Stretches of sequences between resets, of similar length: ``rows``, ``begin``, ``end`` (S,), and raw inputs
    (S, longest, inputs), each segment's last input repeated to the end. Every segment starts from silence.
    """

    rows: I64
    begin: I64
    end: I64
    x: I64


@dataclass(frozen=True, eq=False)
class Cut:
    """Sequences cut at their resets, in groups; the status bits of every step (B, T)."""

    groups: tuple[Segments, ...]
    flags: I64


def cut(face: SpikeInterface, data: Sequences) -> Cut:
    """Quantize the inputs and cut at resets. Lengths in a group differ by less than a factor of 2, to pad little."""
    raw, saturated, nan = face.quantized(data.x)
    flags = (saturated.astype(np.int64) << FLAGS.index("input_saturated")) | (
        nan.astype(np.int64) << FLAGS.index("input_nan"))
    reset = np.zeros(data.x.shape[:2], np.bool_) if data.reset is None else data.reset.copy()
    reset[:, 0] = True
    rows, begin = np.nonzero(reset)
    end = np.append(begin[1:], data.x.shape[1])
    end[np.append(rows[1:] != rows[:-1], True)] = data.x.shape[1]
    size = np.frexp(end - begin)[1]
    groups = (_group(raw, rows[size == k], begin[size == k], end[size == k]) for k in np.unique(size))
    return Cut(tuple(groups), flags)


def _group(raw: I64, rows: I64, begin: I64, end: I64) -> Segments:
    steps = np.arange(int((end - begin).max()))
    x = np.stack([raw[r, np.minimum(b + steps, e - 1)] for r, b, e in zip(rows, begin, end, strict=True)])
    return Segments(rows, begin, end, x)


def collected(face: SpikeInterface, pieces: Cut, run: Callable[[I64], SpikeRun]) -> tuple[Trace, float]:
    """Every group through ``run``, put back where it came from; and the mean spikes per step."""
    steps, neurons = pieces.flags.shape, len(face.below) - face.sensed
    raw_y, cells = np.zeros((*steps, len(face.y_frac)), np.int64), np.zeros((*steps, neurons), np.int64)
    spikes, run_steps = 0.0, 0
    for group in pieces.groups:
        found = run(group.x)
        spikes += found.rate * group.x.shape[0] * group.x.shape[1]
        run_steps += group.x.shape[0] * group.x.shape[1]
        for k, (row, begin, end) in enumerate(zip(group.rows, group.begin, group.end, strict=True)):
            raw_y[row, begin:end] = found.y[k, : end - begin]
            cells[row, begin:end] = found.cells[k, : end - begin]
    trace = Trace(face.physical_y(raw_y), face.states(cells), raw_y, cells, pieces.flags)
    return trace, spikes / run_steps


def predicted(net: Spikes, data: Sequences) -> Trace:
    """The integer model on sequences."""
    trace, _ = collected(net.interface, cut(net.interface, data), lambda x: predict(net, x))
    return trace


Watch = Callable[[int, Bools], None]


def execute(face: SpikeInterface, machine: Machine, x: I64, watch: Watch | None = None) -> SpikeRun:
    """Drive ``machine`` through raw inputs ``x`` (B, steps, inputs); ``watch(tick, spikes)`` sees every tick.

    Where the machine hides its spikes, cells are left at 0.
    """
    inputs, steps, total = face.physical_x(x).astype(np.float32), x.shape[1], 0.0
    ys, cells = [], []
    for tick in range(face.ticks(steps)):
        y, spikes = machine.tick(inputs[:, min(tick // face.unfolds, steps - 1)])
        if spikes is not None:
            total += float(spikes.sum())
            if watch is not None:
                watch(tick, spikes)
        if tick and tick % face.unfolds == 0:
            ys.append(face.raw_y(y))
            hidden = np.zeros((x.shape[0], len(face.below) - face.sensed), np.int64)
            cells.append(hidden if spikes is None else face.cells(spikes))
    return SpikeRun(np.stack(ys, 1), np.stack(cells, 1), total / (x.shape[0] * steps))


def against(net: Spikes, x: I64, runtime: str) -> Watch:
    """A watch that raises ProofFailed at the first spike that differs from the integer model's."""
    expected = predict(net, x, keep=True).spikes
    assert expected is not None

    def watch(tick: int, spikes: Bools) -> None:
        if spikes.shape[1] != net.units:
            raise ProofFailed(f"{runtime}: the file has {spikes.shape[1]} units, its network {net.units}")
        wrong = np.argwhere(spikes != expected[tick])
        if len(wrong):
            row, unit = (int(i) for i in wrong[0])
            due = int(expected[tick][row, unit])
            raise ProofFailed(f"{runtime}: {len(wrong)} spikes differ from the integer model at tick {tick}; first "
                              f"{net.interface.unit(unit)} of sequence {row}: expected {due}")

    return watch
