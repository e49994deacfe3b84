"""The states of a program as one vector: all of them one behind the other, in the program's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import State
from ncpc.ir.types import Fixed

F64 = NDArray[np.float64]


def sizes(states: Sequence[State]) -> list[int]:
    """How many numbers each state has."""
    return [int(np.prod(state.inp.shape, dtype=np.int64)) for state in states]


def split(states: Sequence[State], vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """State -> its part of ``vector`` (..., S): (..., n)."""
    ends = np.cumsum(sizes(states))[:-1]
    parts = np.split(vector, ends, axis=-1) if states else []
    return {state.inp.name: part for state, part in zip(states, parts, strict=True)}


def box(state: State) -> F64:
    """(n, 2) bounds in physical units, infinite where none are known."""
    unit = state.inp.type.lsb if isinstance(state.inp.type, Fixed) else 1.0
    unknown = np.tile([-np.inf, np.inf], (sizes([state])[0], 1))
    return unknown if state.box is None else np.asarray(state.box, np.float64).reshape(-1, 2) * unit
