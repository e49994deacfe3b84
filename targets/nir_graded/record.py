"""A graded LTC: one layer's integer arithmetic as data, for what chips change in it and for the proof of their widths.

Arithmetic is that of ``ncpc.semantics.fixed``: ``shr(a, k) = floor(a/2^k + 1/2)``, ``asr(a, k) = floor(a/2^k)``,
``lut`` interpolates its table, ``inverse(D, k)`` is close to ``2^(46+k)/D`` by seed table and one Newton step. One
step, from raw input x and state v:

    x <- min(max(x, x_lo), x_hi)        (x: floor(number * 2^x_frac + 1/2), saturated to x_bits)
    per synapse j of either set, source u (x, or the state as it was last sent):
        s_j = lut(asr(sigma_j*u + offset_j, z_shift), table)       (z_shift < 0: shl(sigma_j*u, -z_shift) + offset_j)
        G_i += asr(w_j*s_j, den_shift_i),  N_i += asr(we_j*s_j, num_shift_i)     starting from gleak_i, leak_i
    unfolds times:  u = shr(v, u_shift);  D = cm_t + shr(G, g_shift)
        v <- v + shr((N - shr(G*v, pull_shift)) * inverse(D, inverse_shift), delta_shift)
    y = shr(v[:outputs]*output_w, y_shift) + output_b

``inverse_bits`` > 0 rounds the reciprocal's 16-bit mantissa to that many bits. ``state_bits`` is the width of v, and
``sum_bits`` that of G, N and D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.types import Fixed

I64 = NDArray[np.int64]

MESSAGE_BITS = 16
"""Width of what is sent: inputs, outputs, states as synapses see them."""
MANTISSA_BITS = 16
"""Bits of ``fixed.recip``."""


@dataclass(frozen=True, eq=False)
class IntegerSynapses:
    """Synapses as integers, vectors of one element each; shifts per synapse, equal for all that share ``post``."""

    pre: I64
    post: I64
    sigma: I64
    offset: I64
    w: I64
    we: I64
    den_shift: I64
    num_shift: I64
    z_shift: int

    def __len__(self) -> int:
        return int(self.pre.shape[0])


@dataclass(frozen=True, eq=False)
class GradedLtc:
    """See the module. Vectors over neurons unless said otherwise; ``x_frac`` (inputs,), ``y_frac`` (outputs,)."""

    sensory: IntegerSynapses
    recurrent: IntegerSynapses
    gleak: I64
    leak: I64
    cm_t: I64
    x_lo: I64
    x_hi: I64
    x_frac: I64
    x_bits: int
    output_w: I64
    output_b: I64
    y_frac: I64
    table: I64
    unfolds: int
    v_frac: int
    u_shift: int
    g_shift: int
    pull_shift: int
    inverse_shift: int
    inverse_bits: int
    delta_shift: int
    y_shift: int
    state_bits: int
    sum_bits: int
    names: tuple[str, ...]

    @property
    def neurons(self) -> int:
        return int(self.gleak.shape[0])


def number_formats(r: GradedLtc) -> dict[str, str]:
    """Value -> format of what has one for all neurons; conductances and currents have each neuron's own."""
    channels = {f"{name}{j}": str(Fixed(MESSAGE_BITS, int(f))) for name, fracs in (("x", r.x_frac), ("y", r.y_frac))
                for j, f in enumerate(fracs)}
    return {**channels, "v": str(Fixed(r.state_bits, r.v_frac)), "u": str(Fixed(MESSAGE_BITS, r.v_frac - r.u_shift)),
            "table": str(Fixed(MESSAGE_BITS + 1, MESSAGE_BITS - 1))}
