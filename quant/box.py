"""The range of states that no input can leave, for the integer LTC step: a search, to be confirmed by the proof.

For a neuron at v the update adds floor(X*(1+e)/D*2**k + 1/2) with X = N - round(G*v/2**m). If X <= 0 at v = H for
every presynaptic activity, then X <= 0 above H too (G >= 0), so no state above H grows; and a state below H moves at
most by (1+e)*G/D of its distance to H plus rounding, which bounds the overshoot. N - G*H is a sum over synapses, each
linear in its own sigmoid up to rounding, so its maximum is taken synapse by synapse.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from ncpc.ir.quantized import I64, S_FRAC, QuantizedSynapses

DIVISION_ERROR = Fraction(1, 1 << 13)
"""A safe bound of the relative error of norm/recip/scale; the proof measures the exact one."""
FULL = 1 << S_FRAC
"""The largest value of the sigmoid's table."""
LIMIT = 1 << 31


@dataclass(frozen=True, eq=False)
class Step:
    """The integer update of all neurons: see ``ncpc.ir.quantized.QuantizedLtc``. ``v`` is the state's fraction."""

    sets: tuple[QuantizedSynapses, ...]
    leak: I64
    gleak: I64
    cm_t: I64
    g: int
    n: int
    d: int
    v: int


def invariant_box(step: Step) -> tuple[I64, str]:
    """(neurons, 2) raw bounds containing 0, and why there are none ('' when there are)."""
    box = np.zeros((len(step.gleak), 2), np.int64)
    for neuron in range(len(step.gleak)):
        terms = _terms(step, neuron)
        upper, lower = _rest(step, neuron, terms, 1), _rest(step, neuron, terms, -1)
        if upper is None or lower is None:
            return box, f"neuron {neuron}: leak and epsilon are too small to hold it against rounding"
        extra = _overshoot(step, neuron, terms, upper + lower)
        if extra is None:
            return box, f"neuron {neuron}: its divisor can be 0 (cm, gleak and epsilon are 0)"
        box[neuron] = -(lower + extra), upper + extra
    return box, ""


@dataclass(frozen=True)
class _Term:
    """One synapse: raw w and we, and the shifts of its conductance and current."""

    w: int
    we: int
    k_den: int
    k_num: int


def _terms(step: Step, neuron: int) -> list[_Term]:
    found = []
    for s in step.sets:
        where = np.flatnonzero(s.post == neuron)
        found += [_Term(int(s.w[j]), int(s.we[j]), s.k_den, s.k_num) for j in where]
    return found


def _rest(step: Step, neuron: int, terms: list[_Term], sign: int) -> int | None:
    """The smallest H >= 0 such that, mirrored by ``sign``, no state at or above H is pushed further."""
    if _push(step, neuron, terms, sign, LIMIT) > 0:
        return None
    low, high = -1, LIMIT
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _push(step, neuron, terms, sign, middle) <= 0 else (middle, high)
    return high


def _push(step: Step, neuron: int, terms: list[_Term], sign: int, level: int) -> Fraction:
    """An upper bound of sign*N*2**m - G*level over all presynaptic activities (<= 0: nothing pushes beyond)."""
    m = step.g + step.v - step.n
    total = Fraction((sign * int(step.leak[neuron]) << m) - int(step.gleak[neuron]) * level)
    for t in terms:
        rounding = (Fraction(1 << m, 2) if t.k_num else 0) + (Fraction(level, 2) if t.k_den else 0)
        slope = Fraction(sign * t.we << m, 1 << t.k_num) - Fraction(t.w * level, 1 << t.k_den)
        # A synapse that no scale reaches (w = we = 0) contributes exactly nothing.
        total += max(slope * FULL, Fraction(0)) + (rounding if t.w or t.we else 0)
    return total


def _overshoot(step: Step, neuron: int, terms: list[_Term], width: int) -> int | None:
    """How far beyond the resting level one update can land, in raw state units."""
    shift = Fraction(1 << step.g, 1 << step.d)
    cm_t = int(step.cm_t[neuron])
    least = Fraction(int(step.gleak[neuron])) / shift
    most = least + sum(Fraction(t.w * FULL, 1 << t.k_den) + 1 for t in terms) / shift
    half = Fraction(1, 2) if step.g != step.d else Fraction(0)
    divisor = cm_t + least - half
    if divisor < 1:
        return None
    share = max(least / divisor, most / (cm_t + most - half))
    grow = max((1 + DIVISION_ERROR) * share - 1, Fraction(0))
    k = step.v + step.d - step.n
    unit = (1 + DIVISION_ERROR) * (Fraction(1 << k) if k >= 0 else Fraction(1, 1 << -k)) / divisor
    extra = unit + Fraction(1, 2)
    return ceil((grow * width + extra) / (1 - 2 * grow))
