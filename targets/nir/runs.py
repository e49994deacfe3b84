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
from ncpc.targets.nir.spikes import Bools, Interface, SpikeRun, Spikes, predict

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
    """Sequences cut at their resets: ``rows``, ``begin``, ``end`` (S,), and raw inputs (S, longest, inputs), each
    segment's last input repeated to the end.
    """

    rows: I64
    begin: I64
    end: I64
    x: I64
    flags: I64


def segments(face: Interface, data: Sequences) -> Segments:
    """Quantize the inputs and cut at resets; every segment starts from silence."""
    raw, saturated, nan = face.quantized(data.x)
    flags = (saturated.astype(np.int64) << FLAGS.index("input_saturated")) | (
        nan.astype(np.int64) << FLAGS.index("input_nan"))
    reset = np.zeros(data.x.shape[:2], np.bool_) if data.reset is None else data.reset.copy()
    reset[:, 0] = True
    rows, begin = np.nonzero(reset)
    end = np.append(begin[1:], data.x.shape[1])
    end[np.append(rows[1:] != rows[:-1], True)] = data.x.shape[1]
    steps = np.arange(int((end - begin).max()))
    x = np.stack([raw[r, np.minimum(b + steps, e - 1)] for r, b, e in zip(rows, begin, end, strict=True)])
    return Segments(rows, begin, end, x, flags)


def to_trace(face: Interface, cut: Segments, run: SpikeRun) -> Trace:
    """The segments put back where they came from."""
    raw_y, cells = _joined(cut, run.y), _joined(cut, run.cells)
    return Trace(face.physical_y(raw_y), face.states(cells), raw_y, cells, cut.flags)


def _joined(cut: Segments, values: I64) -> I64:
    joined = np.zeros((*cut.flags.shape, values.shape[2]), np.int64)
    for k, (row, begin, end) in enumerate(zip(cut.rows, cut.begin, cut.end, strict=True)):
        joined[row, begin:end] = values[k, : end - begin]
    return joined


def predicted(net: Spikes, data: Sequences) -> Trace:
    """The integer model on sequences."""
    cut = segments(net.interface, data)
    return to_trace(net.interface, cut, predict(net, cut.x))


Watch = Callable[[int, Bools], None]


def execute(face: Interface, machine: Machine, x: I64, watch: Watch | None = None) -> SpikeRun:
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
        wrong = np.argwhere(spikes != expected[tick])
        if len(wrong):
            row, unit = (int(i) for i in wrong[0])
            due = int(expected[tick][row, unit])
            raise ProofFailed(f"{runtime}: {len(wrong)} spikes differ from the integer model at tick {tick}; first "
                              f"{net.interface.unit(unit)} of sequence {row}: expected {due}")

    return watch
