"""Weights of few bits in any layer's step: a scale per row, roundings that make up for each other within a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.ir.program import Program
from ncpc.passes.weight_rows import RowWeights, row_fractions
from ncpc.quant.compensate import compensated, ridged
from ncpc.quant.observe import Signals
from ncpc.quant.rounding import to_raw

LARGEST = 1536
"""Inputs of a row beyond which each weight is rounded by itself: what more would cost grows with their cube."""


def rounded_rows(weights: Sequence[RowWeights], bits: int, signals: Sequence[Signals]) -> dict[str, I64]:
    """Each constant as integers, at ``row_fractions``, such that its sums err least on what its source was."""
    return {one.name: _rounded(one, bits, signals) for one in weights}


def _rounded(one: RowWeights, bits: int, signals: Sequence[Signals]) -> I64:
    units = one.data * np.exp2(row_fractions(one.data, one.rows, bits).astype(np.float64))
    if one.posts is None:
        return _together(units, bits, [s.values[one.source] for s in signals])
    found = np.zeros(len(units), np.int64)
    for row in np.unique(one.posts):
        at = np.flatnonzero(one.posts == row)
        found[at] = _together(units[None, at], bits, [s.values[one.source][:, at] for s in signals])[0]
    return found


def _together(units: F64, bits: int, seen: Sequence[F64]) -> I64:
    """Rows of weights (rows, n) that meet the same signals, (m, n) each. A synapse that is not there, 0, stays away."""
    width, top = units.shape[1], float((1 << (bits - 1)) - 1)
    if width > LARGEST:
        return np.clip(to_raw(units, 0), -int(top), int(top))
    cost = sum((x.T @ x / len(x) for x in seen), start=np.zeros((width, width)))
    most = np.where(units == 0, 0.0, top)
    return compensated(units, (-most, most), ridged(cost))


def with_weights(real: Program, weights: Sequence[RowWeights], bits: int, chosen: Mapping[str, I64]) -> Program:
    """The step with the numbers that the integers stand for in place of its weights."""
    constants = dict(real.constants)
    for one in weights:
        unit = np.exp2(-row_fractions(one.data, one.rows, bits).astype(np.float64))
        constants[one.name] = (constants[one.name][0], chosen[one.name].reshape(one.data.shape) * unit)
    return dataclasses.replace(real, constants=constants)
