"""The node type ``GradedLayer`` for nir, and its registration: nir.read knows only the types it has a name for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ncpc.targets.nir.graph import library
from ncpc.targets.nir_graded.layers import GradedLayer, layer_fields, layer_from_fields

LAYER = "GradedLayer"


@cache
def node_class() -> Any:
    """The class, a ``nir.NIRNode``; raises MissingTool without nir."""
    base: Any = library().NIRNode

    class GradedLayerNode(base):  # type: ignore[misc]
        """A layer in integers; see ``ncpc.targets.nir_graded.layers`` for what its fields mean."""

        def __init__(self, **fields: Any) -> None:
            self.metadata = fields.pop("metadata", {})
            self.record: GradedLayer = layer_from_fields(fields)
            self.input_type = {"input": np.array([self.record.width_in])}
            self.output_type = {"output": np.array([self.record.width_out])}

        def to_dict(self) -> dict[str, Any]:
            return {**layer_fields(self.record), "type": LAYER}

    GradedLayerNode.__name__ = LAYER
    return GradedLayerNode


def register() -> None:
    """Make ``nir.read`` and ``nir.dict2NIRNode`` know the node; calling it again changes nothing."""
    module = library().ir
    if not hasattr(module, LAYER):
        setattr(module, LAYER, node_class())
        getattr(module, "__all_ir").append(LAYER)


def graph(layers: Sequence[GradedLayer]) -> Any:
    """Input -> a graded layer for each layer -> Output."""
    register()
    nodes = {layer.name: node_class()(**layer_fields(layer)) for layer in layers}
    nir, names = library(), ["input", *nodes, "output"]
    first, last = (nodes[name] for name in (names[1], names[-2]))
    every = {"input": nir.Input(input_type=dict(first.input_type)), **nodes,
             "output": nir.Output(output_type=dict(last.output_type))}
    return nir.NIRGraph(every, list(pairwise(names)))


def held_by(graph: Any) -> tuple[GradedLayer, ...]:
    """What ``graph`` made a graph of; raises KeyError or AttributeError for one that holds other nodes."""
    after = dict(graph.edges)
    records, name = [], after["input"]
    while name != "output":
        records.append(graph.nodes[name].record)
        name = after[name]
    return tuple(records)
