"""The state inside the file: resource variables, which LiteRT and TFLite Micro keep from one invoke to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Node
from ncpc.targets.tflite.graph import Tensor, TfliteGraph

NAME = "step_once"


def with_variables(graph: TfliteGraph, resets: Mapping[str, NDArray[np.generic]]) -> TfliteGraph:
    """The graph with its states as variables, ``resets`` their raw reset values by name.

    A state is no input any more; ``<state>_out`` stays an output, to look at. Before the first step, and after the
    interpreter's own reset, the states have their reset values.
    """
    handles = {f"{name}/handle": Tensor(f"{name}/handle", (1,), "resource") for name in resets}
    reads = [node for name in resets for node in (_handle(name), Node("READ_VARIABLE", (f"{name}/handle",), (name,)))]
    writes = [Node("ASSIGN_VARIABLE", (f"{name}/handle", f"{name}_out"), ()) for name in resets]
    begin = Node("CALL_ONCE", (), (), {"initSubgraphIndex": 1})
    return replace(
        graph, tensors={**graph.tensors, **handles}, nodes=(begin, *reads, *graph.nodes, *writes),
        inputs=tuple(name for name in graph.inputs if name not in resets), once=_once(graph, resets),
    )


def _once(graph: TfliteGraph, resets: Mapping[str, NDArray[np.generic]]) -> TfliteGraph:
    tensors: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for name, reset in resets.items():
        held = graph.tensors[name]
        tensors[f"{name}/handle"] = Tensor(f"{name}/handle", (1,), "resource")
        data = reset.reshape(held.shape).astype(held.dtype)
        tensors[f"{name}/reset"] = replace(held, name=f"{name}/reset", data=data)
        nodes += [_handle(name), Node("ASSIGN_VARIABLE", (f"{name}/handle", f"{name}/reset"), ())]
    return TfliteGraph(NAME, tensors, tuple(nodes), (), ())


def _handle(name: str) -> Node:
    return Node("VAR_HANDLE", (), (f"{name}/handle",), {"container": "", "sharedName": name})
