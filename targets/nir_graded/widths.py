"""No overflow under a chip's widths, for all time: interval arithmetic on a record's integers.

A box [L, H] of states holds itself. With ``g = G/2^pull_shift`` a neuron moves from v by ``(N - g v) / D``, in steps of
the state's grid. Let ``N - g H + 1/2 <= 0`` for all that its synapses can return. Then ``drive <= g (H - v)`` for every
v <= H, and as ``g (1 + e) <= D`` (e: the excess of the reciprocal) the move is at most ``H - v + 1/2``, hence, being
whole, at most ``H - v``. The same holds mirrored for L. Each sum is separable: a synapse returns the worse end of what
its table gives while its source stays in its own range, and a floor loses less than one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.quantized import TABLE_SHIFT
from ncpc.proofs import division
from ncpc.semantics import fixed
from ncpc.targets.nir_graded.record import MANTISSA_BITS, MESSAGE_BITS, GradedLtc, IntegerSynapses

I64 = NDArray[np.int64]

ROUNDS = 6

Number = Fraction | float
"""Exact, or close to it for a search whose result is checked."""


@dataclass(frozen=True)
class Ends:
    """One synapse: weights in units of G and of N, and the least and largest value of its sigmoid."""

    w: Number
    we: Number
    s: tuple[int, int]


@dataclass(frozen=True)
class Neuron:
    """One post-neuron and its synapses; ``scale`` is 2^-pull_shift."""

    gleak: int
    leak: int
    cm_t: int
    synapses: tuple[Ends, ...]
    scale: Number

    def push(self, v: int, sign: int) -> Number:
        """The most that ``sign * (N - g v)`` can be, floors of G included."""
        pulled = sign * (self.leak - self.gleak * v * self.scale)
        each = (max(sign * s * (e.we - e.w * v * self.scale) for s in e.s) for e in self.synapses)
        lost = len(self.synapses) * (abs(v) * self.scale + (1 if sign < 0 else 0))
        return pulled + sum(each) + lost

    def rough(self) -> Neuron:
        """The same in floating point."""
        synapses = tuple(Ends(float(e.w), float(e.we), e.s) for e in self.synapses)
        return replace(self, synapses=synapses, scale=float(self.scale))


@dataclass(frozen=True, eq=False)
class ProvedWidths:
    """``box`` (neurons, 2): raw states that no input can leave; ``reached``: least and most of each value, over all
    neurons.
    """

    box: I64
    reached: dict[str, tuple[int, int]]


def proved_widths(r: GradedLtc) -> ProvedWidths:
    """What each value can reach; raises ProofFailed for one that does not fit its width."""
    box = _hull(r)
    for _ in range(ROUNDS):
        box = _narrowed(_neurons(r, box), box)
    neurons = _neurons(r, box)
    _require_hold(r, neurons, box)
    reached = {"v": (int(box[:, 0].min()), int(box[:, 1].max())), **_sums(neurons, box)}
    reached["message"] = (int(fixed.shr(box[:, 0], r.u_shift).min()), int(fixed.shr(box[:, 1], r.u_shift).max()))
    outputs = fixed.mulshr(box[: len(r.output_w)], r.output_w[:, None], r.y_shift) + r.output_b[:, None]
    reached["y"] = (int(outputs.min()), int(outputs.max()))
    limits = {"v": r.state_bits, "message": MESSAGE_BITS, "y": MESSAGE_BITS}
    for name, (lo, hi) in reached.items():
        _require_fit(name, lo, hi, limits.get(name, r.sum_bits))
    return ProvedWidths(box, reached)


def _require_fit(name: str, lo: int, hi: int, bits: int) -> None:
    most = 1 << (bits - 1)
    if lo < -most or hi >= most:
        raise ProofFailed(f"graded LTC node: {name} can reach {lo}..{hi}, more than its {bits} bits hold "
                          f"({-most}..{most - 1}); this policy needs wider arithmetic")


def _hull(r: GradedLtc) -> I64:
    """All that the state's width holds: shrunk from there, as whatever holds itself stays in it."""
    most = 1 << (r.state_bits - 1)
    return np.tile(np.array([[-most, most - 1]], np.int64), (r.neurons, 1))


