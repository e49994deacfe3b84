"""A studied policy -> network of spikes: the threshold lowering.

Every number is a thermometer code: unit k says ``v >= level_k``. An unfold needs one hop and no division, because
``num/den >= level`` asks the same as ``num - level*den >= 0``, which is linear in the spikes: num and den are sums of
functions of one number each, hence of its units. So a neuron's units share three channels and differ in two weights.
The channels, in integers: num taken about the neuron's mean value c, ``num - c*den``; den, coarse; and what the
coarse den leaves, 2^FINE_BITS times finer. A unit computes ``num - n*den - round(n/2^FINE_BITS)*rest`` for its level
``c + n*step``: products of a level and a den stay below 2^SUM_BITS, and the error of rounding the last factor is a
fraction of one step.

A ring of ``PHASES`` units counts ticks. It delivers all constants, so that in the first tick, before the ring has
fired, every neuron is silent, which is the reset state; and it shifts the levels by fractions of a cell in turn, which
keeps slow neurons from stalling where their move is less than half a cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Policy, Synapses
from ncpc.targets.nir.front import ACTIVATIONS, Cell, logistic
from ncpc.targets.nir.levels import Code, Number, placed_codes, uniform_codes
from ncpc.targets.nir.spikes import Interface, Spikes
from ncpc.targets.nir.study import Study

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

SUM_BITS = 20
"""Every drive is below 2^20 in magnitude: what consumers' float32 arithmetic keeps exact (see ``graph``)."""
LEVEL_BITS = 12
"""Grid points over a neuron's box; the rest of SUM_BITS holds the coarse den."""
FINE_BITS = 5
"""How much finer than the coarse den its rest is."""
INPUT_BITS = 14
"""Inputs are quantized to this many bits, sign included."""
OUTPUT_BITS = 22
DITHER = (-3, 1, -1, 3)
"""Shifts of the levels in eighths of a cell, one per phase, rotated from neuron to neuron so that they cancel."""
PHASES = len(DITHER)


@dataclass(frozen=True, eq=False)
class Scales:
    """Per neuron: level grid ``origin + step*n``, den per physical unit of conductance, (neurons,) each."""

    origin: F64
    step: F64
    den: F64


def lower(known: Study, units: int, uniform: bool = False) -> Spikes:
    """The policy as at most ``units`` units, but ``FEWEST`` per number; ``uniform`` spaces levels evenly (baseline)."""
    scales, fracs = _scales(known), _input_fracs(known.policy.input_range)
    grids = [_functional(w, b, known.policy.input_range, fracs)
             for w, b in zip(known.cell.weight, known.cell.bias, strict=True)]
    numbers = [_input_number(g, j, known) for j, g in enumerate(grids)]
    numbers += [_state_number(i, scales, known) for i in range(known.cell.ltc.neurons)]
    codes = (uniform_codes if uniform else placed_codes)(numbers, units - PHASES)
    return _assemble(known, codes, grids, scales, fracs)


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


@dataclass(frozen=True, eq=False)
class Sensed:
    """A linear functional of the raw inputs: ``z = (row @ raw)*step + bias``, its range, its activation's slope 0."""

    row: I64
    step: float
    bias: float
    lo: float
    hi: float


def _input_fracs(input_range: F64) -> I64:
    most = np.maximum(np.abs(input_range).max(axis=1), 1e-9)
    return np.asarray(np.floor(np.log2((2 ** (INPUT_BITS - 1) - 1) / most)).astype(np.int64))


def _functional(w: F64, b: float, input_range: F64, fracs: I64) -> Sensed:
    """Row scaled so that the sum stays below 2^SUM_BITS; a single channel keeps the grid of that channel."""
    per_raw = np.ldexp(w, -fracs)
    most = float(np.abs(per_raw) @ np.ldexp(np.abs(input_range).max(axis=1), fracs))
    single = np.count_nonzero(w) == 1
    step = float(np.abs(per_raw).max()) if single else max(most, 1e-9) / (2 ** (SUM_BITS - 1) - len(w))
    ends = np.sort(w[:, None] * input_range, axis=1).sum(axis=0) + b
    row = np.floor(per_raw / step + 0.5).astype(np.int64)
    return Sensed(row, step, b, float(ends[0]), float(max(ends[1], ends[0] + step)))


def _input_number(g: Sensed, j: int, known: Study) -> Number:
    values = known.z[:, j]
    return Number(g.lo, g.hi, g.bias, g.step, float(np.median(values)), values, known.z_share, known.z_weight[:, j])


