"""What the file says about itself: names of its states, and the record stored as metadata ``ncpc``."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ncpc.ir.program import Program


def state_names(program: Program) -> tuple[str, ...]:
    """Signature names of the states: ``state`` where there is one, ``state_<name>`` where there are several."""
    if len(program.states) == 1:
        return ("state",)
    return tuple(f"state_{state.inp.name}" for state in program.states)


def description(program: Program, dt: float | None = None) -> bytes:
    """Canonical JSON: channel and neuron names, the reset state, the timespan compiled in (None: an input)."""
    states = [
        {"name": name, "size": int(state.inp.shape[0]), "reset": _numbers(state.init)}
        for name, state in zip(state_names(program), program.states, strict=True)
    ]
    record: dict[str, Any] = {
        "name": program.name, "dt": dt, "inputs": list(program.x.names), "outputs": list(program.y.names),
        "states": states, "labels": {axis: list(names) for axis, names in program.labels.items()},
    }
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def _numbers(data: Any) -> list[float]:
    return [float(v) for v in np.asarray(data).reshape(-1)]