def _neurons(r: GradedLtc, box: I64) -> list[Neuron]:
    seen = fixed.shr(box, r.u_shift)
    synapses: list[list[Ends]] = [[] for _ in range(r.neurons)]
    for wires, source in ((r.sensory, np.stack([r.x_lo, r.x_hi], 1)), (r.recurrent, seen)):
        s = np.sort(np.stack([_sigmoids(wires, source[:, end], r.table) for end in (0, 1)]), axis=0)
        for j, post in enumerate(wires.post):
            synapses[post].append(_ends(wires, j, (int(s[0, j]), int(s[1, j]))))
    scale = Fraction(1, 1 << r.pull_shift)
    return [Neuron(int(r.gleak[i]), int(r.leak[i]), int(r.cm_t[i]), tuple(synapses[i]), scale)
            for i in range(r.neurons)]


def _sigmoids(wires: IntegerSynapses, source: I64, table: I64) -> I64:
    """What the synapses' table returns for ``source`` (sources,): (synapses,)."""
    slope = wires.sigma * source[wires.pre]
    widened = slope << -wires.z_shift if wires.z_shift < 0 else slope
    return fixed.lut((widened + wires.offset) >> max(wires.z_shift, 0), table, TABLE_SHIFT)


def _ends(wires: IntegerSynapses, j: int, s: tuple[int, int]) -> Ends:
    return Ends(Fraction(int(wires.w[j]), 1 << int(wires.den_shift[j])),
                Fraction(int(wires.we[j]), 1 << int(wires.num_shift[j])), s)


def _narrowed(neurons: list[Neuron], box: I64) -> I64:
    """For each neuron the least H >= 0 and the largest L <= 0 that hold, within ``box``; close to them."""
    ends = [(-_least(n.rough(), -int(lo), -1), _least(n.rough(), int(hi), 1))
            for n, (lo, hi) in zip(neurons, box, strict=True)]
    return np.array(ends, np.int64)


def _least(neuron: Neuron, most: int, sign: int) -> int:
    """By bisection: what is pushed inward at v is pushed so beyond it."""
    low, high = -1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if neuron.push(sign * middle, sign) <= -1 else (middle, high)
    return high


def _require_hold(r: GradedLtc, neurons: list[Neuron], box: I64) -> None:
    """The inequalities of the module, for the final box."""
    rounded = Fraction(1, 1 << r.inverse_bits) if r.inverse_bits else Fraction(0)
    excess = (1 + division.excess()) * (1 + rounded) - 1
    if r.g_shift or r.delta_shift + r.pull_shift != 46 + r.inverse_shift or r.inverse_bits > MANTISSA_BITS:
        raise ProofFailed("graded LTC node: its shifts are not those of a quotient, so nothing is proved of its widths")
    for i, (neuron, (lo, hi)) in enumerate(zip(neurons, box, strict=True)):
        name, half = r.names[i], Fraction(1, 2)
        if neuron.push(int(hi), 1) + half > 0 or neuron.push(int(lo), -1) + half > 0:
            raise ProofFailed(f"graded LTC node: {name} may leave {r.state_bits} bits; "
                              "this policy needs wider arithmetic")
        most = neuron.gleak + sum(e.w * e.s[1] for e in neuron.synapses)
        if neuron.gleak < 0 or most * excess > neuron.cm_t:
            raise ProofFailed(f"graded LTC node: {name}: cm_t = {neuron.cm_t} is less than the reciprocal's error of "
                              f"{float(most * excess):.0f}; this policy needs wider arithmetic")


def _sums(neurons: list[Neuron], box: I64) -> dict[str, tuple[int, int]]:
    """G, N, D with all their partial sums, and N - G*v."""
    found: dict[str, list[Number]] = {"G": [], "N": [], "D": [], "N - G*v": []}
    for neuron, ends in zip(neurons, box, strict=True):
        most = sum(e.w * e.s[1] for e in neuron.synapses)
        up = sum(max(e.we * s for s in (0, *e.s)) for e in neuron.synapses)
        down = sum(min(e.we * s for s in (0, *e.s)) - 1 for e in neuron.synapses)
        g = (Fraction(neuron.gleak), neuron.gleak + most)
        found["G"] += g
        found["N"] += (neuron.leak + down, neuron.leak + up)
        found["D"] += (neuron.cm_t + g[0], neuron.cm_t + g[1])
        pushes = [(neuron.push(int(v), sign), sign) for v in ends for sign in (1, -1)]
        found["N - G*v"] += [sign * (push + Fraction(1, 2)) for push, sign in pushes]
    return {name: (int(min(values) // 1), int(-(-max(values) // 1))) for name, values in found.items()}
