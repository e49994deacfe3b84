"""What an integer form does with each input: how far it resolves it, where it saturates it, and whether that is told.

Three things decide. A *declared* range is a promise: inputs beyond it are limited to it, and a status bit says so. A
range *guessed* from data is none: it is widened where the data has tails, and the input may use the whole room of the
format that holds that. And an LTC's sensory synapses *listen* only near their centres: beyond, their sigmoids stay at 0
or 1 whatever the input does, so that saturating it there changes nothing that counts and is not told.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import F64, GUESSED, I64, INPUT, Layer, Ltc, Policy
from ncpc.ir.schemes import DEFAULT, SCHEMES, NumberScheme
from ncpc.ir.types import Fixed
from ncpc.ir.wires import frames_in, taps_of
from ncpc.quant.rounding import fraction_for, to_raw

Flags = NDArray[np.bool_]

FRAME = 64
"""Inputs beyond which those of one fraction are read as they are."""
TAIL = 0.99
"""The quantile whose distance from the extreme says how much further data of the same kind may reach."""


@dataclass(frozen=True, eq=False)
class InputRanges:
    """Physical units, (inputs, 2) each.

    ``range`` is what a format must hold of each input: as much of the declared range, or of the guessed one with its
    tails, as the first layer listens to. ``listening`` is where it does, infinite where that is not known: beyond,
    every sigmoid that reads the input is within ``tail`` of 0 or 1.
    """

    range: F64
    listening: F64
    tail: float


def input_ranges(policy: Policy, tail: float) -> InputRanges:
    """What an integer form makes of the policy's inputs, whose synapses listen to no more than ``tail``."""
    zone = listening(policy, tail)
    return InputRanges(np.clip(reach(policy), zone[:, :1], zone[:, 1:]), zone, tail)


def heard_range(policy: Policy) -> F64:
    """The declared range as far as the first layer listens with ``DEFAULT``'s weights: where inputs matter."""
    return np.clip(policy.input_range, *np.split(listening(policy, SCHEMES[DEFAULT].tail), 2, axis=1))


def listening(policy: Policy, tail: float) -> F64:
    """Where the first layer listens to each input, (inputs, 2), physical units; infinite where that is not known.

    A sensory synapse of an LTC reads ``sigmoid(sigma*(u - mu))``, ``u = x*input_w + input_b`` (Lechner et al. 2020).
    With K = log(1/tail - 1) the sigmoid is within ``tail`` of 0 or 1 where ``|sigma*(u - mu)| >= K``, so an input that
    is saturated beyond ``(mu +- K/|sigma| - input_b) / input_w`` of all its synapses changes none of their sigmoids by
    more than ``tail``. With sigma 4, mu 0.3 and a tail of 2**-16 (K = 11.1) that is -2.5 .. 3.1. Synapses without
    weight, and those that do not depend on their input, listen to nothing.
    """
    zone = np.tile([np.inf, -np.inf], (policy.inputs, 1))
    for layer, taps in zip((*policy.layers, None), taps_of(policy), strict=True):
        at, width = 0, sum(tap.width for tap in taps)
        for tap in taps:
            if tap.source == INPUT:
                part, heard = zone[tap.start : tap.stop], _heard(layer, width, tail)[at : at + tap.width]
                zone[tap.start : tap.stop] = np.stack([np.minimum(part[:, 0], heard[:, 0]),
                                                       np.maximum(part[:, 1], heard[:, 1])], axis=1)
            at += tap.width
    return np.where((zone[:, 0] <= zone[:, 1])[:, None], zone, [-np.inf, np.inf])


def _heard(layer: Layer | None, width: int, tail: float) -> F64:
    """Where an LTC listens to each of its inputs, from inf to -inf where it does not; anything else does everywhere."""
    if not isinstance(layer, Ltc):
        return np.tile([-np.inf, np.inf], (width, 1))
    s = layer.sensory
    slope = s.sigma * layer.input_w[s.pre]
    reads = (s.w != 0) & (slope != 0)
    pre, gain = s.pre[reads], layer.input_w[s.pre[reads]]
    with np.errstate(over="ignore"):
        centre = (s.mu[reads] - layer.input_b[pre]) / gain
        half = np.log(1.0 / tail - 1.0) / np.abs(slope[reads])
    lo, hi = np.full(layer.inputs, np.inf), np.full(layer.inputs, -np.inf)
    np.minimum.at(lo, pre, centre - half)
    np.maximum.at(hi, pre, centre + half)
    return np.stack([lo, hi], axis=1)


