"""How many levels each number deserves, by trial: the cell in float64 with one number coded, all others exact.

``levels`` takes errors of quantization for noise, fresh in every tick. They are not: a held input errs alike for a
whole step, a slow neuron lingers in its cell, and the shifts of the levels undo part of both. So the errors are
measured. With K levels alone, number k leaves a mean square error ``c_k / K^2`` in the outputs, and the sum over all
numbers is least for ``K ~ c_k^(1/3)``; the trials show that the errors of single numbers add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.nir.levels import PHASES, Code, Number, placed_codes
from ncpc.targets.nir.numbers import Coded, coded
from ncpc.targets.nir.study import Study, evidence, importance
from ncpc.targets.nir.trajectory import SynapseSums, outputs, trajectory, wired

F64 = NDArray[np.float64]

LEVELS = 120
"""Mean levels per number in the trials: enough that errors fall with the square of their number."""
ROWS, STEPS, RUNS = 8, 60, 200
"""Sequences of each kind of evidence, at most and for many numbers fewer: RUNS in all; and steps of each."""
LEAST = 1e-3
"""Of the largest share: that of a number which did not matter in the trials."""


@lru_cache(maxsize=4)  # asked for with every number of units that is tried
def shares(known: Study) -> F64:
    """(numbers,): in which proportion the numbers are to get levels."""
    what = coded(known)
    codes = placed_codes(what.numbers, LEVELS * len(what.numbers))
    counts = np.array([len(code.index) for code in codes])
    deserved = np.cbrt(counts**2 * lone_errors(known, what, codes))
    return np.maximum(deserved / max(float(deserved.max()), 1e-300), LEAST)


def lone_errors(known: Study, what: Coded, codes: Sequence[Code]) -> F64:
    """(numbers,): mean square error of the outputs, as a share of their variance, when that number alone is coded."""
    rows = max(2, min(ROWS, RUNS // len(codes)))
    parts = [_errors(known, what, codes, x[_spread(len(x), rows), :STEPS]) for x in evidence(known.policy)]
    return np.asarray(np.average(parts, axis=0, weights=importance(known.policy)))


def _spread(there: int, wanted: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, there - 1, wanted).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Staircase:
    """A code as a function, phase by phase: thresholds (PHASES, K), centres (K+1,)."""

    thresholds: F64
    centres: F64

    def __call__(self, values: F64, phase: int) -> F64:
        """``values`` rounded to the centre of their cell."""
        return np.asarray(self.centres[np.searchsorted(self.thresholds[phase % PHASES], values, side="right")])


def _staircase(number: Number, code: Code, rank: int) -> Staircase:
    raw = code.index - code.shifts(rank).T
    return Staircase(number.origin + number.step * raw, code.centres)


def _errors(known: Study, what: Coded, codes: Sequence[Code], x: F64) -> F64:
    """Variant k of the cell, first axis, has number k coded; all start from rest on ``x`` (B, T, inputs)."""
    cell, ltc = known.cell, known.cell.ltc
    stairs = [_staircase(n, c, _rank(k, ltc.inputs)) for k, (n, c) in enumerate(zip(what.numbers, codes, strict=True))]
    sensory, recurrent = wired(ltc.sensory, ltc.inputs, ltc.neurons), wired(ltc.recurrent, ltc.neurons, ltc.neurons)
    run = trajectory(cell, x)
    v, expected = np.zeros((len(codes), x.shape[0], ltc.neurons)), outputs(cell, run)
    total, tick = np.zeros(len(codes)), 0
    for step, z in enumerate(run.z):
        for _ in range(ltc.unfolds):
            u = _with_inputs_coded(z, stairs, ltc.inputs, tick)
            v = _unfold(known, sensory, recurrent, cell.sensed(u), v)
            for k in range(ltc.inputs, len(codes)):
                own = v[k, :, k - ltc.inputs]
                own[:] = stairs[k](own, tick)
            tick += 1
        wrong = cell.readout(v[..., : ltc.outputs]) - expected[:, step]
        total = total + (wrong**2).mean(axis=(1, 2))
    return np.asarray(total / x.shape[1] / max(float(expected.var(axis=(0, 1)).mean()), 1e-12))


def _rank(k: int, inputs: int) -> int:
    """How far a number's shifts are rotated: inputs and neurons are counted apart."""
    return k if k < inputs else k - inputs


def _with_inputs_coded(z: F64, stairs: Sequence[Staircase], inputs: int, tick: int) -> F64:
    """(numbers, B, inputs): input j coded in variant j."""
    u = np.broadcast_to(z, (len(stairs), *z.shape)).copy()
    for j in range(inputs):
        u[j, :, j] = stairs[j](z[:, j], tick)
    return u


def _unfold(known: Study, sensory: SynapseSums, recurrent: SynapseSums, u: F64, v: F64) -> F64:
    ltc, cm_t = known.cell.ltc, known.cell.cm_t
    num_s, den_s = sensory.currents(u)
    num, den = recurrent.currents(v)
    total = cm_t + ltc.gleak + ltc.epsilon + den + den_s
    return np.asarray((cm_t * v + ltc.gleak * ltc.vleak + num + num_s) / total)
