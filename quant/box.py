"""The range of states that no input can leave, for the integer LTC step: a search, to be confirmed by the proof.

For a neuron at v the update adds floor(X*(1+e)/D*2**k + 1/2) with X = N - round(G*v/2**m). If X <= 0 at v = H for
every presynaptic activity, then X <= 0 above H too (G >= 0), so no state above H grows; and a state below H moves at
most by (1+e)*G/D of its distance to H plus rounding, which bounds the overshoot. N - G*H is a sum over synapses, each
linear in its own sigmoid up to rounding, so its maximum is taken synapse by synapse.

The search runs in float64 for all neurons at once, with a margin for its own rounding; ``ncpc.proofs`` repeats the
inequalities in exact integers on the emitted program.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.quantized import F64, I64, S_FRAC, QuantizedSynapses

DIVISION_ERROR = 2.0**-13
"""More than the relative error of the reciprocal; the proof measures the exact one."""
FULL = 2.0**S_FRAC
"""The largest value of the sigmoid's table."""
LIMIT = 2.0**31
MARGIN = 2.0**-46
"""Share of the magnitudes added up that covers float64 rounding of the search."""


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


def invariant_box(step: Step, start: I64) -> tuple[I64, str]:
    """(neurons, 2) raw bounds containing 0 and the initial state, and why there are none ('' when there are)."""
    upper, lower = np.maximum(_rest(step, 1), start), np.maximum(_rest(step, -1), -start)
    extra, divisor = _overshoot(step, upper + lower)
    loose = np.flatnonzero((upper >= LIMIT) | (lower >= LIMIT))
    if divisor.size and divisor.min() < 1.0:
        return _nothing(step), f"neuron {int(divisor.argmin())}: its divisor can be 0 (cm, gleak and epsilon are 0)"
    if loose.size:
        return _nothing(step), f"neuron {int(loose[0])}: leak and epsilon are too small to hold it against rounding"
    return np.stack([-(lower + extra), upper + extra], axis=1).astype(np.int64), ""


def _nothing(step: Step) -> I64:
    return np.zeros((len(step.gleak), 2), np.int64)


def _rest(step: Step, sign: int) -> F64:
    """The smallest H >= 0 such that, mirrored by ``sign``, no state at or above H is pushed further; LIMIT: none."""
    # gleak = 100000 and one synapse with w = we = 3000 at k = 8: at full activity it adds 3000 * 2**15 >> 8 = 384000 to
    # N and to G. At rest v = N/G = 384000/484000, in Q.13 6499.2; with what roundings may add, H = 6500 (and -1 below
    # 0, where only the current's rounding pushes).
    low, high = np.full(len(step.gleak), -1.0), np.full(len(step.gleak), LIMIT)
    while (high - low).max(initial=0.0) > 1:
        middle = np.floor((low + high) / 2)
        rests = _push(step, sign, middle) <= 0
        low, high = np.where(rests, low, middle), np.where(rests, middle, high)
    return np.where(_push(step, sign, high) <= 0, high, LIMIT)


def _push(step: Step, sign: int, level: F64) -> F64:
    """An upper bound of sign*N*2**m - G*level over all presynaptic activities (<= 0: nothing pushes beyond)."""
    m = 2.0 ** (step.g + step.v - step.n)
    total = sign * step.leak * m - step.gleak * level
    size = np.abs(step.leak * m) + step.gleak * np.abs(level)
    for s in step.sets:
        at = level[s.post]
        current, pull = sign * s.we * m * 2.0**-s.k_num * FULL, s.w * at * 2.0**-s.k_den * FULL
        # Rounded down: a current can lack one unit (it pushes towards minus), a conductance one of its pull.
        rounding = (m if s.k_num and sign < 0 else 0.0) + (np.maximum(at, 0.0) if s.k_den else 0.0)
        # A synapse whose weights are 0 contributes exactly nothing.
        np.add.at(total, s.post, np.maximum(current - pull, 0.0) + np.where((s.w != 0) | (s.we != 0), rounding, 0.0))
        np.add.at(size, s.post, np.abs(current) + np.abs(pull))
    bound: F64 = total + MARGIN * size
    return bound


def _overshoot(step: Step, width: F64) -> tuple[F64, F64]:
    """How far beyond the resting level one update can land (raw state units), and the smallest divisor."""
    shift = 2.0 ** (step.g - step.d)
    least = step.gleak / shift
    most = least.copy()
    for s in step.sets:
        np.add.at(most, s.post, (s.w * FULL * 2.0**-s.k_den + 1) / shift)
    half = 0.5 if step.g != step.d else 0.0
    divisor = step.cm_t + least - half
    safe = np.maximum(divisor, 1.0)
    share = np.maximum(least / safe, most / np.maximum(step.cm_t + most - half, 1.0))
    grow = np.maximum((1 + DIVISION_ERROR) * share - 1, 0.0)
    unit = (1 + DIVISION_ERROR) * 2.0 ** (step.v + step.d - step.n) / safe
    return np.ceil((grow * width + unit + 0.5) / (1 - 2 * grow)), divisor