def _state_number(i: int, scales: Scales, known: Study) -> Number:
    own = known.cell.cm_t[i] / known.den[i]
    stall = np.sqrt((1.0 + own) / max(1.0 - own, 1e-3))
    lo, hi = float(known.box[i, 0]), float(max(known.box[i, 1], known.box[i, 0] + 1e-6))
    return Number(lo, hi, float(scales.origin[i]), float(scales.step[i]), 0.0, known.v[:, i], known.v_share,
                  known.v_weight[:, i] * stall)


@dataclass(frozen=True, eq=False)
class Layout:
    """Which units belong to which number: ``slices[k]``, inputs first, then neurons; the ring stands last."""

    slices: tuple[slice, ...]
    ring: slice

    @property
    def units(self) -> int:
        return int(self.ring.stop)


def _layout(codes: tuple[Code, ...]) -> Layout:
    ends = np.cumsum([0, *(code.index.shape[0] for code in codes)]).tolist()
    slices = tuple(slice(a, b) for a, b in pairwise(ends))
    return Layout(slices, slice(ends[-1], ends[-1] + PHASES))


def _assemble(known: Study, codes: tuple[Code, ...], grids: list[Sensed], scales: Scales, fracs: I64) -> Spikes:
    policy, cell, layout, sensed = known.policy, known.cell, _layout(codes), len(grids)
    weight, bias = _inputs(codes[:sensed], grids, layout)
    readout, y_frac = _readout(cell, codes[sensed:], sensed, layout)
    face = Interface(
        name=policy.name, unfolds=cell.ltc.unfolds, x_frac=fracs, y_frac=y_frac, x_range=policy.input_range,
        sensed=sensed, starts=np.array([*(s.start for s in layout.slices), layout.ring.start], np.int64),
        below=np.array([code.resting_cell for code in codes], np.int64),
        centres=tuple(code.centres for code in codes), labels=_labels(policy, cell),
    )
    decode = _decode(cell, codes, sensed, scales, layout)
    encode = _encode(codes[sensed:], sensed, known.den * scales.den, layout)
    return Spikes(face, weight, bias, decode, encode, readout)


def _labels(policy: Policy, cell: Cell) -> tuple[str, ...]:
    inputs = policy.input_names if len(policy.input_names) == cell.ltc.inputs else ()
    return (*(inputs or tuple(f"u{j}" for j in range(cell.ltc.inputs))), *cell.ltc.names)


def _inputs(codes: tuple[Code, ...], grids: list[Sensed], layout: Layout) -> tuple[I64, I64]:
    """Units of inputs compare with their level; all others rest at -1, just silent, and so does the ring but once."""
    weight = np.zeros((layout.units, grids[0].row.shape[0]), np.int64)
    bias = np.full(layout.units, -1, np.int64)
    for code, grid, where in zip(codes, grids, layout.slices, strict=False):
        sign = np.where(code.below, -1, 1)
        weight[where] = sign[:, None] * grid.row
        bias[where] = np.where(code.below, code.index - 1, -code.index)
    bias[layout.ring.start] = 0
    return weight, bias


def _decode(cell: Cell, codes: tuple[Code, ...], sensed: int, scales: Scales, layout: Layout) -> I64:
    """Channels: num about c per neuron, coarse den per neuron, its rest per neuron, one per phase."""
    neurons = cell.ltc.neurons
    decode = np.zeros((3 * neurons + PHASES, layout.units), np.int64)
    resting = _constants(cell, scales)
    seen = _seen(cell, codes, sensed)
    for table in (*_self_terms(cell, codes, sensed, scales), *_synapse_terms(cell, seen, sensed, scales)):
        code = codes[table.number]
        decode[table.channel, layout.slices[table.number]] += code.weights(table.values)
        resting[table.channel] += table.values[code.resting_cell]
    decode[: 3 * neurons, layout.ring] = resting[:, None]
    decode[3 * neurons :, layout.ring] = np.eye(PHASES, dtype=np.int64)
    return decode


@dataclass(frozen=True, eq=False)
class Term:
    """A function of one number, given on its cells (K+1,) in raw integers, added to one channel."""

    number: int
    channel: int
    values: I64


def _constants(cell: Cell, scales: Scales) -> I64:
    """What the neurons' channels hold whatever the state."""
    ltc, still = cell.ltc, cell.cm_t + cell.ltc.gleak + cell.ltc.epsilon
    num = ltc.gleak * (ltc.vleak - scales.origin) - ltc.epsilon * scales.origin
    return np.concatenate([_rounded(num * scales.den / scales.step), *_split(still * scales.den)])


def _split(den: F64) -> tuple[I64, I64]:
    """``den`` as ``coarse + rest/2^FINE_BITS``, both integers."""
    coarse = _rounded(den)
    return coarse, _rounded(np.ldexp(den, FINE_BITS)) - (coarse << FINE_BITS)


