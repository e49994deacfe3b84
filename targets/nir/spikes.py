"""The network of spikes as integers: what the .nir file holds, and the model that predicts every spike.

One tick, all units at once: ``n = weight @ x + encode @ (decode @ s) + bias``, ``s' = (n >= 0)``. There is no memory
but the spikes themselves. A step of the policy is ``unfolds`` ticks with ``x`` held; its output is read one tick after
its last, ``y = readout @ s``, when the next input is already there (inputs take one tick to be seen).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

NOT_ON_GRID = np.iinfo(np.int64).min
"""Raw output of a runtime whose number is no multiple of the output's grid: never equal to a predicted one."""


@dataclass(frozen=True, eq=False)
class SpikeInterface:
    """How to talk to the network and what its units mean.

    A physical input is ``raw * 2**-x_frac`` (inputs,), within ``x_range`` (inputs, 2), an output ``raw * 2**-y_frac``.
    ``unheard`` (inputs, 2): no synapse listens beyond that end, so that an input saturates there untold.
    Numbers are coded one after the other, the first ``sensed`` of them inputs, the rest neurons, the ring behind:
    number k has units ``starts[k]`` to ``starts[k+1]``, the first ``below[k]`` of which fire when it is *less* than
    their level; it is in cell ``below[k] + (others firing) - (those firing)``, which stands for ``centres[k][cell]``.
    """

    name: str
    unfolds: int
    x_frac: I64
    y_frac: I64
    x_range: F64
    unheard: Bools
    sensed: int
    starts: I64
    below: I64
    centres: tuple[F64, ...]
    labels: tuple[str, ...]

    def ticks(self, steps: int) -> int:
        """Ticks that ``steps`` steps take, the last reading included."""
        return steps * self.unfolds + 1

    def quantized(self, x: F64) -> tuple[I64, Bools, Bools]:
        """Physical inputs (..., inputs) as raw integers, ``floor(x*2^frac + 1/2)``, saturated to the range, NaN as 0
        within it; where (...,) any channel was saturated at an end that is told, and where any was NaN.
        """
        lo, hi = np.floor(np.ldexp(self.x_range.T, self.x_frac) + 0.5)
        raw = np.floor(np.ldexp(np.where(np.isnan(x), 0.0, x), self.x_frac) + 0.5)
        outside = (raw < lo) & ~self.unheard[:, 0] | (raw > hi) & ~self.unheard[:, 1]
        saturated, nan = np.asarray(outside.any(axis=-1)), np.asarray(np.isnan(x).any(axis=-1))
        return np.clip(raw, lo, hi).astype(np.int64), saturated, nan

    def physical_x(self, raw: I64) -> F64:
        """Raw inputs (..., inputs) in physical units, exact in float32."""
        return np.asarray(np.ldexp(raw.astype(np.float64), -self.x_frac))

    def physical_y(self, raw: I64) -> F64:
        """Raw outputs (..., outputs) in physical units."""
        return np.asarray(np.ldexp(raw.astype(np.float64), -self.y_frac))

    def raw_y(self, y: NDArray[np.float32]) -> I64:
        """Physical outputs (..., outputs) as raw integers; NOT_ON_GRID where they are none."""
        scaled = np.ldexp(y.astype(np.float64), self.y_frac)
        exact = scaled == np.floor(scaled)
        return np.where(exact, np.where(exact, scaled, 0.0).astype(np.int64), NOT_ON_GRID)

    def cells(self, spikes: Bools) -> I64:
        """The cell of every neuron, (..., neurons), from spikes (..., U)."""
        return np.stack([self._cell(spikes, k) for k in range(self.sensed, len(self.below))], axis=-1)

    def _cell(self, spikes: Bools, k: int) -> I64:
        start, stop = int(self.starts[k]), int(self.starts[k + 1])
        middle = start + int(self.below[k])
        return np.asarray(self.below[k] - spikes[..., start:middle].sum(-1) + spikes[..., middle:stop].sum(-1))

    def states(self, cells: I64) -> F64:
        """What the cells (..., neurons) stand for."""
        columns = [centres[cells[..., i]] for i, centres in enumerate(self.centres[self.sensed :])]
        return np.stack(columns, axis=-1)

    def unit(self, index: int) -> str:
        """A unit in words."""
        if index >= self.starts[-1]:
            return f"phase {index - int(self.starts[-1])}"
        k = int(np.searchsorted(self.starts, index, side="right")) - 1
        return f"{self.labels[k]}, level {index - int(self.starts[k])}"


@dataclass(frozen=True, eq=False)
class Spikes:
    """A threshold network of U units with C channels between them, in integers.

    ``weight`` (U, inputs), ``bias`` (U,), ``decode`` (C, U), ``encode`` (U, C), ``readout`` (outputs, U).
    """

    interface: SpikeInterface
    weight: I64
    bias: I64
    decode: I64
    encode: I64
    readout: I64

    @property
    def units(self) -> int:
        return int(self.bias.shape[0])


@dataclass(frozen=True, eq=False)
class SpikeRun:
    """``y`` (B, steps, outputs) raw; ``cells`` (B, steps, neurons), both after each step; ``spikes`` (T, B, U) of every
    tick where they were kept; ``rate``: mean spikes per step and sequence.
    """

    y: I64
    cells: I64
    rate: float
    spikes: Bools | None = None


def predict(net: Spikes, x: I64, keep: bool = False) -> SpikeRun:
    """Run raw inputs ``x`` (B, steps, inputs) from silence; float32 products hold these integers exactly."""
    face, steps = net.interface, x.shape[1]
    decode, encode = net.decode.T.astype(np.float32), net.encode.T.astype(np.float32)
    drive = (x.astype(np.float64) @ net.weight.T.astype(np.float64) + net.bias).astype(np.float32)
    readout = net.readout.T.astype(np.float64)
    s, ys, cells, kept, total = np.zeros((x.shape[0], net.units), np.float32), [], [], [], 0.0
    for tick in range(face.ticks(steps)):
        s = (drive[:, min(tick // face.unfolds, steps - 1)] + (s @ decode) @ encode >= 0.0).astype(np.float32)
        total += float(s.sum())
        kept += [s > 0.0] if keep else []
        if tick and tick % face.unfolds == 0:
            ys.append(s @ readout)
            cells.append(face.cells(s > 0.0))
    y = np.stack(ys, axis=1).astype(np.int64)
    return SpikeRun(y, np.stack(cells, axis=1), total / (x.shape[0] * steps), np.stack(kept) if keep else None)
