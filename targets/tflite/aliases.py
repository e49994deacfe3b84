"""RESHAPE copies nothing in LiteRT: both tensors are one memory, and sums and limits may write over their argument.

LiteRT looks whether the tensor it writes over is read again, not whether another shape of it is. So where two shapes of
one memory are read in turn, each reshaped one gets a copy of its own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncpc.targets.graph.nodes import Node
from ncpc.targets.tflite.graph import Tensor, TfliteGraph


def apart(graph: TfliteGraph) -> TfliteGraph:
    """The graph, with a SLICE of the whole before every RESHAPE whose memory may be written over while it is needed."""
    roots, shared = _roots(graph), set[str]()
    for root in set(roots.values()):
        if _in_danger(graph, [name for name in roots if roots[name] == root] + [root]):
            shared.add(root)
    tensors, nodes = dict(graph.tensors), list[Node]()
    for node in graph.nodes:
        if node.kind == "RESHAPE" and roots[node.outputs[0]] in shared:
            node = _copied(tensors, nodes, node)
        nodes.append(node)
    return replace(graph, tensors=tensors, nodes=tuple(nodes))


def _roots(graph: TfliteGraph) -> dict[str, str]:
    """Reshaped tensor -> the tensor whose memory it is."""
    roots: dict[str, str] = {}
    for node in graph.nodes:
        if node.kind == "RESHAPE":
            roots[node.outputs[0]] = roots.get(node.inputs[0], node.inputs[0])
    return roots


def _in_danger(graph: TfliteGraph, names: list[str]) -> bool:
    """Whether one of these tensors is read by an operator that computes, while another one is needed later."""
    made = {node.outputs[0]: k for k, node in enumerate(graph.nodes) if node.kind == "RESHAPE"}
    reads = [(k, name) for k, node in enumerate(graph.nodes) for name in node.inputs if name in names]
    last = {name: k for k, name in reads}

    def needed(name: str, k: int) -> bool:
        kept = name in graph.outputs and made.get(name, -1) < k
        return kept or last.get(name, -1) > k

    computed = [(k, name) for k, name in reads if graph.nodes[k].kind != "RESHAPE"]
    return any(needed(other, k) for k, name in computed for other in names if other != name)


def _copied(tensors: dict[str, Tensor], nodes: list[Node], node: Node) -> Node:
    """Appends the copy; the RESHAPE that reads it."""
    source = tensors[node.inputs[0]]
    copy, origin, size = (f"{node.outputs[0]}/{part}" for part in ("copy", "origin", "size"))
    tensors[copy] = replace(source, name=copy)
    tensors[origin] = Tensor(origin, (len(source.shape),), "int32", np.zeros(len(source.shape), np.int32))
    tensors[size] = Tensor(size, (len(source.shape),), "int32", np.array(source.shape, np.int32))
    nodes.append(Node("SLICE", (source.name, origin, size), (copy,)))
    return replace(node, inputs=(copy, *node.inputs[1:]))
