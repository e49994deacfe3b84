"""Executes an integer graph in NumPy with the kernels' own arithmetic: the model that runtimes are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.graph.nodes import Node
from ncpc.targets.tflite.graph import TfliteGraph
from ncpc.targets.tflite.kernels import Kernel, prepare

I64 = NDArray[np.int64]


class IntegerModel:
    """A graph ready to step on a whole batch: raw integers (B, n) by signature name."""

    def __init__(self, graph: TfliteGraph) -> None:
        self.graph = graph
        self._constants = {name: t.data.reshape(-1).astype(np.int64) for name, t in graph.tensors.items()
                           if t.data is not None}
        self._steps = [(node.inputs, node.outputs[0], _kernel(graph, node)) for node in graph.nodes]

    def invoke(self, inputs: Mapping[str, NDArray[np.signedinteger]]) -> dict[str, I64]:
        """One step: the outputs by name."""
        env = self.trace(inputs)
        return {name: env[name] for name in self.graph.outputs}

    def run(self, data: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Whole sequences, all rows at once; arrays as ``worker.drive`` takes and gives them."""
        states = [name for name in self.graph.inputs if f"start_{name}" in data]
        now = {name: data[f"start_{name}"] for name in states}
        kept: dict[str, list[I64]] = {name: [] for name in self.graph.outputs}
        for t in range(data["x"].shape[1]):
            if "reset" in data:
                rows = data["reset"][:, t][:, None]
                now = {name: np.where(rows, data[f"reset_{name}"], now[name]) for name in states}
            found = self.invoke({"x": data["x"][:, t], **now})
            now = {name: found[f"{name}_out"] for name in states}
            for name, values in kept.items():
                values.append(found[name])
        return {name: np.stack(values, axis=1) for name, values in kept.items()}

    def trace(self, inputs: Mapping[str, NDArray[np.signedinteger]]) -> dict[str, I64]:
        """One step: every tensor by name, (B, n) where it is no constant."""
        env = dict(self._constants)
        env.update({name: np.asarray(inputs[name]).astype(np.int64) for name in self.graph.inputs})
        for names, target, kernel in self._steps:
            env[target] = kernel([env[name] for name in names])
        return env


def _kernel(graph: TfliteGraph, node: Node) -> Kernel:
    return prepare(node, [graph.tensors[name] for name in node.inputs], graph.tensors[node.outputs[0]])
