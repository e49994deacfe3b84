"""What restoring a saved state means: every number is limited to its box, and what was limited is flagged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program, State
from ncpc.ir.state import split
from ncpc.ir.types import Float32
from ncpc.semantics import ports
from ncpc.semantics.ops import FLAGS

STATE_CLAMPED = 1 << FLAGS.index("state_clamped")


def numbers(raw: NDArray[np.int64], program: Program) -> dict[str, NDArray[Any]]:
    """Raw states (B, S) as a Trace holds them (bit patterns for binary32), by the name of the state: (B, *shape)."""
    parts = split(program.states, raw)
    return {s.inp.name: _typed(parts[s.inp.name], s).reshape(-1, *s.inp.shape) for s in program.states}


def physical_states(raw: NDArray[np.int64], program: Program) -> NDArray[np.float64]:
    """Raw states (B, S) as a Trace holds them, in physical units, (B, S)."""
    parts, rows = numbers(raw, program), len(raw)
    found = (ports.physical(parts[s.inp.name], s.inp).reshape(rows, -1) for s in program.states)
    return np.concatenate([np.zeros((rows, 0)), *found], axis=1)


def restored(raw: NDArray[np.int64], program: Program) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """What ``restore`` makes of raw states (B, S), and its status bits (B,).

    What is no finite number becomes 0; then a number beyond an end of its box becomes that end.
    """
    given, kept = numbers(raw, program), {}
    flags = np.zeros(raw.shape[0], np.int64)
    for state in program.states:
        value = given[state.inp.name]
        limited = _limited(np.where(np.isfinite(value), value, value.dtype.type(0)), state)
        changed = (limited != value).reshape(len(flags), -1).any(axis=1)
        flags |= np.where(changed, STATE_CLAMPED, 0)
        kept[state.inp.name] = limited
    return kept, flags


def _typed(raw: NDArray[np.int64], state: State) -> NDArray[Any]:
    if isinstance(state.inp.type, Float32):
        return np.ascontiguousarray(raw.astype(np.int32)).view(np.float32)
    return raw.astype(ports.dtype(state.inp.type))


def _limited(value: NDArray[Any], state: State) -> NDArray[Any]:
    if state.box is None:
        return value
    lo, hi = (np.asarray(state.box)[..., end].astype(value.dtype).reshape(state.inp.shape) for end in (0, 1))
    return np.where(value < lo, lo, np.where(hi < value, hi, value))
