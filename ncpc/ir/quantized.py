"""A policy's layers as integers: what quantization decides and lowering writes down.

Fractions are numbers of fractional bits: a raw integer stands for ``raw * 2**-fraction``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program
from ncpc.ir.types import Fixed

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class SynapseFormat:
    """Fractions of one synapse set. ``bits`` is the width of w and we, ``sigma_bits`` that of sigma."""

    bits: int
    sigma_bits: int
    sigma: int
    w: int
    we: int


@dataclass(frozen=True, eq=False)
class QuantizedSynapses:
    """Synapses as raw integers, one element each; ``pre`` and ``post`` as in ``ncpc.ir.policy.Synapses``.

    The sigmoid's argument is ``asr(sigma*u_pre + offset, k_z)`` (for k_z < 0: ``shl(sigma*u_pre, -k_z) + offset``;
    ``shl(offset, k_offset)`` where that is not 0), at
    the fraction that the table reads (``argument_frac``) and 0 at its left end: ``offset`` holds ``-sigma*mu``, the
    table's half width and the rounding half. With ``s`` of fraction ``S_FRAC`` the conductance is ``asr(w*s, k_den)``
    and the current ``asr(we*s, k_num)``, ``we`` standing for ``w*erev``.
    """

    format: SynapseFormat
    pre: I64
    post: I64
    sigma: I64
    offset: I64
    w: I64
    we: I64
    k_z: int
    k_den: int
    k_num: int
    k_offset: int = 0


@dataclass(frozen=True, eq=False)
class QuantizedLtc:
    """An LTC layer as integers; vectors over neurons unless said otherwise.

    ``g``, ``n``, ``d`` are the fractions of conductances, currents and of the divisor; ``v`` the state's type and ``u``
    its 16-bit view's. ``leak`` is ``gleak*vleak``; ``gleak`` includes epsilon and, where it is nearly 0, the few units
    in the last place that keep rounding from pushing a leakless neuron (see ``ncpc.quant.ltc``).
    ``cm_t`` (fraction ``d``) is ``cm*unfolds/dt`` for a fixed dt; for a run-time dt ``cm`` (fraction ``cm_frac``) is
    ``cm*unfolds``. The output is ``mulshr(v, output_w, k_y) + output_b`` with ``y_fracs`` per output.
    The division is ``mulshr(N - G*v, inverse(D, k_inverse), k_delta)``.
    ``gain`` is what each neuron's conductances and cm are multiplied by, which cancels out of its update.
    ``box`` (neurons, 2) is the range of the state, raw, that the proof must confirm.
    """

    sensory: QuantizedSynapses
    recurrent: QuantizedSynapses
    g: int
    n: int
    d: int
    v: Fixed
    u: Fixed
    leak: I64
    gleak: I64
    cm_t: I64 | None
    cm: I64
    cm_frac: int
    k_inverse: int
    k_delta: int
    box: I64
    output_w: I64
    output_b: I64
    output_w_frac: int
    k_y: int
    y: Fixed
    y_fracs: tuple[int, ...]
    gain: F64


@dataclass(frozen=True, eq=False)
class QuantizedGeneric:
    """Any other layer: its step over the reals, and what its integer form needs to know.

    ``real`` has the layer's input as port ``x``. ``ranges`` are (lo, hi) per value in physical units; ``limits`` name
    the states, and the values carried around repeats, that are limited to their range, True where that range is
    observed rather than proved, so that reaching it is flagged. ``scales`` are fractions of the weight matrices by
    name, ``bits`` their width; ``y`` is the result's type, ``y_fracs`` its fractions. ``table`` is the number of
    intervals of a sigmoid's table. ``together``: rows of weights have a scale each, of which sums are brought to one.
    """

    real: Program
    ranges: Mapping[str, tuple[F64, F64]]
    limits: Mapping[str, bool]
    scales: Mapping[str, int]
    bits: int
    x_fracs: tuple[int, ...]
    y: Fixed
    y_fracs: tuple[int, ...]
    table: int
    together: bool


QuantizedLayer = QuantizedLtc | QuantizedGeneric


@dataclass(frozen=True, eq=False)
class QuantizedPolicy:
    """All layers, and the formats at the boundary. ``dt`` is the run-time dt's type, None when dt is fixed.

    ``x_range`` (inputs, 2) raw: inputs are limited to it; ``input_range`` is the same in physical units, ``input_note``
    says in words where it does not come from a declaration. ``table`` is the sigmoid's, of which all its LTC layers
    were told: ``TABLE_SIZE`` + 1 entries, or ``FINE_SIZE`` + 1.
    """

    scheme: str
    x: Fixed
    x_fracs: tuple[int, ...]
    x_range: I64
    input_range: F64
    input_note: str
    dt: Fixed | None
    dt_range: tuple[int, int] | None
    table: I64
    layers: tuple[QuantizedLayer, ...]


def joined_type(types: Sequence[Fixed]) -> Fixed:
    """The nominal type of channels of several values one after another: the widest, with the finest fraction.

    Each channel keeps its own fraction, as those of a port do; the nominal one only says how what reads them has to
    scale its constants.
    """
    return Fixed(max(t.bits for t in types), max(t.frac for t in types))


Z_HALF = 16
"""The table spans arguments from -Z_HALF to +Z_HALF."""
TABLE_SHIFT = 7
"""Bits of the argument that interpolate between two entries, so that a table of twice the entries reads one more."""
TABLE_SIZE, FINE_SIZE = 512, 1024
"""Intervals of the table, and of the one for networks whose outputs move little (``ncpc.quant.policy``)."""
TABLE_ERROR = 1.4e-4
"""The largest error of a sigmoid read from ``TABLE_SIZE`` intervals, the rounding of its argument included."""
S_FRAC = 15
"""Fraction of a sigmoid's value: 0 .. 2**15 stands for 0 .. 1."""


def argument_frac(size: int) -> int:
    """Fraction of the argument that a table of ``size`` intervals reads: 11 for 512."""
    return TABLE_SHIFT + (size // (2 * Z_HALF)).bit_length() - 1


def sigmoid_table(size: int = TABLE_SIZE) -> I64:
    """``size + 1`` entries floor(sigmoid(-Z_HALF + i*2*Z_HALF/size) * 2**S_FRAC + 1/2), at most 2**15 - 1.

    So every value fits 16 bits signed, which processors with 16-bit multipliers profit from.
    """
    z = np.linspace(-Z_HALF, Z_HALF, size + 1)
    table: I64 = np.minimum(np.floor(2.0**S_FRAC / (1.0 + np.exp(-z)) + 0.5), 2**S_FRAC - 1).astype(np.int64)
    return table
