"""An ONNX file as plain records: its nodes, constants, inputs and outputs. Nothing of it is run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.foreign import ONNX, kind_of, read_or_refused, refusal
from ncpc.system.files import is_file
from ncpc.system.onnx_library import onnx

MOST_BYTES = 1 << 29
"""Of the file, and of all that lies beside it."""
MOST_VALUES = 1 << 26
"""Of one tensor; far more than any weights that ncpc compiles."""
MOST_NODES = 20_000
KINDS = "fiub"
"""Kinds of numbers (numpy.dtype.kind) that a tensor may hold."""


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """A node: ``op`` with ``name`` in the file ``where``; ``opset`` is the version of its operators."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    where: str
    opset: int

    @property
    def place(self) -> str:
        """How messages name it."""
        name = self.name or next(filter(None, self.outputs), "")
        return f"{self.where}: node '{name}' ({self.op})"

    def get(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)


@dataclass(frozen=True)
class OnnxPort:
    """An input or output of the graph; a dimension that the file leaves open is None."""

    name: str
    dims: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} ({', '.join('?' if n is None else str(n) for n in self.dims)})"


@dataclass(frozen=True)
class FixedBatch:
    """The only number of rows that a file takes, and the axis of rows of each input and output by name."""

    rows: int
    axes: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """What a file says. ``content`` is the model, with what lay beside it, as ONNX Runtime takes it; ``batch`` the rows
    that it wants, where inputs and outputs are told here as if any number would do.
    """

    where: str
    content: bytes
    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, NDArray[Any]]
    inputs: tuple[OnnxPort, ...]
    outputs: tuple[OnnxPort, ...]
    provenance: Mapping[str, Any]
    batch: FixedBatch | None = None


def read_onnx(path: Path) -> OnnxFile:
    """The file at ``path``; tensors outside of it are read only from files of the same folder.

    Raises BadInput for what is no valid ONNX model, MissingTool without the ``onnx`` package.
    """
    library = onnx()
    if not is_file(path):
        raise BadInput(f"{path}: no such file; give an ONNX file")
    if path.stat().st_size > MOST_BYTES:
        raise BadInput(f"{path}: has more than {MOST_BYTES >> 20} MB; policies are smaller")
    if kind_of(path) is not ONNX:
        raise BadInput(refusal(path, ONNX, f"{path}: no ONNX model; export it again"))
    with read_or_refused(path, "ONNX"):
        model = library.ModelProto()
        model.ParseFromString(path.read_bytes())
        _load_beside(library, model, path)
        library.checker.check_model(model)
        if model.functions:
            model = library.inliner.inline_local_functions(model)
        return _file(library, model, str(path))


def _file(library: Any, model: Any, where: str) -> OnnxFile:
    graph = model.graph
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    if len(graph.node) > MOST_NODES:
        raise Unsupported(f"{where}: has {len(graph.node):,} nodes; {MOST_NODES:,} at most can be read")
    if graph.sparse_initializer:
        raise Unsupported(f"{where}: holds sparse tensors; export it with dense ones")
    constants = {tensor.name: array_of(library, tensor, where) for tensor in graph.initializer}
    told = {"source": "onnx", "producer": f"{model.producer_name} {model.producer_version}".strip(), "opset": opset,
            "versions": {"onnx": str(library.__version__)}}
    return OnnxFile(
        where, model.SerializeToString(), tuple(_node(library, node, where, opset) for node in graph.node), constants,
        tuple(_port(library, value, where) for value in graph.input if value.name not in constants),
        tuple(_port(library, value, where) for value in graph.output), told)


def _node(library: Any, node: Any, where: str, opset: int) -> OnnxNode:
    op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    attributes = {a.name: _attribute(library, a, where) for a in node.attribute}
    return OnnxNode(op, node.name, tuple(node.input), tuple(node.output), attributes, where, opset)


def _attribute(library: Any, attribute: Any, where: str) -> Any:
    """Numbers, texts, arrays, and graphs as they are."""
    value = library.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if attribute.type == library.AttributeProto.TENSOR:
        return array_of(library, value, where)
    return [v.decode(errors="replace") if isinstance(v, bytes) else v for v in value] if isinstance(
        value, (list, tuple)) else value


def array_of(library: Any, tensor: Any, where: str) -> NDArray[Any]:
    """A tensor's numbers. Raises BadInput for more than a network has, Unsupported for what is no number."""
    if math.prod(tensor.dims) > MOST_VALUES:
        raise BadInput(f"{where}: '{tensor.name}' claims to hold {math.prod(tensor.dims):,} values")
    array = np.asarray(library.numpy_helper.to_array(tensor))
    if array.dtype.kind not in KINDS:
        array = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16 and the 8-bit floats
    if array.dtype.kind not in KINDS:
        raise Unsupported(f"{where}: '{tensor.name}' holds {array.dtype} values, no numbers")
    return array


def _port(library: Any, value: Any, where: str) -> OnnxPort:
    kind = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type" or not kind.HasField("shape"):
        raise Unsupported(f"{where}: '{value.name}' has no shape; export it with the shapes of inputs and outputs")
    dims = tuple(int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    if math.prod(n or 1 for n in dims) > MOST_VALUES:
        raise BadInput(f"{where}: '{value.name}' claims to hold {math.prod(n or 1 for n in dims):,} values")
    return OnnxPort(value.name, dims, str(np.dtype(library.helper.tensor_dtype_to_np_dtype(kind.elem_type))))


def _load_beside(library: Any, model: Any, path: Path) -> None:
    """Read tensors that lie in other files of the same folder."""
    total = 0
    for tensor in _outside(library, model.graph):
        told = {entry.key: entry.value for entry in tensor.external_data}
        location = told.get("location", "")
        beside = path.parent / location
        if Path(location).name != location or beside.is_symlink() or not is_file(beside):
            raise BadInput(f"{path}: '{tensor.name}' lies in '{location}', which is no file beside it; keep them "
                           "together, or export into one file")
        size = beside.stat().st_size
        total += (length := int(told.get("length", size)))
        if not 0 <= int(told.get("offset", 0)) <= int(told.get("offset", 0)) + length <= size or total > MOST_BYTES:
            raise BadInput(f"{path}: '{tensor.name}' is not wholly in '{location}'; copy both files again")
        library.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        tensor.data_location = library.TensorProto.DEFAULT
        del tensor.external_data[:]


def _outside(library: Any, graph: Any) -> Iterator[Any]:
    """Tensors whose numbers are in another file, those in attributes and inner graphs too."""
    inner = [a for node in graph.node for a in node.attribute]
    tensors = [*graph.initializer, *(a.t for a in inner if a.HasField("t"))]
    yield from (t for t in tensors if t.data_location == library.TensorProto.EXTERNAL)
    for attribute in inner:
        if attribute.HasField("g"):
            yield from _outside(library, attribute.g)