def _seen(cell: Cell, codes: tuple[Code, ...], sensed: int) -> list[F64]:
    """What synapses see of each number's cells."""
    inputs = [ACTIVATIONS[cell.activation](code.centres) for code in codes[:sensed]]
    mapped = [u * w + b for u, w, b in zip(inputs, cell.ltc.input_w, cell.ltc.input_b, strict=True)]
    return [*mapped, *(code.centres for code in codes[sensed:])]


def _self_terms(cell: Cell, codes: tuple[Code, ...], sensed: int, scales: Scales) -> Iterator[Term]:
    for i, code in enumerate(codes[sensed:]):
        num = (code.centres - scales.origin[i]) * cell.cm_t[i] * scales.den[i] / scales.step[i]
        yield Term(sensed + i, i, _rounded(num))


def _synapse_terms(cell: Cell, seen: list[F64], sensed: int, scales: Scales) -> Iterator[Term]:
    for offset, synapses in ((0, cell.ltc.sensory), (sensed, cell.ltc.recurrent)):
        for k in range(len(synapses)):
            yield from _synapse(synapses, k, seen, offset, cell.ltc.neurons, scales)


def _synapse(s: Synapses, k: int, seen: list[F64], offset: int, neurons: int, scales: Scales) -> Iterator[Term]:
    i, number = int(s.post[k]), offset + int(s.pre[k])
    g = s.w[k] * logistic(s.sigma[k] * (seen[number] - s.mu[k])) * scales.den[i]
    yield Term(number, i, _rounded(g * (s.erev[k] - scales.origin[i]) / scales.step[i]))
    coarse, rest = _split(g)
    yield Term(number, neurons + i, coarse)
    yield Term(number, 2 * neurons + i, rest)


def _encode(codes: tuple[Code, ...], first: int, den: F64, layout: Layout) -> I64:
    """A neuron's unit fires when ``num - level*den >= 0``, the level shifted by the phase; a unit below, when not."""
    neurons = len(codes)
    encode = np.zeros((layout.units, 3 * neurons + PHASES), np.int64)
    for i, code in enumerate(codes):
        where, sign = layout.slices[first + i], np.where(code.below, -1, 1)
        encode[where, i] = sign
        encode[where, neurons + i] = -sign * code.index
        encode[where, 2 * neurons + i] = -sign * _rounded(np.ldexp(code.index.astype(np.float64), -FINE_BITS))
        shifts = _shifts(code, i, float(den[i]))
        encode[where, 3 * neurons :] = sign[:, None] * shifts + (~code.below)[:, None]
    encode[layout.ring, 3 * neurons :] = _ring()
    return encode


def _shifts(code: Code, neuron: int, den: float) -> I64:
    """(K, PHASES): by phase, eighths of the nearer neighbour's distance, times a typical den."""
    gaps = np.diff(code.index)
    if gaps.shape[0] == 0:
        return np.zeros((code.index.shape[0], PHASES), np.int64)
    nearer = np.minimum(np.append(gaps, gaps[-1]), np.insert(gaps, 0, gaps[0]))
    return _rounded(nearer[:, None] * np.roll(DITHER, -neuron) * den / 8.0)


def _ring() -> I64:
    """Unit 0 fires when no phase is on or the last was; unit q when q-1 was. Their biases: 0 and -1."""
    ring = np.roll(np.eye(PHASES, dtype=np.int64), 1, axis=0)
    ring[0] -= 1
    return ring


def _readout(cell: Cell, codes: tuple[Code, ...], first: int, layout: Layout) -> tuple[I64, I64]:
    """``y = offset + sum of readout * centre`` over motor neurons, with the finest grid that OUTPUT_BITS hold."""
    terms = [cell.readout[:, m : m + 1] * codes[m].centres for m in range(cell.ltc.outputs)]
    most = np.abs(cell.offset) + sum(np.abs(t).max(axis=1) for t in terms)
    frac = np.floor(OUTPUT_BITS - 1 - np.log2(np.maximum(most, 1e-9))).astype(np.int64)
    readout, rest = np.zeros((cell.offset.shape[0], layout.units), np.int64), np.ldexp(cell.offset, frac)
    for m, term in enumerate(terms):
        raw = _rounded(np.ldexp(term, frac[:, None]))
        readout[:, layout.slices[first + m]] = np.stack([codes[m].weights(row) for row in raw])
        rest = rest + raw[:, codes[m].resting_cell]
    readout[:, layout.ring] = _rounded(rest)[:, None]
    return readout, frac


def _rounded(x: F64) -> I64:
    return np.asarray(np.floor(x + 0.5)).astype(np.int64)
