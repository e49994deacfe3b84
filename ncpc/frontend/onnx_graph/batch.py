"""Files that were exported with a fixed number of rows: read as of one row, run with as many as they take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ncpc.frontend.onnx_graph.file import FixedBatch, OnnxFile, OnnxPort

LEADS = 2
"""Axes that may be rows: beside them there is time."""


def unbatched(file: OnnxFile) -> Iterator[OnnxFile]:
    """The file with open rows, where its inputs and outputs may all begin with one fixed number of them, by each axis
    that this may be. Whether its rows are rows shows in ONNX Runtime, which is given different ones.
    """
    first = file.inputs[0].dims if file.inputs else ()
    for axis, rows in enumerate(first[: min(LEADS, len(first) - 1)]):
        ends = (*file.inputs, *file.outputs)
        axes = {port.name: found for port in ends if (found := _axis(port, axis, rows)) is not None}
        if rows is not None and rows > 1 and len(axes) == len({port.name for port in ends}):
            batch = FixedBatch(rows, axes)
            inputs, outputs = (tuple(_opened(port, axes[port.name]) for port in part)
                               for part in (file.inputs, file.outputs))
            yield replace(file, inputs=inputs, outputs=outputs, batch=batch)


def _axis(port: OnnxPort, axis: int, rows: int | None) -> int | None:
    """Where the rows of an input or output stand: likeliest where those of the first input do."""
    return next((k for k in (axis, *range(LEADS)) if k < len(port.dims) and port.dims[k] == rows), None)


def _opened(port: OnnxPort, axis: int) -> OnnxPort:
    return replace(port, dims=(*port.dims[:axis], None, *port.dims[axis + 1 :]))
