"""What is proved of a network of spikes, apart from how it was made: no state leaves its code, no sum leaves float32.

*States.* A box [L, H] of the neurons holds itself if for each of them ``gleak (vleak - H) - epsilon H + sum_j max_s
w_j s (erev_j - H) <= 0``, s between what sigmoid j returns at the ends of its source's range, and the mirror image at
L: then ``N - H D <= 0`` but for the self term, which keeps v <= H, for every dt. Every term is rounded outward and the
sum is exact (``math.fsum``), so the sign is certain.

*Sums.* A consumer adds up in float32 and in any order. Whatever subset of the units fires, the magnitudes of what a
sum adds stay below 2^24 of its own grid together, so no partial sum is ever rounded. The ring's units take turns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.policy import Ltc, Policy, Synapses
from ncpc.ir.types import Fixed
from ncpc.targets.nir.box import invariant_box, sensed_range
from ncpc.targets.nir.front import cell_of
from ncpc.targets.nir.graph import SCALE_BITS
from ncpc.targets.nir.numbers import INPUT_BITS, SUM_BITS
from ncpc.targets.nir.spikes import Spikes

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

EXACT = 1 << 24
"""Integers below this are exact in float32."""
LOOSE = 1e-14
"""More than the rounding of a sigmoid, absolute, and of a product, relative: 45 units in the last place."""
ASSUMPTIONS = (
    "inputs outside their declared ranges are saturated and flagged",
    "the run starts from silence, which is the reset state",
    "float32 with round to nearest; a simulator may add in any order",
)


def proved(policy: Policy, net: Spikes) -> dict[str, Any]:
    """The report's ``proof``, its box (neurons, 2); raises ProofFailed for a network of which it does not hold."""
    cell, ranges = cell_of(policy), net.interface.x_range
    box = invariant_box(cell, ranges)
    require_invariant(cell.ltc, sensed_range(cell, ranges), box)
    require_exact(net)
    return {"no_overflow": True, "box": box.tolist(), "input_range": ranges.tolist(), "dt_range": None,
            "assumptions": list(ASSUMPTIONS), "formats": []}


def formats(net: Spikes) -> dict[str, str]:
    """Value -> format: inputs and outputs by channel, and what every unit compares."""
    face = net.interface
    inputs = {f"x{j}": str(Fixed(INPUT_BITS, int(f))) for j, f in enumerate(face.x_frac)}
    outputs = {f"y{j}": str(Fixed(24, int(f))) for j, f in enumerate(face.y_frac)}
    return {**inputs, **outputs, "drive": str(Fixed(SUM_BITS + 1, SCALE_BITS))}


def require_invariant(ltc: Ltc, sensed: F64, box: F64) -> None:
    """The inequalities of the module for ``box`` (neurons, 2); ``sensed`` (inputs, 2) is what sensory synapses see."""
    for i in range(ltc.neurons):
        for end, sign in ((1, 1.0), (0, -1.0)):
            at = sign * float(box[i, end])
            terms = [_up(float(ltc.gleak[i] * (sign * ltc.vleak[i] - at)), 1.0), -float(ltc.epsilon) * at]
            for synapses, source in ((ltc.sensory, sensed), (ltc.recurrent, box)):
                terms += _pulls(synapses, np.flatnonzero(synapses.post == i), source, sign, at)
            if math.fsum(terms) > 0.0:
                raise ProofFailed(f"target 'nir': neuron {ltc.names[i]} may leave {box[i, 0]:.6g}..{box[i, 1]:.6g}; "
                                  "no box of its states closes")


def _pulls(s: Synapses, own: I64, source: F64, sign: float, at: float) -> list[float]:
    """At least what each of the synapses ``own`` can pull ``sign * (N - D v)`` up by, at ``v = sign * at``."""
    return [max(_up(float(s.w[j] * (sign * s.erev[j] - at)), _sigmoid(s, int(j), float(end)))
                for end in source[s.pre[j]]) for j in own]


def _sigmoid(s: Synapses, j: int, source: float) -> float:
    z = float(s.sigma[j]) * (source - float(s.mu[j]))
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0.0 else math.exp(z) / (1.0 + math.exp(z))


def _up(pull: float, s: float) -> float:
    """``pull * s`` rounded up: s may be off by LOOSE, and is never below 0."""
    wider = min(1.0, s + LOOSE) if pull > 0.0 else max(0.0, s - LOOSE)
    return pull * wider + LOOSE * abs(pull) * wider


def sums(net: Spikes) -> dict[str, int]:
    """The most that the magnitudes in any sum can come to, in its grid: channels, outputs, and drives in half steps."""
    face = net.interface
    raw = np.abs(np.floor(np.ldexp(face.x_range, face.x_frac[:, None]) + 0.5)).max(axis=1).astype(np.int64)
    channels = _most(net.decode, net)
    drives = np.abs(net.weight) @ raw + np.abs(net.bias) + np.abs(net.encode) @ channels
    return {"a channel": int(channels.max()), "an output": int(_most(net.readout, net).max()),
            "a drive": 2 * int(drives.max()) + 1 + (2 << SCALE_BITS)}


def _most(weights: I64, net: Spikes) -> I64:
    """Rows of ``weights`` (n, U) with all units firing, but one of the ring."""
    size, ring = np.abs(weights), int(net.interface.starts[-1])
    return np.asarray(size[:, :ring].sum(axis=1) + size[:, ring:].max(axis=1))


def require_exact(net: Spikes) -> None:
    """No sum can leave what float32 holds exactly."""
    for name, most in sums(net).items():
        if most >= EXACT:
            raise ProofFailed(f"target 'nir': {name} can add up to {most:,} steps of its grid, float32 holds "
                              f"{EXACT:,}; use target 'nir-graded' or 'c'")
