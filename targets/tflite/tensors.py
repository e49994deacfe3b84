"""Which tensor holds a value, in which shape: rows for vectors, frames for what convolutions read and write."""

from __future__ import annotations

import numpy as np

from ncpc.targets.tflite.graph import GraphBuilder

Shape = tuple[int, ...]
MOST_JOINED = 10
"""Tensors that TFLite Micro's CONCATENATION takes."""


class Tensors:
    """Values by name. A value keeps the shape it was made in; another one is made, once, when it is asked for."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._b = builder
        self._made: dict[str, str] = {}
        self._reshaped: dict[tuple[str, Shape], str] = {}

    def __contains__(self, value: str) -> bool:
        return value in self._made

    def put(self, value: str, tensor: str) -> None:
        """``tensor`` holds ``value``."""
        self._made[value] = tensor

    def made(self, value: str) -> str:
        """The tensor as it was made."""
        return self._made[value]

    def shape(self, value: str) -> Shape:
        """The shape in which the value was made."""
        return self._b.tensors[self._made[value]].shape

    def row(self, value: str) -> str:
        """The value as (1, 1, 1, n)."""
        size = int(np.prod(self.shape(value), dtype=np.int64))
        return self.shaped(value, (1, 1, 1, size))

    def shaped(self, value: str, shape: Shape) -> str:
        """The value in ``shape``."""
        if self.shape(value) == shape:
            return self._made[value]
        if (value, shape) not in self._reshaped:
            source = self._b.tensors[self._made[value]]
            kind = "row" if shape[:3] == (1, 1, 1) else "frame"
            target = self._b.tensor(f"{value}/{kind}", shape, source.dtype, source.quant)
            self._reshaped[value, shape] = reshape(self._b, source.name, target)
        return self._reshaped[value, shape]

    def together(self, values: list[str]) -> Shape | None:
        """The frame's shape that all these were made in, or None where they differ or there are none."""
        shapes = {self.shape(value) for value in values}
        shape = shapes.pop() if len(shapes) == 1 else ()
        return shape if len(shape) == 4 else None


def reshape(b: GraphBuilder, source: str, target: str) -> str:
    """A RESHAPE into the shape of ``target``."""
    shape = b.tensors[target].shape
    size = b.constant("shape_" + "_".join(map(str, shape)), np.array(shape, np.int32))
    return b.node("RESHAPE", [source, size], target, newShape=shape)


def concatenation(b: GraphBuilder, parts: list[str], target: str) -> str:
    """CONCATENATIONs of rows into ``target``, ``MOST_JOINED`` at a time."""
    while len(parts) > MOST_JOINED:
        first, tensor = parts[:MOST_JOINED], b.tensors[target]
        size = sum(b.tensors[name].shape[3] for name in first)
        longer = b.tensor(f"{target}/first", (1, 1, 1, size), tensor.dtype, tensor.quant)
        parts = [b.node("CONCATENATION", first, longer, axis=3), *parts[MOST_JOINED:]]
    return b.node("CONCATENATION", parts, target, axis=3)
