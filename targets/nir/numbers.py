"""What is coded: the arguments of the cell's inputs and the neurons' states, each with its grid and its record.

Grids come first: an input's from its channel's, a neuron's from its box, so that every drive fits ``SUM_BITS``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.nir.front import Cell
from ncpc.targets.nir.levels import Number
from ncpc.targets.nir.study import Study

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SUM_BITS = 20
"""Every drive is below 2^20 in magnitude: what consumers' float32 arithmetic keeps exact (see ``graph``)."""
LEVEL_BITS = 12
"""Grid points over a neuron's box; the rest of SUM_BITS holds the coarse den."""
INPUT_BITS = 14
"""Inputs are quantized to this many bits, sign included."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Per neuron: level grid ``origin + step*n``, den per physical unit of conductance, (neurons,) each."""

    origin: F64
    step: F64
    den: F64


@dataclass(frozen=True, eq=False)
class Sensed:
    """A linear functional of the raw inputs: ``z = (row @ raw)*step + bias``, its range, its activation's slope 0."""

    row: I64
    step: float
    bias: float
    lo: float
    hi: float


@dataclass(frozen=True, eq=False)
class Coded:
    """All that is coded, inputs first: ``numbers``; the ``inputs``' functionals with the inputs' ``fracs``; ``scales``
    of the neurons.
    """

    numbers: tuple[Number, ...]
    inputs: tuple[Sensed, ...]
    fracs: I64
    scales: Scales


def coded(known: Study) -> Coded:
    """The numbers of a studied policy."""
    ranges, cell = known.policy.input_range, known.cell
    scales, fracs = _scales(known), _input_fracs(ranges)
    inputs = tuple(_functional(w, b, ranges, fracs) for w, b in zip(cell.weight, cell.bias, strict=True))
    sensed = (_input_number(g, j, known) for j, g in enumerate(inputs))
    states = (_state_number(i, scales, known) for i in range(cell.ltc.neurons))
    return Coded((*sensed, *states), inputs, fracs, scales)


def _scales(known: Study) -> Scales:
    width = np.maximum(known.box[:, 1] - known.box[:, 0], 1e-6)
    mean = known.v_share @ known.v
    most = 2.0 ** (SUM_BITS - LEVEL_BITS) - 2.0
    return Scales(np.asarray(mean), width / (2**LEVEL_BITS - 2), most / _most_den(known.cell))


def _most_den(cell: Cell) -> F64:
    ltc, total = cell.ltc, cell.cm_t + cell.ltc.gleak + cell.ltc.epsilon
    for synapses in (ltc.sensory, ltc.recurrent):
        total = total + np.bincount(synapses.post, synapses.w, ltc.neurons)
    return np.asarray(total)


def _input_fracs(input_range: F64) -> I64:
    most = np.maximum(np.abs(input_range).max(axis=1), 1e-9)
    return np.asarray(np.floor(np.log2((2 ** (INPUT_BITS - 1) - 1) / most)).astype(np.int64))


def _functional(w: F64, b: float, input_range: F64, fracs: I64) -> Sensed:
    """Row scaled so that sum, level and shift stay below 2^SUM_BITS; a single channel keeps that channel's grid."""
    per_raw = np.ldexp(w, -fracs)
    most = float(np.abs(per_raw) @ np.ldexp(np.abs(input_range).max(axis=1), fracs))
    single = np.count_nonzero(w) == 1
    step = float(np.abs(per_raw).max()) if single else max(most, 1e-9) / (2 ** (SUM_BITS - 2) - len(w))
    ends = np.sort(w[:, None] * input_range, axis=1).sum(axis=0) + b
    row = np.floor(per_raw / step + 0.5).astype(np.int64)
    return Sensed(row, step, b, float(ends[0]), float(max(ends[1], ends[0] + step)))


def _input_number(g: Sensed, j: int, known: Study) -> Number:
    values = known.z[:, j]
    return Number(g.lo, g.hi, g.bias, g.step, float(np.median(values)), values, known.z_share, known.z_weight[:, j])


def _state_number(i: int, scales: Scales, known: Study) -> Number:
    lo, hi = float(known.box[i, 0]), float(max(known.box[i, 1], known.box[i, 0] + 1e-6))
    return Number(lo, hi, float(scales.origin[i]), float(scales.step[i]), 0.0, known.v[:, i], known.v_share,
                  known.v_weight[:, i])
