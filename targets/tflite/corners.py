"""The file started from states at the corners of their box, not only from the reset state.

Graph targets take the state as an input, so nothing keeps it in the box: what is known of the file holds for states
within it, and this is where it is seen to hold at the box's ends.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import Executor
from ncpc.targets.tflite import runtimes, sequences
from ncpc.targets.tflite.graph import Graph
from ncpc.targets.tflite.model import IntegerModel
from ncpc.targets.tflite.reading import File
from ncpc.targets.tflite.rewriter import Range

STARTS = 8
F64 = NDArray[np.float64]


def check(content: bytes, file: File, real: Program, graph: Graph | None, boxes: dict[str, Range],
          steps: int) -> dict[str, Any]:
    """Run ``steps`` steps from each of STARTS corners: how far the outputs get from the program over the reals, as a
    share of its range, and for an integer ``graph`` how many steps differ from the model of its kernels.
    """
    starts = _corners([boxes[state.inp.name] for state in real.states])
    data = Sequences(_inputs(real, steps))
    raw = sequences.encode(file, data, 1.0 if real.dt is None else float(real.dt.range[0].mean()), starts)
    found = sequences.decode(file, runtimes.run(content, file, runtimes.REFERENCE, raw))
    expected = _exact(real, data, starts)
    record: dict[str, Any] = {
        "assumption": "state within box", "starts": STARTS, "steps": STARTS * steps, "runtime": runtimes.REFERENCE,
        "max_abs": float(np.abs(found.y - expected).max()),
        "of_range": float(np.abs(found.y - expected).max() / max(np.ptp(expected, axis=(0, 1)).max(), 1e-30)),
    }
    if graph is not None:
        model = sequences.decode(file, IntegerModel(graph).run(raw))
        differ = (found.raw_y != model.raw_y).any(axis=2) | (found.raw_state != model.raw_state).any(axis=2)
        record["steps_unequal_to_model"] = int(differ.sum())
    return record


def _corners(boxes: list[Range]) -> F64:
    """All lower ends, all upper ends, then corners at random: (STARTS, S)."""
    lo, hi = (np.concatenate([np.zeros(0), *(box[side] for box in boxes)]) for side in (0, 1))
    upper = np.random.default_rng(0).integers(0, 2, (STARTS, lo.shape[0]))
    upper[0], upper[1] = 0, 1
    return np.where(upper, hi, lo)


def _inputs(real: Program, steps: int) -> F64:
    """Inputs at the ends of their range, held for a few steps."""
    lo, hi = real.x.range.T
    ends = np.random.default_rng(1).integers(0, 2, (STARTS, -(-steps // 5), lo.shape[0]))
    held: F64 = np.repeat(lo + (hi - lo) * ends, 5, axis=1)[:, :steps]
    return held


def _exact(real: Program, data: Sequences, starts: F64) -> F64:
    executor = Executor(real)
    executor.reset(STARTS)
    sizes = np.cumsum([state.inp.shape[0] for state in real.states])[:-1]
    parts = np.split(starts, sizes, axis=1) if real.states else []
    executor.load({state.inp.name: part for state, part in zip(real.states, parts, strict=True)})
    dt = None if real.dt is None else np.full(STARTS, float(real.dt.range[0].mean()))
    return np.stack([executor.step(data.x[:, t], dt)[0] for t in range(data.x.shape[1])], axis=1)
