"""An LTC layer as integers: fractions that hold on the box of states no input can leave.

The order of choice: weights to integers (which fixes the reversal potentials the device really has), the hull of those
potentials as a first box, the state's fraction on it, sums and divisor on that, then the exact box of the integer step
with its roundings (``ncpc.quant.box``). The finest fraction whose box fits it is taken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.policy import F64, I64, Ltc, Synapses
from ncpc.ir.quantized import (
    S_FRAC,
    TABLE_SIZE,
    Z_HALF,
    QuantizedLtc,
    QuantizedSynapses,
    SynapseFormat,
    argument_frac,
)
from ncpc.ir.types import Fixed
from ncpc.quant.box import Step, invariant_box
from ncpc.quant.ltc_rounding import CENTRE_FRAC, GAIN_FRAC, LtcReading, equalizing, scaled, settled
from ncpc.quant.rounding import fits, fraction_for, from_raw, to_raw

Fractions = Callable[[Mapping[str, F64], int], Mapping[str, int]]
"""Chooses a power-of-two scale for each of a layer's vectors: (vectors, bits) -> fractions."""
Rounding = Callable[[LtcReading], Mapping[str, I64]]
"""Chooses the integers of vectors of few bits together (``ncpc.quant.ltc_rounding.rounded_together``)."""

INDEX_BITS = 26
"""sigma*u may have at most this fraction: the biased argument spans 2*Z_HALF = 2**5 and must fit 31 bits."""
FINER, COARSER = 2, 6
"""Fractions tried: the leak can hold the box to a quarter of the hull, roundings can push it past."""
SUM_FRAC = 26
"""More fraction than this in the sums buys nothing measurable."""


@dataclass(frozen=True, eq=False)
class Incoming:
    """The values a layer receives: type, fractions per channel, raw range (n, 2)."""

    type: Fixed
    fracs: tuple[int, ...]
    range: I64


@dataclass(frozen=True)
class Timespans:
    """The dt the program must serve; ``frac`` is the run-time dt's fraction, None when dt is fixed at ``lo == hi``."""

    lo: float
    hi: float
    frac: int | None


@dataclass(frozen=True)
class Demand:
    """What a quantized layer is to have: widths of weights and outputs, and the state's largest dead band, physical.

    ``state_bits`` is the width of the state where its dead band is small enough, and of the view the synapses read;
    ``table`` is the number of intervals of the sigmoid's table, ``sigma_bits`` the width of ``sigma`` (0: ``bits``).
    ``together``: weights are so coarse that it pays to choose how each is rounded. ``far``: states of 32 bits may go
    further than was seen; not where graphs hold them in 8, which then resolve less of what was.
    """

    bits: int
    out_bits: int
    dead_band: float
    state_bits: int = 16
    table: int = TABLE_SIZE
    sigma_bits: int = 0
    together: bool = False
    far: bool = True

    def width(self, vector: str) -> int:
        """Bits of one of ``synapse_vectors``."""
        return self.sigma_bits or self.bits if vector.startswith("sigma") else self.bits


def synapse_vectors(layer: Ltc, incoming: Incoming) -> dict[str, F64]:
    """The weight vectors that get a scale each, as the integer step uses them: ``we`` is ``w*erev``.

    The input mapping and the channels' fractions are folded into the sensory sigma.
    """
    s, r = layer.sensory, layer.recurrent
    return {
        "sigma_s": s.sigma * (layer.input_w * channel_units(incoming))[s.pre], "w_s": s.w, "we_s": s.w * s.erev,
        "sigma": r.sigma, "w": r.w, "we": r.w * r.erev,
    }


def channel_units(incoming: Incoming) -> F64:
    """(inputs,): what a physical input is divided by to be what its raw integer says at the nominal fraction."""
    units: F64 = np.exp2(incoming.type.frac - np.array(incoming.fracs, np.float64))
    return units


