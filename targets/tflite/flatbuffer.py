"""Graph -> the bytes of a .tflite file, by the schema's own object API."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from ncpc.targets.graph.nodes import Attribute, Node
from ncpc.targets.tflite.graph import Quant, Tensor, TfliteGraph
from ncpc.targets.tflite.libraries import flatbuffers, schema

TYPES = {"float32": "FLOAT32", "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
         "resource": "RESOURCE", "bool": "BOOL"}

OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "CONV_2D": "Conv2DOptions",
    "GATHER": "GatherOptions", "RESHAPE": "ReshapeOptions", "CONCATENATION": "ConcatenationOptions",
    "SLICE": "SliceOptions", "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions",
    "NEG": "NegOptions", "EXP": "ExpOptions", "QUANTIZE": "QuantizeOptions",
    "PAD": "PadOptions", "PADV2": "PadV2Options", "TRANSPOSE": "TransposeOptions", "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions", "GREATER": "GreaterOptions", "CAST": "CastOptions",
    "VAR_HANDLE": "VarHandleOptions", "READ_VARIABLE": "ReadVariableOptions",
    "ASSIGN_VARIABLE": "AssignVariableOptions", "CALL_ONCE": "CallOnceOptions",
}
"""The options table of each operator; those that are not listed have none."""

VERSIONS = {
    ("ADD", "int16"): 3, ("SUB", "int16"): 5, ("MUL", "int16"): 4, ("CONV_2D", "int16"): 4, ("LOGISTIC", "int16"): 3,
    ("TANH", "int16"): 3, ("ADD", "int8"): 2, ("SUB", "int8"): 2, ("MUL", "int8"): 2, ("CONV_2D", "int8"): 3,
    ("LOGISTIC", "int8"): 2, ("TANH", "int8"): 2, ("SLICE", "int8"): 2, ("SLICE", "int16"): 4,
    ("CONCATENATION", "int8"): 2, ("CONCATENATION", "int16"): 3, ("MAXIMUM", "int8"): 2, ("MINIMUM", "int8"): 2,
    ("MAXIMUM", "int16"): 4, ("MINIMUM", "int16"): 4, ("RELU", "int8"): 2, ("RELU", "int16"): 3,
    ("PAD", "int8"): 2, ("PAD", "int16"): 3, ("PADV2", "int8"): 2, ("PADV2", "int16"): 3,
    ("TRANSPOSE", "int8"): 2, ("TRANSPOSE", "int16"): 5,
    ("MAX_POOL_2D", "int8"): 2, ("MAX_POOL_2D", "int16"): 3,
    ("AVERAGE_POOL_2D", "int8"): 2, ("AVERAGE_POOL_2D", "int16"): 3,
}
"""The first version of an operator that takes this type (TFLite's op_version table); 1 where not listed."""

GROUPED = 6
"""The first version of a convolution in groups."""


def write(graph: TfliteGraph) -> bytes:
    """The file: schema version 3, the signature ``serving_default``. Same graph, same bytes."""
    s, parts = schema(), [graph, *([graph.once] if graph.once else [])]
    model = s.ModelT()
    model.version, model.description = 3, graph.name
    codes = sorted({_code(node, part) for part in parts for node in part.nodes})
    model.operatorCodes = [_operator_code(s, op, version) for op, version in codes]
    contents = [tensor.data.tobytes() for part in parts for tensor in part.tensors.values() if tensor.data is not None]
    model.buffers = [s.BufferT(), *(_buffer(s, data) for data in (*contents, graph.metadata))]
    first = iter(range(1, len(contents) + 1))
    model.subgraphs = [_subgraph(s, part, codes, first) for part in parts]
    model.signatureDefs = [_signature(s, graph)]
    model.metadata = [_metadata(s, len(contents) + 1)]
    return _pack(model)


def _pack(model: Any) -> bytes:
    builder = flatbuffers().Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _buffer(s: ModuleType, data: bytes) -> Any:
    buffer = s.BufferT()
    buffer.data = np.frombuffer(data, np.uint8)
    return buffer


def _metadata(s: ModuleType, buffer: int) -> Any:
    entry = s.MetadataT()
    entry.name, entry.buffer = "ncpc", buffer
    return entry


def _code(node: Node, graph: TfliteGraph) -> tuple[str, int]:
    kind = graph.tensors[node.inputs[0]].dtype if node.inputs else ""
    return node.kind, GROUPED if _grouped(node, graph) else VERSIONS.get((node.kind, kind), 1)


def _grouped(node: Node, graph: TfliteGraph) -> bool:
    """A convolution whose filters read a part of the channels each."""
    shapes = [graph.tensors[name].shape for name in node.inputs]
    return node.kind == "CONV_2D" and shapes[0][3] != shapes[1][3]


def _operator_code(s: ModuleType, op: str, version: int) -> Any:
    code = s.OperatorCodeT()
    code.builtinCode = getattr(s.BuiltinOperator, op)
    # Runtimes from before 2020 read the 8-bit field; codes past 127 put a placeholder there.
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    return code


def _subgraph(s: ModuleType, graph: TfliteGraph, codes: list[tuple[str, int]], buffers: Iterator[int]) -> Any:
    """A subgraph; ``buffers`` hands out the buffer of each constant in turn."""
    sub, index = s.SubGraphT(), _index(graph)
    sub.name = graph.name
    sub.tensors = [_tensor(s, t, 0 if t.data is None else next(buffers)) for t in graph.tensors.values()]
    sub.inputs = [index[name] for name in graph.inputs]
    sub.outputs = [index[name] for name in graph.outputs]
    sub.operators = [_operator(s, node, index, codes.index(_code(node, graph))) for node in graph.nodes]
    return sub


def _index(graph: TfliteGraph) -> dict[str, int]:
    return {name: k for k, name in enumerate(graph.tensors)}


def _tensor(s: ModuleType, tensor: Tensor, buffer: int) -> Any:
    made = s.TensorT()
    made.name, made.shape, made.buffer = tensor.name, list(tensor.shape), buffer
    made.type = getattr(s.TensorType, TYPES[tensor.dtype])
    if tensor.quant is not None:
        made.quantization = _quantization(s, tensor.quant)
    return made


def _quantization(s: ModuleType, quant: Quant) -> Any:
    made = s.QuantizationParametersT()
    made.scale = [float(v) for v in quant.scale]
    made.zeroPoint = [quant.zero_point] * len(made.scale)
    made.quantizedDimension = quant.axis
    return made


def _operator(s: ModuleType, node: Node, index: dict[str, int], code: int) -> Any:
    made = s.OperatorT()
    made.opcodeIndex = code
    made.inputs = [index[name] for name in node.inputs]
    made.outputs = [index[name] for name in node.outputs]
    if node.kind in OPTIONS:
        table = OPTIONS[node.kind]
        made.builtinOptionsType = getattr(s.BuiltinOptions, table)
        made.builtinOptions = _options(getattr(s, f"{table}T")(), node.attrs)
    return made


def _options(table: Any, options: dict[str, Attribute] | Any) -> Any:
    for name, value in options.items():
        if not hasattr(table, name):
            raise AttributeError(f"{type(table).__name__} has no option {name}")
        setattr(table, name, list(value) if isinstance(value, tuple) else value)
    return table


def _signature(s: ModuleType, graph: TfliteGraph) -> Any:
    signature, index = s.SignatureDefT(), _index(graph)
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs = [_named(s, name, index[name]) for name in graph.inputs]
    signature.outputs = [_named(s, name, index[name]) for name in graph.outputs]
    return signature


def _named(s: ModuleType, name: str, tensor: int) -> Any:
    entry = s.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry
