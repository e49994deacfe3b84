"""The step model started from states at the corners of their box, at both optimization levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.ir.state import split
from ncpc.semantics.run import run
from ncpc.targets.graph.corners import STARTS, corners, exact_outputs, held_inputs
from ncpc.targets.onnx import runtime
from ncpc.worker.process import kept

STEPS = 50
MARGIN = 0.1
"""Share of the range seen by which a box is widened where none is proved."""
F64 = NDArray[np.float64]


def check(model: bytes, real: Program, boxes: Mapping[str, F64], dt: float | None) -> dict[str, Any]:
    """How far the outputs get from the program over the reals, as a share of its output range, in each runtime.

    ``boxes`` maps a state to its (n, 2) bounds; those of a state without finite ones are what a run shows, widened.
    """
    data = held_inputs(real, STEPS)
    known = {**_seen(real, data), **{n: b for n, b in boxes.items() if np.isfinite(b).all()}}
    starts = corners(np.concatenate([np.zeros((0, 2)), *(known[s.inp.name] for s in real.states)]))
    expected = exact_outputs(real, data, starts, dt)
    span = max(float(np.ptp(expected, axis=(0, 1)).max()), 1e-30)
    with kept():
        errors = {name: _error(model, name, data, starts, dt, expected, span)
                  for name in (runtime.ORT_PLAIN, runtime.ORT_FULL)}
    return {"assumption": "state within box", "starts": STARTS, "steps": STARTS * STEPS, "error_of_range": errors}


def _error(model: bytes, name: str, data: Sequences, starts: F64, dt: float | None, expected: F64,
           span: float) -> float | str:
    begin = starts.astype(np.float32)
    try:
        found, _ = runtime.run(model, name, data, runtime.Start(begin[0], begin, dt), expected.shape[-1])
    except MissingTool as missing:
        return f"not run: {missing}"
    return float(f"{np.abs(found.y - expected).max() / span:.3g}")


def _seen(real: Program, data: Sequences) -> dict[str, F64]:
    """The states' ranges over those inputs from reset, widened."""
    found = {}
    for name, part in split(real.states, run(real, data).state).items():
        lo, hi = part.min(axis=(0, 1)), part.max(axis=(0, 1))
        found[name] = np.stack([lo - MARGIN * (hi - lo), hi + MARGIN * (hi - lo)], axis=1)
    return found
