"""The node types ``GradedLTC`` and ``GradedLayer`` for nir, and their registration: nir.read knows only the types it
has a name for.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ncpc.targets.nir.graph import library
from ncpc.targets.nir_graded.layers import GradedLayer, layer_fields, layer_from_fields
from ncpc.targets.nir_graded.record import GradedLtc, from_fields, to_fields

LTC, LAYER = "GradedLTC", "GradedLayer"


@cache
def node_classes() -> dict[str, Any]:
    """The classes by name, each a ``nir.NIRNode``; raises MissingTool without nir."""
    base: Any = library().NIRNode

    class GradedLTCNode(base):  # type: ignore[misc]
        """An LTC layer in integers; see ``ncpc.targets.nir_graded.record`` for its arithmetic."""

        def __init__(self, **fields: Any) -> None:
            self.metadata = fields.pop("metadata", {})
            self.record: GradedLtc = from_fields(fields)
            _typed(self, len(self.record.x_lo), len(self.record.output_w))

        def to_dict(self) -> dict[str, Any]:
            return {**to_fields(self.record), "type": LTC}

    class GradedLayerNode(base):  # type: ignore[misc]
        """Any layer in integers; see ``ncpc.targets.nir_graded.layers`` for what its fields mean."""

        def __init__(self, **fields: Any) -> None:
            self.metadata = fields.pop("metadata", {})
            self.record: GradedLayer = layer_from_fields(fields)
            _typed(self, self.record.width_in, self.record.width_out)

        def to_dict(self) -> dict[str, Any]:
            return {**layer_fields(self.record), "type": LAYER}

    GradedLTCNode.__name__, GradedLayerNode.__name__ = LTC, LAYER
    return {LTC: GradedLTCNode, LAYER: GradedLayerNode}


def _typed(node: Any, inputs: int, outputs: int) -> None:
    node.input_type = {"input": np.array([inputs])}
    node.output_type = {"output": np.array([outputs])}


def register() -> None:
    """Make ``nir.read`` and ``nir.dict2NIRNode`` know the nodes; calling it again changes nothing."""
    module = library().ir
    for name, class_ in node_classes().items():
        if not hasattr(module, name):
            setattr(module, name, class_)
            getattr(module, "__all_ir").append(name)


def graph(held: GradedLtc | Sequence[GradedLayer]) -> Any:
    """Input -> GradedLTC -> Output, or a chain of graded layers between them."""
    register()
    if isinstance(held, GradedLtc):
        return _chained({"ltc": node_classes()[LTC](**to_fields(held))})
    return _chained({layer.name: node_classes()[LAYER](**layer_fields(layer)) for layer in held})


def _chained(nodes: dict[str, Any]) -> Any:
    nir, names = library(), ["input", *nodes, "output"]
    first, last = (nodes[name] for name in (names[1], names[-2]))
    every = {"input": nir.Input(input_type=dict(first.input_type)), **nodes,
             "output": nir.Output(output_type=dict(last.output_type))}
    return nir.NIRGraph(every, list(pairwise(names)))


def held_by(graph: Any) -> GradedLtc | tuple[GradedLayer, ...]:
    """What ``graph`` made a graph of; raises KeyError or AttributeError for one that holds other nodes."""
    after = dict(graph.edges)
    records, name = [], after["input"]
    while name != "output":
        records.append(graph.nodes[name].record)
        name = after[name]
    return records[0] if isinstance(records[0], GradedLtc) else tuple(records)
