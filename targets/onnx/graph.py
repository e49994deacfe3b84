"""A graph of ONNX operators as plain records, before the onnx library is asked for anything.

Tensors have a leading batch axis, which their ``shape`` here leaves out; constants have none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Attribute, Node

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """One step: ``inputs`` and ``outputs`` map a tensor's name to its width; ``shapes`` knows every tensor's shape."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    inputs: Mapping[str, int]
    outputs: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    held: Mapping[str, str] = field(default_factory=dict)
    """Tensors that are a state after some of its unfolds -> that state's value in the program."""


RESERVED = ("x", "state", "dt", "y", "state_out")
"""Names of inputs and outputs; no inner tensor is called so."""


class Writer:
    """Collects nodes and constants under unique names; equal constants are stored once."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._taken = set(RESERVED)
        self._renamed: dict[str, str] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def unique(self, name: str) -> str:
        """``name``, or ``name_2``, ``name_3``, ... if it is taken."""
        candidate, n = name, 1
        while candidate in self._taken:
            n += 1
            candidate = f"{name}_{n}"
        self._taken.add(candidate)
        return candidate

    def tensor(self, name: str, shape: Sequence[int]) -> str:
        """A tensor that no node makes: an input."""
        self.shapes[name] = tuple(shape)
        return name

    def const(self, name: str, data: Array) -> str:
        """A constant; float64 is stored as float32. The name is a wish: an equal constant keeps the one it has."""
        array = np.ascontiguousarray(data, np.float32 if data.dtype == np.float64 else None)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = self.unique(name)
            self.constants[self._known[key]] = array
        return self._known[key]

    def node(self, kind: str, inputs: Sequence[str], name: str, shape: Sequence[int], **attrs: Attribute) -> str:
        """Append a node with one output; returns the output's name."""
        return self.node_n(kind, inputs, [(name, shape)], **attrs)[0]

    def node_n(self, kind: str, inputs: Sequence[str], outputs: Sequence[tuple[str, Sequence[int]]],
               **attrs: Attribute) -> tuple[str, ...]:
        """Append a node with several outputs, given as (name, shape without batch)."""
        names = tuple(self.unique(name) for name, _ in outputs)
        self.shapes.update({name: tuple(shape) for name, (_, shape) in zip(names, outputs, strict=True)})
        self.nodes.append(Node(kind, tuple(inputs), names, attrs))
        return names

    def final(self, tensor: str) -> str:
        """What a tensor is called now."""
        return self._renamed.get(tensor, tensor)

    def finish(self, tensor: str, name: str) -> None:
        """Give a tensor the name of an output; an input, or what is an output already, is copied."""
        tensor = self.final(tensor)
        if tensor in RESERVED:
            self.nodes.append(Node("Identity", (tensor,), (name,)))
            self.shapes[name] = self.shapes[tensor]
        else:
            self._renamed[tensor] = name
            self.nodes = [_renamed(node, tensor, name) for node in self.nodes]
            self.shapes[name] = self.shapes.pop(tensor)


def _renamed(node: Node, old: str, new: str) -> Node:
    def name(tensor: str) -> str:
        return new if tensor == old else tensor

    return Node(node.kind, tuple(map(name, node.inputs)), tuple(map(name, node.outputs)), node.attrs)
