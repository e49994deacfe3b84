"""How many units: as many as were asked for, or the fewest that hold the tolerance on the evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, ProofFailed
from ncpc.targets.nir.levels import FEWEST, PHASES
from ncpc.targets.nir.lower import lower
from ncpc.targets.nir.spikes import Spikes, predict
from ncpc.targets.nir.study import Study, generated
from ncpc.targets.nir.trajectory import outputs, trajectory

F64 = NDArray[np.float64]

MOST_UNITS = 24_000
FIRST = 400
SAFETY = 0.7
"""Share of the tolerance to be reached here, as other inputs will be met."""
HALVINGS = 3
TRIAL_SEED = 1
"""Levels are placed on other sequences than they are tried on."""


def sized(known: Study, units: str, tolerance: float, uniform: bool = False) -> Spikes:
    """``units`` as text: a number, or ``auto``. Raises BadInput for a budget too small, ProofFailed when even
    ``MOST_UNITS`` do not hold ``tolerance`` (a fraction of the output range).
    """
    return _cheapest(known, tolerance, uniform) if units == "auto" else lower(known, _budget(known, units), uniform)


def _budget(known: Study, units: str) -> int:
    least = FEWEST * (known.cell.ltc.inputs + known.cell.ltc.neurons) + PHASES
    if not units.isdecimal() or not least <= int(units) <= MOST_UNITS:
        raise BadInput(f"--units {units}: give 'auto' or a number from {least} (this policy's least) to {MOST_UNITS}")
    return int(units)


def _cheapest(known: Study, tolerance: float, uniform: bool) -> Spikes:
    """Grow until the error holds, guessing that it falls with the number of units; then halve the last gap."""
    goal, least, units = SAFETY * tolerance, 0, FIRST
    x = generated(known.policy, TRIAL_SEED)
    while (found := error(known, net := lower(known, units, uniform), x)) > goal:
        if units == MOST_UNITS:
            raise ProofFailed(f"target 'nir': {units} units leave an error of {100 * found:.2g} % of the output range, "
                              f"more than {100 * goal:.2g} %; give a larger --tolerance, or --units")
        least, units = units, min(MOST_UNITS, int(units * np.clip(found / goal, 1.2, 3.0)))
    for _ in range(HALVINGS):
        middle = (least + units) // 2
        trial = lower(known, middle, uniform) if middle > FIRST // 2 else net
        if trial is not net and error(known, trial, x) <= goal:
            net, units = trial, middle
        else:
            least = middle
    return net


def error(known: Study, net: Spikes, x: F64) -> float:
    """Largest error of the outputs on ``x`` (B, T, inputs), as a fraction of their range."""
    face = net.interface
    expected = outputs(known.cell, trajectory(known.cell, x))
    found = face.physical_y(predict(net, face.quantized(x)[0]).y)
    return float(np.abs(found - expected).max() / max(float(np.ptp(expected, axis=(0, 1)).max()), 1e-12))
