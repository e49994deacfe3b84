"""How much a network itself amplifies: how far a small change of its states has moved its outputs some steps later.

Rounding is such a change, in every step. A network that amplifies a thousandfold makes 1.5 % of half a unit in 16 bits,
whatever carries it out; so does one that has two rest points, while it is between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import F64
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.semantics import ports
from ncpc.semantics.run import Executor, run, stepping

SMALL = 1e-6
"""The change, as a share of what each state spans: far above float64's rounding, far below what saturates."""
PLACES, DIRECTIONS = 24, 4
"""How many steps it is put in at, and in how many directions at each."""
TRIED = 1 + PLACES * DIRECTIONS
"""How many times a sequence is run."""

MUCH = 10.0
"""A gain worth saying: half a unit of 16 bits in every state is then 0.015 % of the output range."""


@dataclass(frozen=True)
class Amplification:
    """Changing each state by a share s of what it spans, ``ahead`` steps earlier, changes an output by ``gain`` * s of
    the output range: the most of all places and directions tried, a lower bound of what the network can do.
    """

    gain: float
    ahead: int


def amplification(real: Program, data: Sequences, output_range: float) -> Amplification | None:
    """Of ``real`` at the last step of one sequence, ``data`` (1, T, inputs); None where nothing is carried on."""
    steps = data.x.shape[1]
    if steps < 2 or not real.states or output_range <= 0:
        return None
    span = np.ptp(run(real, data).state[0], axis=0)
    places = np.unique(np.linspace(0, steps - 2, PLACES).astype(np.int64))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (DIRECTIONS, len(span)))
    moved = np.abs(_last_outputs(real, data, places, SMALL * signs * span)).max(axis=2) / output_range / SMALL
    place = int(moved.max(axis=1).argmax())
    return Amplification(float(moved.max()), int(steps - 1 - places[place]))


def _last_outputs(real: Program, data: Sequences, places: NDArray[np.int64], by: F64) -> F64:
    """How the last outputs differ where the states after step ``places[i]`` were changed by ``by[j]``: (i, j, o)."""
    executor, batch = Executor(real), 1 + len(places) * len(by)
    alike = data.part(np.zeros(batch, np.int64))
    sizes = np.cumsum([len(state.init) for state in real.states])[:-1]
    executor.reset(batch)
    for t, (_, after, _) in enumerate(stepping(executor, real, alike)):
        if t in places:
            change = np.zeros((batch, by.shape[1]))
            first = 1 + int(np.searchsorted(places, t)) * len(by)
            change[first : first + len(by)] = by
            parts = np.split(change, sizes, axis=1)
            executor.load({state.inp.name: value + part
                           for state, value, part in zip(real.states, after, parts, strict=True)})
    found = ports.decode(real.y, executor.value(real.y.value.name))
    differences: F64 = (found[1:] - found[0]).reshape(len(places), len(by), -1)
    return differences