def quantize_ltc(layer: Ltc, incoming: Incoming, dt: Timespans, demand: Demand, fractions: Fractions,
                 rounding: Rounding, start: F64 | None = None) -> QuantizedLtc:
    """Integers and formats of the layer, whose state is ``start`` at first (0 where that is None).

    ``rounding`` is asked where weights are rounded together. Raises ``ProofFailed`` naming the neuron when no format
    closes.
    """
    first, gain = np.zeros(layer.neurons) if start is None else start, np.ones(layer.neurons)
    if demand.together:
        gain = equalizing(layer)
        layer = scaled(layer, gain)
    vectors = synapse_vectors(layer, incoming)
    fracs = {name: frac for bits in {demand.sigma_bits or demand.bits, demand.bits}
             for name, frac in fractions({n: v for n, v in vectors.items() if demand.width(n) == bits}, bits).items()}
    if demand.together:
        widths = {name: demand.width(name) for name in vectors}
        reading = LtcReading(layer, vectors, widths, fracs, channel_units(incoming))
        fracs = settled(reading)
        chosen = rounding(dataclasses.replace(reading, fracs=fracs))
        more = from_raw(chosen["gain"], GAIN_FRAC)
        layer, gain = scaled(layer, more), gain * more
        vectors = {name: from_raw(whole, fracs.get(name, CENTRE_FRAC)) for name, whole in chosen.items()}
    hull = max(_hull(layer, vectors, fracs, demand.bits), float(np.abs(first).max(initial=0.0)))
    reason = ""
    for spare in range(-FINER, COARSER):
        u = Fixed(demand.state_bits, fraction_for(hull * 1.001 + 2.0**-10, demand.state_bits) - spare)
        attempt = _attempt(layer, incoming, dt, demand, vectors, fracs, u, hull)
        box, reason = invariant_box(step_of(attempt), to_raw(first, attempt.v.frac))
        if not reason and _holds(box, attempt):
            return _finish(layer, dataclasses.replace(attempt, gain=gain), box, demand.out_bits)
    raise ProofFailed(f"LTC layer: no fixed-point format holds the state's range: {reason or 'the box keeps growing'}")


def _hull(layer: Ltc, vectors: Mapping[str, F64], fracs: Mapping[str, int], bits: int) -> float:
    """The largest magnitude among vleak and the reversal potentials as the integers have them."""
    most = float(np.abs(layer.vleak).max(initial=0.0))
    for tag in ("_s", ""):
        w, we = _weights(vectors, fracs, tag, bits)
        ratio = np.abs(we) * 2.0 ** (fracs[f"w{tag}"] - fracs[f"we{tag}"]) / np.maximum(w, 1)
        most = max(most, float(ratio.max(initial=0.0)))
    return most


def _weights(vectors: Mapping[str, F64], fracs: Mapping[str, int], tag: str, bits: int) -> tuple[I64, I64]:
    """``w`` and ``we`` as integers; a synapse whose w rounds to 0 has no current either."""
    top = (1 << (bits - 1)) - 1
    w = np.clip(to_raw(vectors[f"w{tag}"], fracs[f"w{tag}"]), 0, top)
    we = np.clip(to_raw(vectors[f"we{tag}"], fracs[f"we{tag}"]), -top, top)
    return w, np.where(w == 0, 0, we)


def _attempt(layer: Ltc, incoming: Incoming, dt: Timespans, demand: Demand, vectors: Mapping[str, F64],
             fracs: Mapping[str, int], u: Fixed, hull: float) -> QuantizedLtc:
    """The layer in integers with ``u`` as the state's 16-bit view; its box is filled in later."""
    g, n = _sum_fractions(layer, fracs, vectors, hull)
    cm = layer.cm * layer.unfolds
    d = min(g, fraction_for(float((cm / dt.lo * 1.001 + _conductance(layer)).max()), 32))
    affine = (layer.input_b, incoming.type, int(np.abs(incoming.range).max(initial=1)))
    state = (np.zeros(layer.neurons), u, 1 << (u.bits - 1))
    sensory = _synapses(layer.sensory, "_s", vectors, fracs, demand, affine, (g, n))
    recurrent = _synapses(layer.recurrent, "", vectors, fracs, demand, state, (g, n))
    gleak, leak = _leak(layer, g, n, hull)
    cm_frac = fraction_for(float(cm.max(initial=0.0)), 32)
    cm_t = None if dt.frac is not None else to_raw(cm / dt.lo, d)
    lowest, highest = _divisors(layer, dt, d)
    v = _state_type(layer, dt, demand, u, 59 - lowest - d + n)
    k_inverse = int(np.clip(v.frac + d - n - 14, -highest, 15 - lowest))
    empty = np.zeros(0, np.int64)
    return QuantizedLtc(
        sensory, recurrent, g, n, d, v, u, leak, gleak, cm_t, to_raw(cm, cm_frac), cm_frac,
        k_inverse, n - d - v.frac + 46 + k_inverse,
        box=np.zeros((layer.neurons, 2), np.int64), output_w=empty, output_b=empty, output_w_frac=0, k_y=1,
        y=Fixed(demand.out_bits, demand.out_bits - 1), y_fracs=(), gain=np.ones(layer.neurons),
    )


def _conductance(layer: Ltc) -> F64:
    """The largest conductance of each neuron."""
    return layer.gleak + layer.epsilon + _incoming(layer, layer.sensory.w, layer.recurrent.w)


