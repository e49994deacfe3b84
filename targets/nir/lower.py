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
keeps slow neurons from stalling where their move is less than half a cell, and lets the errors of a held input cancel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Policy, Synapses
from ncpc.targets.nir.front import ACTIVATIONS, Cell, Readout, logistic
from ncpc.targets.nir.levels import PHASES, Code, placed_codes, uniform_codes
from ncpc.targets.nir.numbers import Coded, Scales, Sensed, coded
from ncpc.targets.nir.spikes import SpikeInterface, Spikes
from ncpc.targets.nir.study import Study
from ncpc.targets.nir.trial import shares

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

FINE_BITS = 5
"""How much finer than the coarse den its rest is."""
OUTPUT_BITS = 22


def lower(known: Study, units: int, uniform: bool = False) -> Spikes:
    """The policy as at most ``units`` units, but ``FEWEST`` per number; ``uniform`` spaces levels evenly (baseline)."""
    what, spent = coded(known), units - PHASES
    if uniform:
        return _assemble(known, uniform_codes(what.numbers, spent), what)
    return _assemble(known, placed_codes(what.numbers, spent, shares(known)), what)


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


def _assemble(known: Study, codes: tuple[Code, ...], what: Coded) -> Spikes:
    policy, cell, layout, sensed, scales = known.policy, known.cell, _layout(codes), len(what.inputs), what.scales
    weight, bias = _inputs(codes[:sensed], what.inputs, layout)
    readout, y_frac = _readout(cell, codes[sensed:], sensed, layout)
    face = SpikeInterface(
        name=policy.name, unfolds=cell.ltc.unfolds, x_frac=what.fracs, y_frac=y_frac, x_range=policy.input_range,
        unheard=known.unheard,
        sensed=sensed, starts=np.array([*(s.start for s in layout.slices), layout.ring.start], np.int64),
        below=np.array([code.resting_cell for code in codes], np.int64),
        centres=tuple(code.centres for code in codes), labels=_labels(policy, cell),
    )
    decode = _decode(cell, codes, sensed, scales, layout)
    encode = _encode(codes, sensed, known.den * scales.den, layout)
    return Spikes(face, weight, bias, decode, encode, readout)


def _labels(policy: Policy, cell: Cell) -> tuple[str, ...]:
    inputs = policy.input_names if len(policy.input_names) == cell.ltc.inputs else ()
    return (*(inputs or tuple(f"u{j}" for j in range(cell.ltc.inputs))), *cell.ltc.names)


def _inputs(codes: tuple[Code, ...], grids: tuple[Sensed, ...], layout: Layout) -> tuple[I64, I64]:
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
class ChannelTerm:
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


def _self_terms(cell: Cell, codes: tuple[Code, ...], sensed: int, scales: Scales) -> Iterator[ChannelTerm]:
    for i, code in enumerate(codes[sensed:]):
        num = (code.centres - scales.origin[i]) * cell.cm_t[i] * scales.den[i] / scales.step[i]
        yield ChannelTerm(sensed + i, i, _rounded(num))


def _synapse_terms(cell: Cell, seen: list[F64], sensed: int, scales: Scales) -> Iterator[ChannelTerm]:
    for offset, synapses in ((0, cell.ltc.sensory), (sensed, cell.ltc.recurrent)):
        for k in range(len(synapses)):
            yield from _synapse(synapses, k, seen, offset, cell.ltc.neurons, scales)


def _synapse(s: Synapses, k: int, seen: list[F64], offset: int, neurons: int, scales: Scales) -> Iterator[ChannelTerm]:
    i, number = int(s.post[k]), offset + int(s.pre[k])
    g = s.w[k] * logistic(s.sigma[k] * (seen[number] - s.mu[k])) * scales.den[i]
    yield ChannelTerm(number, i, _rounded(g * (s.erev[k] - scales.origin[i]) / scales.step[i]))
    coarse, rest = _split(g)
    yield ChannelTerm(number, neurons + i, coarse)
    yield ChannelTerm(number, 2 * neurons + i, rest)


def _encode(codes: tuple[Code, ...], sensed: int, den: F64, layout: Layout) -> I64:
    """A neuron's unit fires when ``num - level*den >= 0``, the level shifted by the phase; a unit below, when not.
    Of an input's units only the shifts stand here.
    """
    neurons = len(codes) - sensed
    encode = np.zeros((layout.units, 3 * neurons + PHASES), np.int64)
    for k, code in enumerate(codes):
        where, sign, i = layout.slices[k], np.where(code.below, -1, 1), k - sensed
        shifts = _rounded(code.shifts(k if i < 0 else i) * (1.0 if i < 0 else den[i]))
        encode[where, 3 * neurons :] = sign[:, None] * shifts
        if i >= 0:
            encode[where, i] = sign
            encode[where, neurons + i] = -sign * code.index
            encode[where, 2 * neurons + i] = -sign * _rounded(np.ldexp(code.index.astype(np.float64), -FINE_BITS))
            encode[where, 3 * neurons :] += (~code.below)[:, None]
    encode[layout.ring, 3 * neurons :] = _ring()
    return encode


def _ring() -> I64:
    """Unit 0 fires when no phase is on or the last was; unit q when q-1 was. Their biases: 0 and -1."""
    ring = np.roll(np.eye(PHASES, dtype=np.int64), 1, axis=0)
    ring[0] -= 1
    return ring


def _readout(cell: Cell, codes: tuple[Code, ...], first: int, layout: Layout) -> tuple[I64, I64]:
    """What each motor neuron's cells add to each output, with the finest grid that OUTPUT_BITS hold."""
    said = cell.readout
    parts = [_said(said, m, codes[m].centres) for m in range(cell.ltc.outputs)]
    most = np.abs(said.offset) + sum(np.abs(part).max(axis=1) for part in parts)
    frac = np.floor(OUTPUT_BITS - 1 - np.log2(np.maximum(most, 1e-9))).astype(np.int64)
    readout, rest = np.zeros((len(said.offset), layout.units), np.int64), np.ldexp(_still(said), frac)
    for m, part in enumerate(parts):
        raw = _rounded(np.ldexp(part, frac[:, None]))
        readout[:, layout.slices[first + m]] = np.stack([codes[m].weights(row) for row in raw])
        rest = rest + raw[:, codes[m].resting_cell]
    readout[:, layout.ring] = _rounded(rest)[:, None]
    return readout, frac


def _said(said: Readout, m: int, centres: F64) -> F64:
    """(outputs, K+1): the terms of motor neuron m at ``centres``."""
    alone = np.zeros((len(centres), said.inner.shape[1]))
    alone[:, m] = centres
    return np.asarray(((said.terms(alone)) * (said.inner[:, m] != 0.0)) @ said.outer.T).T


def _still(said: Readout) -> F64:
    """(outputs,): the offset, and the terms that no neuron has a part in."""
    silent = ~said.inner.any(axis=1)
    return np.asarray(said.offset + said.outer @ (said.terms(np.zeros(said.inner.shape[1])) * silent))


def _rounded(x: F64) -> I64:
    return np.asarray(np.floor(x + 0.5)).astype(np.int64)
