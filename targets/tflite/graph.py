"""A TFLite graph as data: tensors, operators and the signature, before any bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Attribute, Node


@dataclass(frozen=True, eq=False)
class Quant:
    """``real = scale * (q - zero_point)``; one scale, or one per element of ``axis`` (weights, biases)."""

    scale: NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0

    @property
    def step(self) -> float:
        """The one scale of a tensor that has one."""
        return float(self.scale[0])


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: ``dtype`` as NumPy names it, ``data`` for constants, ``quant`` for integers that stand for reals."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: NDArray[Any] | None = None
    quant: Quant | None = None

    @property
    def bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, eq=False)
class TfliteGraph:
    """A whole model. ``inputs`` and ``outputs`` are tensor names and the names of the signature ``serving_default``.

    ``once`` is what runs before the first step, by an operator CALL_ONCE: a graph without inputs and outputs.
    """

    name: str
    tensors: Mapping[str, Tensor]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: bytes = b""
    once: TfliteGraph | None = None


class GraphBuilder:
    """Collects tensors and nodes; equal constants become one."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self._constants: dict[tuple[object, ...], str] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: str, quant: Quant | None = None) -> str:
        """A tensor that an operator writes, or that the caller sets."""
        unique = self._unique(name)
        self.tensors[unique] = Tensor(unique, tuple(shape), dtype, None, quant)
        return unique

    def constant(self, name: str, data: NDArray[Any], quant: Quant | None = None) -> str:
        """A constant tensor, shared with an earlier one of the same bytes, shape and scale."""
        scale = None if quant is None else (quant.scale.tobytes(), quant.zero_point, quant.axis)
        key = (str(data.dtype), data.shape, data.tobytes(), scale)
        if key not in self._constants:
            unique = self._unique(name)
            self.tensors[unique] = Tensor(unique, data.shape, str(data.dtype), data, quant)
            self._constants[key] = unique
        return self._constants[key]

    def node(self, kind: str, inputs: Sequence[str], output: str, **attrs: Attribute) -> str:
        """Append an operator with one output."""
        self.nodes.append(Node(kind, tuple(inputs), (output,), attrs))
        return output

    def graph(self, name: str, inputs: Sequence[str], outputs: Sequence[str], metadata: bytes = b"") -> TfliteGraph:
        return TfliteGraph(name, dict(self.tensors), tuple(self.nodes), tuple(inputs), tuple(outputs), metadata)

    def _unique(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self.tensors:
            n += 1
            candidate = f"{name}_{n}"
        return candidate