def reach(policy: Policy) -> F64:
    """The declared range; a guessed one widened from the tails of the calibration.

    Each end lies at least as far beyond the extreme seen as that lies beyond the quantile ``TAIL``: data whose tail
    falls off exponentially come that far once more in a hundred times as many steps. The numbers of a frame share one
    range.
    """
    if not policy.range_guessed or policy.calibration is None:
        return policy.input_range
    x = policy.calibration.x.reshape(-1, policy.inputs)
    seen = np.quantile(x, [0.0, 1.0 - TAIL, TAIL, 1.0], axis=0)
    for frame in frames_in(policy):
        seen[:, frame] = np.quantile(x[:, frame], [0.0, 1.0 - TAIL, TAIL, 1.0])[:, None]
    lowest, low, high, highest = seen
    lo, hi = policy.input_range.T
    return np.stack([np.minimum(lo, 2 * lowest - low), np.maximum(hi, 2 * highest - high)], axis=1)


@dataclass(frozen=True, eq=False)
class Boundary:
    """The inputs of the integer form: their type, a fraction each, and where they are limited.

    ``raw`` (inputs, 2): a number beyond is limited to it, which sets the status bit ``input_saturated``. ``range`` is
    the same in physical units, a declared one as it was declared. At an end that is the type's own, because nothing
    listens beyond, inputs saturate as they become numbers of the type, untold. ``note`` says where that is so, and
    whether the range was guessed.
    """

    type: Fixed
    fracs: tuple[int, ...]
    raw: I64
    range: F64
    note: str


def boundary(policy: Policy, scheme: NumberScheme) -> Boundary:
    """Per input the largest fraction that holds its range; a frame's one fraction is that of its type.

    A guessed range may use all the room of that format: +-4.18 is held as +-8. Its limits lie one unit within the ends
    of the type, so that a number at an end, where what is too large for the type saturates, is told. Of a declared
    range, an end that the type does not hold is one beyond which nothing listens.
    """
    known, bits = input_ranges(policy, scheme.tail), scheme.activation_bits
    fracs = tuple(fraction_for(float(m), bits, most=bits + 8) for m in np.abs(known.range).max(axis=1))
    alike = len(fracs) > FRAME and len(set(fracs)) == 1
    kind = Fixed(bits, fracs[0] if alike else bits - 1)
    units = np.exp2(-np.array(fracs, np.float64))[:, None]
    ends, outward = np.array([kind.lo, kind.hi], np.int64), np.array([-1, 1])
    if policy.range_guessed:
        unheard = known.listening * outward <= ends * units * outward
        raw = np.where(unheard, ends, ends - outward)
        return Boundary(kind, fracs, raw, raw * units, _note(policy, known, unheard))
    declared = to_raw(policy.input_range / units, 0)
    unheard = declared * outward > ends * outward
    raw = np.where(unheard, ends, declared)
    span = np.where(unheard, ends * units, policy.input_range)
    return Boundary(kind, fracs, raw, span, _note(policy, known, unheard))


def _note(policy: Policy, known: InputRanges, unheard: Flags) -> str:
    """What a caller must know beside the range: '' where it is the declared one, and all of it is held."""
    rows: Flags = np.any(unheard, axis=1)
    names = policy.input_names or tuple(f"x{i}" for i in range(policy.inputs))
    some = [names[i] for i in np.flatnonzero(rows)]
    told = [f"{GUESSED}; what is given is all that the format holds."] if policy.range_guessed else []
    if some:
        which = "every input" if rows.all() else f"{', '.join(some[:4])}{' and others' * (len(some) > 4)}"
        told.append(f"At the ends of the type, {which} saturates without a status bit: no synapse listens beyond "
                    f"(each sigmoid is within {known.tail:.2g} of 0 or 1).")
    return " ".join(told)


def remark(policy: Policy, scheme: str) -> str:
    """What there is to say, beside the declared range, of the inputs of a build in ``scheme``; '' for nothing."""
    numbers = SCHEMES[scheme]
    if numbers.arithmetic == "integer":
        return boundary(policy, numbers).note
    return f"{GUESSED}." if policy.range_guessed else ""
