"""The file started from states at the corners of their box, not only from the reset state."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.ir.program import Program
from ncpc.semantics.bounds import Range
from ncpc.targets.graph.corners import STARTS, corners, exact_outputs, held_inputs
from ncpc.targets.tflite import runtimes, sequences
from ncpc.targets.tflite.graph import TfliteGraph
from ncpc.targets.tflite.model import IntegerModel
from ncpc.targets.tflite.reading import File


def check(content: bytes, file: File, real: Program, graph: TfliteGraph | None, boxes: dict[str, Range],
          steps: int) -> dict[str, Any]:
    """Run ``steps`` steps from each of STARTS corners: how far the outputs get from the program over the reals, as a
    share of its range, and for an integer ``graph`` how many steps differ from the model of its kernels.
    """
    box = [np.stack(boxes[state.inp.name], axis=1) for state in real.states]
    starts, data = corners(np.concatenate([np.zeros((0, 2)), *box])), held_inputs(real, steps)
    dt = None if real.dt is None else float(real.dt.range[0].mean())
    raw = sequences.encode(file, data, 1.0 if dt is None else dt, starts)
    found = sequences.decode(file, runtimes.run(content, file, runtimes.REFERENCE, raw))
    expected = exact_outputs(real, data, starts, dt)
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
