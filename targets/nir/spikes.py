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


@dataclass(frozen=True, eq=False)
class Spikes:
    """A threshold network. U units (inputs' codes, neurons' codes, the ring of phases), C channels between.

    ``weight`` (U, inputs), ``bias`` (U,), ``decode`` (C, U), ``encode`` (U, C), ``readout`` (outputs, U): integers.
    A physical input is ``raw * 2**-x_frac``, an output ``raw * 2**-y_frac``. ``cells`` (numbers, U) sums the spikes of
    one number's units, -1 for levels below rest, so that ``cells @ s + resting`` is the cell it is in; the first
    ``sensed`` numbers are inputs, the rest neurons. ``centres[k]`` is what the cells of number k stand for.
    """

    name: str
    unfolds: int
    weight: I64
    bias: I64
    decode: I64
    encode: I64
    readout: I64
    x_frac: I64
    y_frac: I64
    x_range: F64
    cells: I64
    resting: I64
    sensed: int
    centres: tuple[F64, ...]
    labels: tuple[str, ...]

    @property
    def units(self) -> int:
        return int(self.bias.shape[0])

    def ticks(self, steps: int) -> int:
        """Ticks that ``steps`` steps take, the last reading included."""
        return steps * self.unfolds + 1


@dataclass(frozen=True, eq=False)
class SpikeRun:
    """``s`` (T, B, U) bool or None, every tick; ``y`` (steps, B, outputs) raw; ``cells`` (steps, B, neurons);
    ``rate``: mean spikes per step and sequence.
    """

    y: I64
    cells: I64
    rate: float
    s: NDArray[np.bool_] | None = None


def quantized(net: Spikes, x: F64) -> tuple[I64, NDArray[np.bool_]]:
    """Physical inputs (..., inputs) as raw integers, ``floor(x*2^frac + 1/2)``, NaN as 0, saturated to the declared
    range; and where (...,) any channel was saturated.
    """
    lo, hi = (np.floor(np.ldexp(net.x_range[:, k], net.x_frac) + 0.5) for k in (0, 1))
    raw = np.floor(np.ldexp(np.nan_to_num(x, nan=0.0), net.x_frac) + 0.5)
    outside = ~((raw >= lo) & (raw <= hi)) | np.isnan(x)
    return np.clip(raw, lo, hi).astype(np.int64), np.asarray(outside.any(axis=-1))


def predict(net: Spikes, x: I64, keep: bool = False) -> SpikeRun:
    """Run raw inputs ``x`` (B, steps, inputs) from silence; float64 matrix products hold these integers exactly."""
    decode, encode = net.decode.T.astype(np.float64), net.encode.T.astype(np.float64)
    drive = x.astype(np.float64) @ net.weight.T.astype(np.float64) + net.bias
    s, ys, cells, kept, total = np.zeros((x.shape[0], net.units)), [], [], [], 0.0
    for tick in range(net.ticks(x.shape[1])):
        present = drive[:, min(tick // net.unfolds, x.shape[1] - 1)]
        s = (present + (s @ decode) @ encode >= 0.0).astype(np.float64)
        total += float(s.sum())
        if keep:
            kept.append(s > 0.0)
        if tick and tick % net.unfolds == 0:
            ys.append(s @ net.readout.T)
            cells.append(s @ net.cells[net.sensed :].T + net.resting[net.sensed :])
    y, cell = np.stack(ys).astype(np.int64), np.stack(cells).astype(np.int64)
    return SpikeRun(y, cell, total / (x.shape[0] * x.shape[1]), np.stack(kept) if keep else None)


def physical_y(net: Spikes, raw: I64) -> F64:
    """Raw outputs (..., outputs) in physical units."""
    return np.asarray(np.ldexp(raw.astype(np.float64), -net.y_frac))


def states(net: Spikes, cells: I64) -> F64:
    """What the cells (..., neurons) stand for."""
    columns = [centres[cells[..., i]] for i, centres in enumerate(net.centres[net.sensed :])]
    return np.stack(columns, axis=-1)
