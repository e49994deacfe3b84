"""Synapses that do nothing: as many as the calibration data does not miss, those first that it misses least."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ncpc.ir.policy import Ltc, Policy, Synapses
from ncpc.ir.schemes import NumberScheme
from ncpc.quant.rounding import fraction_for, to_raw

SHARES = (0.1, 0.25, 0.5)
"""Parts of the tolerance that leaving out synapses may cost on the calibration data."""
Dropped = list[list[int]]
"""Synapses of each layer by place, recurrent after sensory ones."""
Apart = Callable[[Dropped], float]


def rounded_to_zero(policy: Policy, scheme: NumberScheme) -> Dropped:
    """Those whose w rounds to 0 where all of a set have one scale, as integers have it.

    None in binary32, and none where each neuron's weights are brought to one size before they are rounded.
    """
    if scheme.arithmetic != "integer" or scheme.together:
        return [[] for _ in policy.layers]
    bits = scheme.weight_bits
    return [[*_zeros(layer.sensory, bits, 0), *_zeros(layer.recurrent, bits, len(layer.sensory))]
            if isinstance(layer, Ltc) else [] for layer in policy.layers]


def _zeros(synapses: Synapses, bits: int, first: int) -> list[int]:
    raw = to_raw(synapses.w, fraction_for(float(synapses.w.max(initial=0.0)), bits))
    return [int(i) + first for i in np.flatnonzero(raw == 0)]


def synapses_of(policy: Policy) -> list[tuple[int, int]]:
    """All that can be left out: layer and place."""
    return [(k, i) for k, layer in enumerate(policy.layers) if isinstance(layer, Ltc)
            for i in range(len(layer.sensory) + len(layer.recurrent))]


def unmissed(policy: Policy, alone: Apart, apart: Apart, tolerance: float) -> dict[str, Dropped]:
    """By share of the tolerance: the most synapses whose leaving out costs no more than that.

    ``alone`` gives the error of leaving out a single one, which orders them, ``apart`` that of several, fractions of
    the output range. A share that buys no more than a smaller one is left out.
    """
    def places(some: list[tuple[int, int]]) -> Dropped:
        return [sorted(i for k, i in some if k == layer) for layer in range(len(policy.layers))]

    order = sorted(synapses_of(policy), key=lambda one: alone(places([one])))
    cost = cache(lambda count: apart(places(order[:count])))
    found: dict[str, Dropped] = {}
    last = 0
    for share in SHARES:
        low, high = last, len(order)
        while low < high:  # by halving, as if leaving out more never cost less
            middle = (low + high + 1) // 2
            low, high = (middle, high) if cost(middle) <= share * tolerance else (low, middle - 1)
        if low > last:
            found[f"{share:g}"], last = places(order[:low]), low
    return found
