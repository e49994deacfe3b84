"""The step model started from states at the corners of their box, at both optimization levels.

The state is an input of a graph, so nothing keeps it in its box: what is known of the file holds for states within it,
and this is where it is seen to hold at the box's ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import Executor, run
from ncpc.targets.onnx import runtime

STARTS, STEPS = 8, 50
MARGIN = 0.1
"""Share of the range seen by which a box is widened where none is proved."""
F64 = NDArray[np.float64]


def check(model: bytes, real: Program, boxes: Mapping[str, F64], dt: float | None) -> dict[str, Any]:
    """How far the outputs get from the program over the reals, as a share of its output range, in each runtime.

    ``boxes`` maps a state to its (n, 2) bounds; those of a state without finite ones are what a run shows, widened.
    """
    data, known = Sequences(_inputs(real)), {**_seen(real), **{n: b for n, b in boxes.items() if np.isfinite(b).all()}}
    starts = _corners(np.concatenate([np.zeros((0, 2)), *(known[s.inp.name] for s in real.states)]))
    expected = _exact(real, data, starts, dt)
    span = max(float(np.ptp(expected, axis=(0, 1)).max()), 1e-30)
    return {"assumption": "state within box", "starts": STARTS, "steps": STARTS * STEPS,
            "error_of_range": {name: _error(model, name, data, starts, dt, expected, span)
                               for name in (runtime.ORT_PLAIN, runtime.ORT_FULL)}}


def _error(model: bytes, name: str, data: Sequences, starts: F64, dt: float | None, expected: F64,
           span: float) -> float | str:
    try:
        call = runtime.load(model, name)
    except MissingTool as missing:
        return f"not run: {missing}"
    begin = starts.astype(np.float32)
    found = runtime.run_steps(call, data, begin[0], begin, dt).y
    return float(f"{np.abs(found - expected).max() / span:.3g}")


def _corners(box: F64) -> F64:
    """All lower ends, all upper ends, then corners at random: (STARTS, S)."""
    upper = np.random.default_rng(0).integers(0, 2, (STARTS, box.shape[0]))
    upper[0], upper[1] = 0, 1
    return np.where(upper, box[:, 1], box[:, 0])


def _inputs(real: Program) -> F64:
    """Inputs at the ends of their range, held for a few steps: (STARTS, STEPS, inputs)."""
    lo, hi = real.x.range.T
    ends = np.random.default_rng(1).integers(0, 2, (STARTS, -(-STEPS // 5), lo.shape[0]))
    held: F64 = np.repeat(lo + (hi - lo) * ends, 5, axis=1)[:, :STEPS]
    return held


def _seen(real: Program) -> dict[str, F64]:
    """The states' ranges over those inputs from reset, widened."""
    reached, start, found = run(real, Sequences(_inputs(real))).state, 0, {}
    for state in real.states:
        size = state.inp.shape[0]
        part = reached[..., start : start + size].reshape(-1, size)
        lo, hi, start = part.min(axis=0), part.max(axis=0), start + size
        found[state.inp.name] = np.stack([lo - MARGIN * (hi - lo), hi + MARGIN * (hi - lo)], axis=1)
    return found


def _exact(real: Program, data: Sequences, starts: F64, dt: float | None) -> F64:
    executor, batch, at, parts = Executor(real), starts.shape[0], 0, {}
    executor.reset(batch)
    for state in real.states:
        parts[state.inp.name] = starts[:, at : at + state.inp.shape[0]]
        at += state.inp.shape[0]
    executor.load(parts)
    spans = None if dt is None else np.full(batch, dt)
    return np.stack([executor.step(data.x[:, t], spans)[0] for t in range(data.x.shape[1])], axis=1)
