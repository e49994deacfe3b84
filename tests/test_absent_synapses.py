"""Weights that are rounded together make up for each other, and invent none."""

from __future__ import annotations

import numpy as np

from ncpc.quant.compensate import compensated, ridged
from ncpc.quant.matrix_rounding import _together

ALIKE = np.ones((50, 1)) @ np.ones((1, 3)) + 0.02 * np.random.default_rng(1).normal(size=(50, 3))
"""Signals that are nearly equal: what one weight misses, any other could make up."""
WEIGHTS = np.array([[7.9, 2.0, 0.0], [7.9, 0.0, 2.4]])
"""The first cannot be held: 7 is the largest integer. Of the others one is no synapse."""


def test_a_weight_that_is_not_there_makes_up_for_nothing() -> None:
    free = compensated(WEIGHTS, (np.full(3, -7.0), np.full(3, 7.0)), ridged(ALIKE.T @ ALIKE / len(ALIKE)))
    assert (free[WEIGHTS == 0] != 0).any()
    assert _together(WEIGHTS, 4, [ALIKE]).tolist() == [[7, 3, 0], [7, 0, 3]]
