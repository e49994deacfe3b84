"""How many units: as many as were asked for, or the fewest that hold the tolerance.

Networks are tried on generated sequences that their levels were not placed by, first on few, for a share of the
tolerance, as a worst case grows with the number of steps it is looked for in. The fewest that pass are confirmed on
four times as many, others again, and get more units until they pass there too.
"""

from __future__ import annotations

from collections.abc import Sequence

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
SAFETY, CONFIRMED = 0.7, 0.85
"""Shares of the tolerance to be reached in the trials and in the confirmation, as other inputs will be met."""
HALVINGS = 3
GROWTH = 1.15
START = 8
"""Steps of a sequence that is tried from its own reset."""
TRIAL_SEED, CONFIRMING_SEEDS = 1, (2, 3, 4, 5)
"""Levels are placed on other sequences than they are tried on."""


def sized(known: Study, units: str, tolerance: float, uniform: bool = False) -> Spikes:
    """``units`` as text: a number, or ``auto``. Raises BadInput for a budget too small, ProofFailed when even
    ``MOST_UNITS`` do not hold ``tolerance`` (a fraction of the output range).
    """
    if units != "auto":
        return lower(known, _budget(known, units), uniform)
    return _confirmed(known, _cheapest(known, tolerance, uniform), tolerance, uniform)


def _budget(known: Study, units: str) -> int:
    least = FEWEST * (known.cell.ltc.inputs + known.cell.ltc.neurons) + PHASES
    if not least <= require_units(units) <= MOST_UNITS:
        raise BadInput(f"--units {units}: give 'auto' or a number from {least} (this policy's least) to {MOST_UNITS}")
    return int(units)


def require_units(text: str) -> int:
    """``--units`` as a number, 0 for ``auto``; raises BadInput for what is neither."""
    if text != "auto" and not (text.isdecimal() and 0 < int(text) <= MOST_UNITS):
        raise BadInput(f"--units {text}: give 'auto' or a number up to {MOST_UNITS}")
    return 0 if text == "auto" else int(text)


def _cheapest(known: Study, tolerance: float, uniform: bool) -> Spikes:
    """Grow until the error holds, guessing that it falls with the number of units; then halve the last gap."""
    goal, least, units = SAFETY * tolerance, 0, FIRST
    tried = trials(known, (TRIAL_SEED,))
    while (found := error(known, net := lower(known, units, uniform), *tried)) > goal:
        _require_more(units, found, goal)
        least, units = units, min(MOST_UNITS, int(units * np.clip(found / goal, 1.2, 3.0)))
    for _ in range(HALVINGS):
        middle = (least + units) // 2
        trial = lower(known, middle, uniform) if middle > FIRST // 2 else net
        if trial is not net and error(known, trial, *tried) <= goal:
            net, units = trial, middle
        else:
            least = middle
    return net


def _confirmed(known: Study, net: Spikes, tolerance: float, uniform: bool) -> Spikes:
    """``net``, or one that grew from it until more sequences hold too."""
    goal, units = CONFIRMED * tolerance, net.units
    tried = trials(known, CONFIRMING_SEEDS)
    while (found := error(known, net, *tried)) > goal:
        _require_more(units, found, goal)
        units = min(MOST_UNITS, int(units * GROWTH))
        net = lower(known, units, uniform)
    return net


def _require_more(units: int, found: float, goal: float) -> None:
    """Raises ProofFailed where there are no more units to be had."""
    if units == MOST_UNITS:
        raise ProofFailed(f"target 'nir': {units} units leave an error of {100 * found:.2g} % of the output range, "
                          f"more than {100 * goal:.2g} %; give a larger --tolerance, or --units")


def trials(known: Study, seeds: Sequence[int]) -> tuple[F64, F64]:
    """Generated sequences, and starts: the first steps after a reset meet inputs like any others."""
    parts = [generated(known.policy, seed) for seed in seeds]
    return np.concatenate(parts), np.concatenate([x.reshape(-1, START, x.shape[2]) for x in parts])


def error(known: Study, net: Spikes, *sequences: F64) -> float:
    """Largest error of the outputs on all of ``sequences`` (B, T, inputs), as a fraction of their range."""
    face, wrong, ends = net.interface, 0.0, []
    for x in sequences:
        expected = outputs(known.cell, trajectory(known.cell, x))
        found = face.physical_y(predict(net, face.quantized(x)[0]).y)
        wrong = max(wrong, float(np.abs(found - expected).max()))
        ends += [expected.min(axis=(0, 1)), expected.max(axis=(0, 1))]
    return wrong / max(float(np.ptp(ends, axis=0).max()), 1e-12)
