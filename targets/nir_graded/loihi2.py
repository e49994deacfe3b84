"""A layer under Loihi 2's arithmetic: 8-bit weights with one exponent per post-neuron, 24-bit states and sums.

An LTC's update is a quotient, so each post-neuron may scale its conductances, leak and cm_t by any factor. Of
``TRIALS`` factors that one is taken whose rounded weights err least in the update over the states the policy visits,
``(sum dwe_j s_j - v' sum dw_j s_j) / D``. What a constant can correct is left to leak and gleak, which have 24 bits.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.policy import Ltc, Synapses
from ncpc.targets.nir.front import logistic
from ncpc.targets.nir.study import Study, evidence
from ncpc.targets.nir.trajectory import trajectory
from ncpc.targets.nir_graded.chips import Chip
from ncpc.targets.nir_graded.record import GradedLtc, IntegerSynapses
from ncpc.targets.nir_graded.widths import proved_widths

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TRIALS = 64
S_FRAC = 15
SAMPLES = 1500
ROOM = 1.1
"""Rounded weights move the box of states by less than a tenth."""
COARSER = 3
"""How many units of the currents are tried, each half as fine as the one before, until all sums are proved to fit."""
WIDER = 8
"""Bits the 24-bit state has over the 16-bit view that is sent."""


@dataclass(frozen=True, eq=False)
class Fit:
    """One post-neuron in integers: ``scale`` raw per unit of conductance, weights (S,), exponent of the currents."""

    scale: float
    w: I64
    we: I64
    exponent: int
    gleak: float
    leak: float


def loihi2(base: GradedLtc, known: Study, profile: Chip) -> GradedLtc:
    """``base``, the 16-bit layer, with weights, sums and states as ``profile`` has them."""
    ltc, seen = known.cell.ltc, _seen(known)
    base = _roomier(base, known) if _tight(base, known) else base
    fits = [_fit(i, ltc, known, seen, profile["weight_bits"]) for i in range(ltc.neurons)]
    least = max(1, int(np.ceil(np.log2(_farthest(ltc)))))
    tried = [_record(base, known, fits, profile, coarser) for coarser in range(least, least + COARSER)]
    return next((record for record in tried if _proved(record)), tried[0])


def _farthest(ltc: Ltc) -> float:
    """The largest potential that pulls at a neuron: currents are conductances times at most this."""
    return max(float(np.abs(part).max(initial=0.5)) for part in (ltc.vleak, ltc.sensory.erev, ltc.recurrent.erev))


def _proved(record: GradedLtc) -> bool:
    try:
        proved_widths(record)
    except ProofFailed:
        return False
    return True


def _tight(base: GradedLtc, known: Study) -> bool:
    """Whether rounded weights could push a state past what a message holds."""
    return bool(np.abs(known.box).max() * ROOM * 2.0 ** (base.v_frac - base.u_shift) > 2**15 - 1)


def _roomier(base: GradedLtc, known: Study) -> GradedLtc:
    """Messages of half the fraction and twice the range."""
    wires = dataclasses.replace(base.recurrent, offset=base.recurrent.offset >> 1, z_shift=base.recurrent.z_shift - 1)
    return dataclasses.replace(base, recurrent=wires, v_frac=base.v_frac - 1, y_shift=base.y_shift - 1)


def _seen(known: Study) -> tuple[F64, F64]:
    """What was sensed and the states at the end of the same steps, of calibration and generated sequences alike."""
    sensed, states = [], []
    for x in evidence(known.policy):
        run, every = trajectory(known.cell, x), known.cell.ltc.unfolds
        z, v = (a.reshape(-1, a.shape[2]) for a in (run.z, run.v[every::every]))
        picks = np.linspace(0, len(z) - 1, min(SAMPLES, len(z))).astype(np.int64)
        sensed.append(known.cell.sensed(z[picks]))
        states.append(v[picks])
    return np.concatenate(sensed), np.concatenate(states)


def _fit(i: int, ltc: Ltc, known: Study, seen: tuple[F64, F64], bits: int) -> Fit:
    s, w, erev = _incoming(i, ltc, seen)
    after, top = seen[1][:, i : i + 1], (1 << (bits - 1)) - 1
    features = np.concatenate([-after * s, s], axis=1) / (known.cell.cm_t[i] + ltc.gleak[i] + s @ w)[:, None]
    constant = np.concatenate([-after, np.ones_like(after)], axis=1) / known.den[i]
    weights, most = np.concatenate([w, w * erev]), float(max(w.max(initial=0.0), 1e-9))
    free = features - constant @ np.linalg.lstsq(constant, features, rcond=None)[0]
    gram = free.T @ free
    exponents = range(1 + int(np.ceil(np.log2(max(float(np.abs(erev).max(initial=1.0)), 1.0)))))
    factors = top / most * np.exp2(-np.arange(TRIALS) / TRIALS)
    tried = (_rounded(weights, f, e, gram, top) for f in factors for e in exponents)
    return _corrected(i, ltc, min(tried, key=lambda found: found.error), weights, features, constant)


def _incoming(i: int, ltc: Ltc, seen: tuple[F64, F64]) -> tuple[F64, F64, F64]:
    """Sigmoids (samples, S), w and erev of neuron i's synapses, sensory ones first."""
    parts = []
    for synapses, source in ((ltc.sensory, seen[0]), (ltc.recurrent, seen[1])):
        own = np.flatnonzero(synapses.post == i)
        parts.append((_sigmoids(synapses, own, source), synapses.w[own], synapses.erev[own]))
    s, w, erev = (np.concatenate([p[k] for p in parts], axis=-1) for k in range(3))
    return s, w, erev


