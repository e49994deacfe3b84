"""Between physical sequences and the raw arrays that a .tflite file takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ports import bits
from ncpc.targets.tflite.reading import File

Arrays = dict[str, NDArray[Any]]


def encode(file: File, data: Sequences, nominal_dt: float, initial: NDArray[np.float64] | None = None) -> Arrays:
    """Raw arrays for ``worker.drive``. ``initial`` (B, S) are physical states instead of the reset state."""
    rows, steps = data.x.shape[:2]
    raw: Arrays = {"x": file.edge("x").encode(data.x)}
    if any(edge.name == "dt" for edge in file.inputs):
        dt = np.full((rows, steps), nominal_dt) if data.dt is None else data.dt
        raw["dt"] = file.edge("dt").encode(dt)
    if data.reset is not None:
        raw["reset"] = data.reset
    if file.keeps_state:
        if initial is not None:
            raise BadInput("the file keeps its state: it starts from the reset state only; compile with --state input")
        return raw
    start = 0
    for edge in file.states:
        reset = file.resets[edge.name]
        begin = np.tile(reset, (rows, 1)) if initial is None else initial[:, start : start + edge.size]
        raw[f"start_{edge.name}"], raw[f"reset_{edge.name}"] = edge.encode(begin), edge.encode(reset)
        start += edge.size
    return raw


def decode(file: File, found: Mapping[str, NDArray[Any]]) -> Trace:
    """What came back, as a trace; TFLite graphs raise no status bits."""
    rows, steps = found["y"].shape[:2]
    names = [f"{edge.name}_out" for edge in file.states]
    empty = np.zeros((rows, steps, 0))
    raws = [bits(found[name].astype(file.edge(name).dtype)) for name in names]
    return Trace(
        y=file.edge("y").decode(found["y"]),
        state=np.concatenate([empty, *(file.edge(name).decode(found[name]) for name in names)], axis=2),
        raw_y=bits(found["y"].astype(file.edge("y").dtype)),
        raw_state=np.concatenate([empty.astype(np.int64), *raws], axis=2),
        flags=np.zeros((rows, steps), np.int64),
    )
