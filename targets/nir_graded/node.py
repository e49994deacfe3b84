"""The node type ``GradedLTC`` for nir, and its registration: nir.read knows only the types it has a name for."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ncpc.targets.nir.graph import library
from ncpc.targets.nir_graded.record import GradedLtc, from_fields, to_fields

NAME = "GradedLTC"


@cache
def node_class() -> Any:
    """The class, a ``nir.NIRNode``; raises MissingTool without nir."""
    base: Any = library().NIRNode

    class GradedLTC(base):  # type: ignore[misc]
        """An LTC layer in integers; see ``ncpc.targets.nir_graded.record`` for its arithmetic."""

        def __init__(self, **fields: Any) -> None:
            self.metadata = fields.pop("metadata", {})
            self.record: GradedLtc = from_fields(fields)
            self.input_type = {"input": np.array([len(self.record.x_lo)])}
            self.output_type = {"output": np.array([len(self.record.output_w)])}

        def to_dict(self) -> dict[str, Any]:
            return {**to_fields(self.record), "type": NAME}

    return GradedLTC


def register() -> None:
    """Make ``nir.read`` and ``nir.dict2NIRNode`` know the node; calling it again changes nothing."""
    module = library().ir
    if not hasattr(module, NAME):
        setattr(module, NAME, node_class())
        getattr(module, "__all_ir").append(NAME)


def node(record: GradedLtc) -> Any:
    """``record`` as a node."""
    return node_class()(**to_fields(record))


def graph(record: GradedLtc) -> Any:
    """Input -> GradedLTC -> Output."""
    nir = library()
    register()
    layer = node(record)
    nodes = {"input": nir.Input(input_type=dict(layer.input_type)), "ltc": layer,
             "output": nir.Output(output_type=dict(layer.output_type))}
    return nir.NIRGraph(nodes, [("input", "ltc"), ("ltc", "output")])