def _incoming(layer: Ltc, sensory: F64, recurrent: F64) -> F64:
    total = np.zeros(layer.neurons)
    np.add.at(total, layer.sensory.post, sensory)
    np.add.at(total, layer.recurrent.post, recurrent)
    return total


def _sum_fractions(layer: Ltc, fracs: Mapping[str, int], vectors: Mapping[str, F64], hull: float) -> tuple[int, int]:
    """Fractions of G and N, so that |N| + G*|v| fits 31 bits on the whole box, with room for the roundings."""
    room = 1.001
    conductance = _conductance(layer) * room
    current = np.abs(layer.gleak * layer.vleak) + _incoming(layer, np.abs(vectors["we_s"]), np.abs(vectors["we"]))
    most = float((current * room + conductance * (hull * room + 2.0**-8)).max())
    g = min(fracs["w"] + S_FRAC, fracs["w_s"] + S_FRAC, fraction_for(float(conductance.max()), 32), SUM_FRAC)
    n = min(fracs["we"] + S_FRAC, fracs["we_s"] + S_FRAC, fraction_for(most, 32), SUM_FRAC)
    return g, n


def _synapses(s: Synapses, tag: str, vectors: Mapping[str, F64], fracs: Mapping[str, int], demand: Demand,
              source: tuple[F64, Fixed, int], sums: tuple[int, int]) -> QuantizedSynapses:
    """One synapse set. ``source`` is the presynaptic offset, type and largest magnitude (raw)."""
    (shift, kind, reach), bits, z = source, demand.bits, argument_frac(demand.table)
    centre = s.sigma * (shift[s.pre] - s.mu) + vectors.get(f"centre{tag}", 0.0)
    w, we = _weights(vectors, fracs, tag, bits)
    widths = (demand.width("sigma"), kind.frac, z)
    sigma_frac, sigma, offset, swing = _argument(vectors[f"sigma{tag}"], centre, fracs[f"sigma{tag}"], widths, reach)
    k_z, k_offset = sigma_frac + kind.frac - z, 0
    if demand.together:
        offset, k_offset = _short(offset, swing, max(k_z, 0), z)
    form = SynapseFormat(bits, demand.width("sigma"), sigma_frac, fracs[f"w{tag}"], fracs[f"we{tag}"])
    return QuantizedSynapses(
        form, s.pre, s.post, sigma, offset, w, we, k_z=k_z,
        k_den=form.w + S_FRAC - sums[0], k_num=form.we + S_FRAC - sums[1], k_offset=k_offset,
    )


def _short(offset: I64, swing: I64, finer: int, z: int) -> tuple[I64, int]:
    """The offsets in 16 bits and how far they are shifted up, where that costs no more than a unit of the table's
    argument; else as they are, and 0. They are ``finer`` bits finer than that argument, whose fraction is ``z``.

    One that keeps its sigmoid at an end of the table wherever ``swing`` takes it may be any that does.
    """
    span = 2 * Z_HALF << finer + z
    held = np.clip(offset, -swing - 1, span + swing)
    lost = max(0, int(np.abs(held).max(initial=0)).bit_length() - 15)
    if lost > finer + 1:
        return offset, 0
    rounded = (held + (1 << lost >> 1)) >> lost
    return np.clip(rounded, -(1 << 15), (1 << 15) - 1), lost


def _argument(slope: F64, centre: F64, frac: int, widths: tuple[int, int, int],
              reach: int) -> tuple[int, I64, I64, I64]:
    """Fraction, sigma and offset such that ``sigma*u + offset`` fits int32 for every u up to ``reach``, and the most
    that ``sigma*u`` is then.

    ``widths`` are the bits of sigma and the fractions of u and of the table's argument. A product coarser than that
    argument (8-bit weights and inputs) is shifted up to it, exactly. An offset so large that the sigmoid is saturated
    for every u is limited to a smaller one that saturates as well.
    """
    # sigma = 3.7, mu = 0.3, u in Q2.13, the table's argument in Q5.11. At the fraction 13 sigma is 30310 and the
    # product has the fraction 26: offset = (16 - 3.7*0.3) * 2**26 + 2**14 = 999267369, the last being half of what >>
    # 15 takes away. At u = mu, raw 2458: (30310*2458 + 999267369) >> 15 = 32768 = 16 * 2**11, the middle of the table.
    bits, u_frac, z = widths
    top, last = (1 << (bits - 1)) - 1, 2 * Z_HALF
    for f in range(min(frac, INDEX_BITS - u_frac), -32, -1):
        product = max(f + u_frac, z)
        sigma = np.clip(to_raw(slope, f), -top, top)
        exact = np.floor((centre + Z_HALF) * 2.0**product + 0.5) + (1 << (product - z) >> 1)
        swing = np.abs(sigma) * reach << (product - f - u_frac)
        limit = (1 << 31) - 1 - swing
        saturated = limit - swing >= last << product
        if np.all((exact <= limit) | saturated) and np.all(swing <= limit):
            return f, sigma, np.clip(exact, -limit, limit).astype(np.int64), swing
    raise ProofFailed("LTC layer: sigma*(v - mu) exceeds 32 bits at every fraction; sigma is too large for this range")


def _leak(layer: Ltc, g: int, n: int, hull: float) -> tuple[I64, I64]:
    """``gleak + epsilon`` and ``gleak*vleak``.

    Each synapse is rounded down by less than a unit in N and in G. A neuron whose leak is smaller than the sum of these
    could be pushed outwards without end, so its conductance to 0 (epsilon) is raised to that many units of 2**-g.
    """
    # Three synapses, g = n, hull 1: N may lack three units and G three, each worth |v| <= 1 of N: guard = 3*(1 + 1)/1 =
    # 6.
    leaky = to_raw(layer.gleak, g)
    degree = _incoming(layer, np.ones(len(layer.sensory)), np.ones(len(layer.recurrent)))
    guard = np.ceil(degree * (2.0 ** (g - n) + hull) / max(hull, 2.0**-8)).astype(np.int64)
    epsilon = to_raw(layer.epsilon, g)
    conductance = np.where(leaky + epsilon < guard, guard, leaky + epsilon)
    return conductance, np.where(leaky == 0, 0, to_raw(layer.gleak * layer.vleak, n))


def _divisors(layer: Ltc, dt: Timespans, d: int) -> tuple[int, int]:
    """Exponents (see the op ``inverse``) of the smallest and the largest divisor, a little beyond either."""
    base = layer.gleak + layer.epsilon
    least = ((layer.cm * layer.unfolds / dt.hi + base) * (1 - 2.0**-10)).min() * 2.0**d - 2.0
    most = ((layer.cm * layer.unfolds / dt.lo + _conductance(layer)) * (1 + 2.0**-10)).max() * 2.0**d + 2.0
    lowest, highest = (30 - int(np.floor(np.log2(max(float(end), 1.0)))) for end in (least, most))
    return lowest, max(highest, 0)


def _state_type(layer: Ltc, dt: Timespans, demand: Demand, u: Fixed, most: int) -> Fixed:
    """The view's width where the dead band allows it, else 32 bits and as much fraction as the division delivers."""
    cm_t = layer.cm * layer.unfolds / dt.lo
    least = np.maximum(layer.gleak + layer.epsilon, 2.0**-SUM_FRAC)
    dead = 2.0 ** -(u.frac + 1) * float((cm_t / least + 1.0).max(initial=1.0))
    if dead <= demand.dead_band and u.frac <= most:
        return u
    # One bit less than the view allows: a difference of two states must fit 32 bits as well.
    return Fixed(32, min(u.frac + 31 - u.bits, most))


def step_of(q: QuantizedLtc) -> Step:
    """The quantities of the integer update that the box depends on."""
    cm_t = np.zeros(len(q.gleak), np.int64) if q.cm_t is None else q.cm_t
    return Step(sets=(q.sensory, q.recurrent), leak=q.leak, gleak=q.gleak, cm_t=cm_t, g=q.g, n=q.n, d=q.d, v=q.v.frac)


def _holds(box: I64, q: QuantizedLtc) -> bool:
    half = 1 << (q.v.frac - q.u.frac) >> 1
    return fits(box, q.v) and fits((box + half) >> (q.v.frac - q.u.frac), q.u)


def _finish(layer: Ltc, q: QuantizedLtc, box: I64, bits: int) -> QuantizedLtc:
    """Output formats on the proved box."""
    motor = box[: layer.outputs] * 2.0**-q.v.frac
    ends = motor * layer.output_w[:, None] + layer.output_b[:, None]
    y_fracs = [fraction_for(float(np.abs(e).max()) * (1 + 2.0**-12) + 2.0**-20, bits, most=bits + 8) for e in ends]
    gain = layer.output_w * np.exp2(np.array(y_fracs) - q.v.frac)
    k_y = max(1, fraction_for(float(np.abs(gain).max(initial=0.0)), 31, most=60))
    return dataclasses.replace(
        q, box=box, k_y=k_y, output_w=to_raw(gain, k_y), output_w_frac=bits - 1 - q.v.frac + k_y,
        output_b=np.array([int(to_raw(b, f)) for b, f in zip(layer.output_b, y_fracs, strict=True)], np.int64),
        y_fracs=tuple(y_fracs),
    )
