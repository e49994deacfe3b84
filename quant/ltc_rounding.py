"""Weights of few bits for an LTC: neurons brought to one scale, roundings that make up for each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ncpc.ir.policy import F64, I64, Ltc, Synapses
from ncpc.quant.compensate import TINY, compensated, reduced
from ncpc.quant.observe import Signals
from ncpc.quant.rounding import to_raw

MOST_GAIN = 2.0**6
"""How far a neuron's conductances are multiplied: its divisor must fit 32 bits beside those of the others."""
RIDGE, STRAY = 0.001, 0.01
"""Shares of their mean cost that keep weights, and offsets, from following the data where these say little."""
STRAYS = 1.0
"""The farthest an offset may move, in units of a sigmoid's argument."""
CENTRE_FRAC, GAIN_FRAC = 20, 8
"""Fractions of ``centre`` and of ``gain``."""
GAINS = tuple(range(1 << GAIN_FRAC, 2 << GAIN_FRAC, 6))
"""Gains that are tried for each neuron. The first is 1: what lies on the grid already stays there."""
OCTAVES = (*GAINS, *(gain // 2 for gain in GAINS), *(gain * 2 for gain in GAINS))
"""Gains that weights may have been rounded at that are read again."""
ON_GRID, SINGLE = 2.0**-12, 2.0**-21
"""By how much of a unit, and of themselves, weights in single precision miss the integers that they are."""
SEARCHED = 32
"""Synapses of a neuron up to which more than the first gain is tried."""
KINDS, SETS = ("sigma", "w", "we"), ("_s", "")
"""Names of the vectors, and suffixes of the sensory and the recurrent synapses' vectors."""


def equalizing(layer: Ltc) -> F64:
    """Per neuron, the power of two by which its conductances come nearest to the largest of all, so that one scale of
    few bits serves every neuron.
    """
    gain = np.full(layer.neurons, MOST_GAIN)
    for one in (layer.sensory, layer.recurrent):
        for size in (one.w, np.abs(one.w * one.erev)):
            most = np.zeros(layer.neurons)
            np.maximum.at(most, one.post, size)
            gain = np.minimum(gain, most.max(initial=0.0) / np.maximum(most, 2.0**-60))
    powers: F64 = 2.0 ** np.floor(np.log2(np.maximum(gain, 1.0)))
    return powers


def scaled(layer: Ltc, gain: F64) -> Ltc:
    """The same layer with each neuron's conductances and its capacitance times its ``gain``.

    A neuron's update is a quotient, ``(cm_t*v + N) / (cm_t + G)``: what multiplies cm, gleak, epsilon and all its w
    cancels out. epsilon becomes part of gleak, which changes no more than a float64 rounds.
    """
    leak = layer.gleak + layer.epsilon
    vleak = np.divide(layer.gleak * layer.vleak, leak, out=np.zeros_like(leak), where=leak > 0)
    return dataclasses.replace(
        layer, cm=layer.cm * gain, gleak=leak * gain, vleak=vleak, epsilon=0.0,
        sensory=dataclasses.replace(layer.sensory, w=layer.sensory.w * gain[layer.sensory.post]),
        recurrent=dataclasses.replace(layer.recurrent, w=layer.recurrent.w * gain[layer.recurrent.post]))


@dataclass(frozen=True, eq=False)
class LtcReading:
    """An LTC in the numbers that are to be rounded: ``vectors`` over synapses (``ncpc.quant.ltc.synapse_vectors``), the
    width ``bits`` and the fraction ``fracs`` of each, and ``channel``, what a physical input is divided by.
    """

    layer: Ltc
    vectors: Mapping[str, F64]
    bits: Mapping[str, int]
    fracs: Mapping[str, int]
    channel: F64

    @property
    def sizes(self) -> dict[str, int]:
        """How many integers of each name ``rounded_together`` gives."""
        return {**{f"{name}{tag}": len(one) for name in (*KINDS, "centre") for tag, one in self.sets},
                "gain": self.layer.neurons}

    @property
    def sets(self) -> tuple[tuple[str, Synapses], ...]:
        """Sensory and recurrent synapses, with the suffix of their vectors' names."""
        return tuple(zip(SETS, (self.layer.sensory, self.layer.recurrent), strict=True))


def rounded_together(of: LtcReading, state: str, signals: Sequence[Signals]) -> dict[str, I64]:
    """The vectors as integers whose errors cancel as well as they can, and ``centre{tag}``, at ``CENTRE_FRAC``.

    To first order, errors of a neuron's weights move its resting state by

        e = sum_j [dwe_j - dw_j*v] s_j/G + sum_j (we_j - w_j*v)/G * s_j*(1 - s_j) * (dsigma_j*u_j + dcentre_j),

    s_j being the sigmoids, u_j what the synapses read, v the state (``state`` is its name among the signals' values)
    and G the conductance. ``gain`` (fraction ``GAIN_FRAC``, per neuron) is what its conductances are multiplied by once
    more (``scaled``). ``centre`` is added to ``-sigma*mu``; it is fine enough to be free here. A current rounds to no
    more than its conductance times the largest reversal potential, so that rounding moves no neuron's range.
    """
    found = {name: np.zeros(size, np.int64) for name, size in of.sizes.items()}
    found["gain"][:] = 1 << GAIN_FRAC
    seen = [_sigmoids(of, one, state) for one in signals]
    for neuron in range(of.layer.neurons):
        own = {tag: np.flatnonzero(one.post == neuron) for tag, one in of.sets}
        if not sum(map(len, own.values())):
            continue
        hessian: F64 = np.sum([_cost(of, signal, own, neuron) for signal in seen], axis=0)
        *chosen, found["gain"][neuron] = _neuron(of, own, hessian)
        for kind, values in zip((*KINDS, "centre"), chosen, strict=True):
            for tag, part in zip(SETS, np.split(values, [len(own["_s"])]), strict=True):
                found[f"{kind}{tag}"][own[tag]] = part
    return found


Signal = tuple[Mapping[str, tuple[F64, F64]], F64, F64]
"""Per set of synapses what they read and their sigmoids (n, synapses); the state and the conductance (n, neurons)."""


def _sigmoids(of: LtcReading, signals: Signals, state: str) -> Signal:
    layer, v, found = of.layer, signals.values[state], {}
    conductance = np.tile(layer.gleak, (len(v), 1))
    for tag, one in of.sets:
        read, shift = (signals.x / of.channel, layer.input_b) if tag == "_s" else (v, np.zeros(layer.neurons))
        u = read[:, one.pre]
        z = of.vectors[f"sigma{tag}"] * u + one.sigma * (shift[one.pre] - one.mu)
        s = 1.0 / (1.0 + np.exp(-np.clip(z, -60.0, 60.0)))
        found[tag] = u, s
        np.add.at(conductance.T, one.post, (s * one.w).T)
    return found, v, conductance


def _cost(of: LtcReading, signal: Signal, own: Mapping[str, I64], neuron: int) -> F64:
    """``J' J`` over what was seen, for units of sigma, w and we, and for centre, of one neuron's synapses."""
    found, v, conductance = signal
    kinds: dict[str, list[F64]] = {kind: [] for kind in (*KINDS, "centre")}
    for tag, one in of.sets:
        (u, s), at = found[tag], own[tag]
        drive = one.w[at] * (one.erev[at] - v[:, [neuron]]) * s[:, at] * (1.0 - s[:, at])
        unit = {kind: 2.0 ** -of.fracs[f"{kind}{tag}"] for kind in KINDS}
        kinds["sigma"].append(drive * u[:, at] * unit["sigma"])
        kinds["w"].append(-s[:, at] * v[:, [neuron]] * unit["w"])
        kinds["we"].append(s[:, at] * unit["we"])
        kinds["centre"].append(drive)
    j = np.concatenate([part for parts in kinds.values() for part in parts], axis=1) / conductance[:, [neuron]]
    cost: F64 = j.T @ j / len(j)
    return cost


def _neuron(of: LtcReading, own: Mapping[str, I64], hessian: F64) -> tuple[I64, I64, I64, I64, int]:
    """sigma, w, we and centre of one neuron's synapses, sensory ones first, and its gain: of all gains that are tried,
    the one whose roundings cost least.
    """
    n = len(hessian) // 4
    real, top = _units(of, own)
    farthest = max(float(np.abs(one.erev).max(initial=0.0)) for _, one in of.sets) * (1.0 + SINGLE)
    ratio = np.concatenate([np.full(len(own[tag]), farthest * 2.0 ** (of.fracs[f"we{tag}"] - of.fracs[f"w{tag}"]))
                            for tag in SETS])
    tried = GAINS if n <= SEARCHED else GAINS[:1]
    there = _gains_on_grid(real[:n], real[n:], top)
    tried = (there[0],) if there else tried
    return min((_rounded(real, top, ratio, hessian, gain) for gain in tried), key=lambda found: found[0])[1]


def _gains_on_grid(slopes: F64, sizes: F64, top: F64) -> tuple[int, ...]:
    """The gains at which sigma (``slopes``), w and we (``sizes``) in units are integers already, as after training.

    ``equalizing`` may see another octave of these than of those that they were rounded from.
    """
    gains = np.array(OCTAVES)
    units = np.concatenate([np.tile(slopes, (len(gains), 1)), np.outer(gains * 2.0**-GAIN_FRAC, sizes)], axis=1)
    whole = np.floor(units + 0.5)
    there = (np.abs(units - whole) <= ON_GRID + SINGLE * np.abs(whole)) & (np.abs(whole) <= top)
    return tuple(int(gain) for gain in gains[there.all(axis=1)])


def settled(of: LtcReading) -> dict[str, int]:
    """The fractions, w and we by up to a bit otherwise where all weights are integers then.

    The largest weight decides a fraction, and after rounding it may be another one: of two neurons with w = 1.02 and
    0.9 in four bits the first has the unit 1/4 and becomes 4 of these; where its gain is 1.4 it is 0.71 when it is read
    again, and the unit 1/8 would do. But then what else lay on multiples of 1/4 times the gain is rounded once more.
    """
    names = [f"{kind}{tag}" for kind in KINDS[1:] for tag, one in of.sets if len(one)]
    for moves in sorted(product((0, -1, 1), repeat=len(names)), key=np.count_nonzero):
        fracs = {**of.fracs, **{name: of.fracs[name] + move for name, move in zip(names, moves, strict=True)}}
        if all(_is_settled(of, fracs, neuron) for neuron in range(of.layer.neurons)):
            return fracs
    return dict(of.fracs)


def _is_settled(of: LtcReading, fracs: Mapping[str, int], neuron: int) -> bool:
    own = {tag: np.flatnonzero(one.post == neuron) for tag, one in of.sets}
    real, top = _units(dataclasses.replace(of, fracs=fracs), own)
    return not len(real) or bool(_gains_on_grid(real[: len(real) // 3], real[len(real) // 3:], top))


def _units(of: LtcReading, own: Mapping[str, I64]) -> tuple[F64, F64]:
    """sigma, w and we of one neuron's synapses in units, sensory ones first, and the most that each may be."""
    parts = [(f"{kind}{tag}", own[tag]) for kind in KINDS for tag in SETS]
    real = np.concatenate([of.vectors[name][at] * 2.0 ** of.fracs[name] for name, at in parts])
    return real, np.concatenate([np.full(len(at), 2.0 ** (of.bits[name] - 1) - 1.0) for name, at in parts])


def _rounded(real: F64, top: F64, ratio: F64, hessian: F64,
             gain: int) -> tuple[float, tuple[I64, I64, I64, I64, int]]:
    """What the roundings at one gain cost, and they: each knows what those before it err.

    ``real`` are sigma, w and we in units, ``top`` the most each may be, ``ratio`` how many units of we the farthest
    reversal potential makes of one of w.
    """
    n, share = len(hessian) // 4, gain * 2.0**-GAIN_FRAC
    scale = np.repeat([1.0, 1.0 / share, 1.0 / share, 1.0], n)
    h = hessian * np.outer(scale, scale)
    means = np.diag(h).reshape(4, n).mean(axis=1)
    h += np.diag(np.repeat(np.array([RIDGE, RIDGE, RIDGE, STRAY]) * means + TINY, n))
    real = np.concatenate([real[:n], real[n:] * share])
    least = np.concatenate([-top[:n], np.zeros(n)])  # w is no less than 0
    rough = compensated(real[None, :2 * n], (least, top[:2 * n]), reduced(h, 2 * n))[0]
    middle = reduced(h, 3 * n)
    moved = real[2 * n:] - np.linalg.solve(middle[2 * n:, 2 * n:], middle[2 * n:, :2 * n] @ (rough - real[:2 * n]))
    most = np.minimum(np.floor(rough[n:] * ratio), top[2 * n:])
    we = compensated(moved[None], (-most, most), middle[2 * n:, 2 * n:])[0]
    error = np.concatenate([rough, we]) - real
    centre = np.clip(-np.linalg.solve(h[3 * n:, 3 * n:], h[3 * n:, :3 * n] @ error), -STRAYS, STRAYS)
    return float(error @ middle @ error), (rough[:n], rough[n:], we, to_raw(centre, CENTRE_FRAC), gain)
