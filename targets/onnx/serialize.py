"""Graph -> ONNX bytes: the step model, and the sequence model that scans it over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ncpc.system.onnx_library import onnx
from ncpc.targets.onnx.graph import OnnxGraph

OPSET = 21
IR_VERSION = 10
"""The IR version that opset 21 came with: the oldest runtime that knows the opset reads the file."""
BATCH, TIME = "batch", "time"


def step_model(graph: OnnxGraph, name: str, doc: str, metadata: Mapping[str, str]) -> bytes:
    """``x`` (batch, inputs), ``state`` (batch, S), ``dt`` (batch, 1) -> ``y`` (batch, outputs), ``state_out``."""
    inputs = [_info(n, [BATCH, w]) for n, w in graph.inputs.items()]
    outputs = [_info(n, [BATCH, w]) for n, w in graph.outputs.items()]
    return _model(onnx().helper.make_graph(_nodes(graph), name, inputs, outputs, _constants(graph), doc), metadata)


def sequence_model(graph: OnnxGraph, name: str, doc: str, metadata: Mapping[str, str]) -> bytes:
    """``x`` (batch, time, inputs), ``state`` (batch, S), ``dt`` (batch, time, 1) -> ``y`` (batch, time, outputs) and
    ``state_out`` after the last step. The step is the body of one Scan over time.

    Its constants stand in the body: ONNX Runtime's optimizer fails on quantized weights in an outer graph.
    """
    carried = [n for n in graph.inputs if n == "state"]
    scanned = [n for n in graph.inputs if n != "state"]
    outs = [*(n for n in graph.outputs if n == "state_out"), *(n for n in graph.outputs if n != "state_out")]
    over_time = {n: f"{n}_over_time" for n in (*scanned, "y")}
    body, make = _body(graph, [*carried, *scanned], outs), onnx().helper.make_node
    # Scan over its first axis, with transpositions around it: some runtimes know no other axis.
    turned = [make("Transpose", [n], [over_time[n]], name=over_time[n], perm=[1, 0, 2]) for n in scanned]
    scan = make("Scan", [*carried, *(over_time[n] for n in scanned)], [over_time.get(n, n) for n in outs],
                name="steps", body=body, num_scan_inputs=len(scanned))
    back = make("Transpose", [over_time["y"]], ["y"], name="y", perm=[1, 0, 2])
    inputs = [_info(n, [BATCH, w] if n == "state" else [BATCH, TIME, w]) for n, w in graph.inputs.items()]
    outputs = [_info(n, [BATCH, w] if n == "state_out" else [BATCH, TIME, w]) for n, w in graph.outputs.items()]
    nodes = [*turned, scan, back]
    return _model(onnx().helper.make_graph(nodes, name, inputs, outputs, doc_string=doc), metadata)


def _body(graph: OnnxGraph, inputs: list[str], outputs: list[str]) -> Any:
    """The step as a subgraph: its inputs and outputs get names of their own, as a subgraph's must."""
    own = {n: f"{n}_now" for n in inputs} | {n: f"{n}_next" for n in outputs}
    nodes = _nodes(graph)
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [own.get(n, n) for n in names]
    ins = [_info(own[n], [BATCH, graph.inputs[n]]) for n in inputs]
    outs = [_info(own[n], [BATCH, graph.outputs[n]]) for n in outputs]
    return onnx().helper.make_graph(nodes, "step", ins, outs, _constants(graph))


def _nodes(graph: OnnxGraph) -> list[Any]:
    """Nodes are called after what they make."""
    make = onnx().helper.make_node
    return [make(n.kind, list(n.inputs), list(n.outputs), name=n.outputs[0], **n.attrs) for n in graph.nodes]


def _constants(graph: OnnxGraph) -> list[Any]:
    return [onnx().numpy_helper.from_array(data, name) for name, data in graph.constants.items()]


def _info(name: str, shape: list[str | int]) -> Any:
    return onnx().helper.make_tensor_value_info(name, onnx().TensorProto.FLOAT, shape)


def _model(graph: Any, metadata: Mapping[str, str]) -> bytes:
    library = onnx()
    opset = library.helper.make_opsetid("", OPSET)
    model = library.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="ncpc")
    library.helper.set_model_props(model, dict(sorted(metadata.items())))
    library.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