def _sigmoids(s: Synapses, own: I64, source: F64) -> F64:
    return logistic(s.sigma[own] * (source[:, s.pre[own]] - s.mu[own]))


@dataclass(frozen=True, eq=False)
class Rounding:
    """One try: integers (2S,), w then we, of these units (2S,); the currents' is 2^exponent coarser."""

    raw: I64
    unit: F64
    factor: float
    exponent: int
    error: float


def _rounded(weights: F64, factor: float, exponent: int, gram: F64, top: int) -> Rounding:
    """The nearest integers; a synapse that is there keeps a weight of at least 1, so that its potential is finite."""
    size, coarse = len(weights) // 2, 2.0**exponent
    unit = np.concatenate([np.full(size, 1.0 / factor), np.full(size, coarse / factor)])
    raw = np.clip(np.floor(weights / unit + 0.5), -top, top)
    raw[:size] = np.where(weights[:size] > 0, np.maximum(raw[:size], 1.0), 0.0)
    raw[size:] = np.where(raw[:size] > 0, raw[size:], 0.0)
    error = raw * unit - weights
    return Rounding(raw.astype(np.int64), unit, factor, exponent, float(error @ gram @ error))


def _corrected(i: int, ltc: Ltc, best: Rounding, weights: F64, features: F64, constant: F64) -> Fit:
    """Let gleak and leak take what the roundings have in common."""
    size = len(weights) // 2
    change = np.linalg.lstsq(constant, -features @ (best.raw * best.unit - weights), rcond=None)[0]
    still = float(ltc.gleak[i] + ltc.epsilon)
    gleak = max(still + float(change[0]), 0.25 * still)
    bound = gleak * max(1.0, float(np.abs(ltc.vleak[i])))
    leak = float(np.clip(ltc.gleak[i] * ltc.vleak[i] + change[1], -bound, bound))
    return Fit(best.factor, best.raw[:size], best.raw[size:], best.exponent, gleak, leak)


def _record(base: GradedLtc, known: Study, fits: list[Fit], profile: Chip, coarser: int) -> GradedLtc:
    """Neuron i's raw conductances are ``scale_i * 2^(S_FRAC - shift_i)`` per physical unit, its currents ``coarser``
    bits less: enough that a current, which is a conductance times a potential, fits where conductances do.
    """
    room = 2.0 ** (profile["state_bits"] - 1) - 64.0
    cm_t, u_frac = known.cell.cm_t, base.v_frac - base.u_shift
    most = [cm_t[i] + f.gleak + f.w.sum() / f.scale for i, f in enumerate(fits)]
    shifts = [max(0, int(np.ceil(np.log2(m * f.scale * 2.0**S_FRAC / room)))) for m, f in zip(most, fits, strict=True)]
    lsb = np.array([f.scale * 2.0 ** (S_FRAC - k) for f, k in zip(fits, shifts, strict=True)])
    raw_cm = _whole(cm_t * lsb)
    gleak = np.maximum(_whole(np.array([f.gleak for f in fits]) * lsb), 1)
    least = int((raw_cm + gleak).min())
    inverse_shift = 15 - (31 - least.bit_length())
    v_frac = u_frac + WIDER
    return dataclasses.replace(
        base, sensory=_wires(base.sensory, known.cell.ltc.sensory, fits, shifts, coarser, 0),
        recurrent=_wires(base.recurrent, known.cell.ltc.recurrent, fits, shifts, coarser, 1),
        gleak=gleak, leak=_whole(np.array([f.leak for f in fits]) * lsb / 2.0**coarser), cm_t=raw_cm,
        v_frac=v_frac, u_shift=WIDER, g_shift=0, pull_shift=v_frac + coarser, inverse_shift=inverse_shift,
        inverse_bits=profile["decay_bits"], delta_shift=46 + inverse_shift - v_frac - coarser,
        y_shift=base.y_shift + v_frac - base.v_frac, state_bits=profile["state_bits"],
        sum_bits=profile["state_bits"],
    )


def _wires(base: IntegerSynapses, synapses: Synapses, fits: list[Fit], shifts: list[int], coarser: int,
           which: int) -> IntegerSynapses:
    """Weights of one set; ``which`` 0: sensory, whose synapses come first in each neuron's fit."""
    w, we = np.zeros_like(base.w), np.zeros_like(base.we)
    den, num = np.zeros_like(base.w), np.zeros_like(base.w)
    for i, fit in enumerate(fits):
        own = np.flatnonzero(synapses.post == i)
        part = slice(0, len(own)) if which == 0 else slice(len(fit.w) - len(own), len(fit.w))
        w[own], we[own], den[own] = fit.w[part], fit.we[part], shifts[i]
        num[own] = shifts[i] + coarser - fit.exponent
    return dataclasses.replace(base, w=w, we=we, den_shift=den, num_shift=num)


def _whole(x: F64) -> I64:
    return np.asarray(np.floor(x + 0.5)).astype(np.int64)
