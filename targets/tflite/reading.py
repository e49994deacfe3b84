"""What a .tflite file says about itself: its boundary, its operators, the record ``ncpc``."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.targets.tflite.flatbuffer import TYPES
from ncpc.targets.tflite.graph import Quant
from ncpc.targets.tflite.libraries import schema

Real = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edge:
    """A tensor of the signature: ``size`` elements of ``dtype``, with its scale where it is an integer."""

    name: str
    size: int
    dtype: str
    quant: Quant | None

    def encode(self, real: Real) -> NDArray[Any]:
        """Physical numbers (..., size) to the tensor's: nearest, limited to the type; NaN counts as 0."""
        if self.quant is None:
            return real.astype(self.dtype)
        info = np.iinfo(self.dtype)
        raw = np.floor(np.where(np.isnan(real), 0.0, real) / self.quant.step + 0.5) + self.quant.zero_point
        limited: NDArray[Any] = np.clip(raw, info.min, info.max).astype(self.dtype)
        return limited

    def decode(self, raw: NDArray[Any]) -> Real:
        """The tensor's numbers as physical ones."""
        if self.quant is None:
            return raw.astype(np.float64)
        real: Real = (raw.astype(np.float64) - self.quant.zero_point) * self.quant.step
        return real


@dataclass(frozen=True, eq=False)
class File:
    """``inputs`` and ``outputs`` in the file's order; ``operators`` name -> how many; ``resets`` state -> physical.

    ``written`` is how many bytes all tensors take that are no constants, if none shares its memory with another.
    """

    inputs: tuple[Edge, ...]
    outputs: tuple[Edge, ...]
    operators: dict[str, int]
    resets: dict[str, Real]
    written: int = 0

    @property
    def states(self) -> tuple[Edge, ...]:
        """The states, with the scale they have on either side."""
        return tuple(replace(self.edge(f"{name}_out"), name=name) for name in self.resets)

    @property
    def keeps_state(self) -> bool:
        """The states are variables inside the file, not inputs."""
        return bool(self.resets) and all(edge.name not in self.resets for edge in self.inputs)

    def edge(self, name: str) -> Edge:
        return next(edge for edge in (*self.inputs, *self.outputs) if edge.name == name)


def read(content: bytes, where: str) -> File:
    """Parse a file that ncpc wrote. Raises BadInput, naming ``where``, for another one."""
    s = schema()
    try:
        model = s.ModelT.InitFromObj(s.Model.GetRootAsModel(content, 0))
        record = _record(model)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, StopIteration, struct.error) as error:
        raise BadInput(f"{where}: is no TFLite file that ncpc wrote; compile the policy again") from error
    graph = model.subgraphs[0]
    names = {code: name for name, code in vars(s.BuiltinOperator).items() if not name.startswith("_")}
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    used = [codes[op.opcodeIndex] for op in graph.operators]
    types = {getattr(s.TensorType, wire): name for name, wire in TYPES.items()}
    edges = [[_edge(graph.tensors[i], types) for i in side] for side in (graph.inputs, graph.outputs)]
    return File(tuple(edges[0]), tuple(edges[1]), {name: used.count(name) for name in sorted(set(used))},
                {state["name"]: np.array(state["reset"], np.float64) for state in record["states"]},
                sum(_bytes(tensor, types) for tensor in graph.tensors if model.buffers[tensor.buffer].data is None))


def _record(model: Any) -> dict[str, Any]:
    entry = next(entry for entry in model.metadata if entry.name == b"ncpc")
    found: dict[str, Any] = json.loads(bytes(bytearray(model.buffers[entry.buffer].data)))
    return found


def _bytes(tensor: Any, types: dict[int, str]) -> int:
    kind = types[tensor.type]
    return 0 if kind == "resource" else int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(kind).itemsize


def _edge(tensor: Any, types: dict[int, str]) -> Edge:
    scale = tensor.quantization.scale if tensor.quantization is not None else None
    quant = None
    if scale is not None and len(scale):
        quant = Quant(np.array(scale, np.float32), int(tensor.quantization.zeroPoint[0]))
    return Edge(tensor.name.decode(), int(tensor.shape[-1]), types[tensor.type], quant)
