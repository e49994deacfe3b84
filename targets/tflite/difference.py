"""Which operators of a runtime differ from the model of their kernels, and by how much.

Every operator is fed what the runtime itself fed it, so one that differs does not taint those after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.tflite import runtimes
from ncpc.targets.tflite.graph import TfliteGraph
from ncpc.targets.tflite.kernels import Kernel, prepare
from ncpc.targets.tflite.reading import read

Seen = Mapping[str, NDArray[Any]]

def unequal(content: bytes, graph: TfliteGraph, runtime: str, steps: int) -> dict[str, dict[str, int]]:
    """Operator -> how many of its results differed, and by how many units at most; in ``steps`` steps of random inputs
    and states over the whole of their types. Empty where ``runtime`` and the model are the same.
    """
    rng, found = np.random.default_rng(0), dict[str, dict[str, int]]()
    drawn = [{name: _random(rng, graph, name) for name in graph.inputs} for _ in range(steps)]
    seen = _seen(content, graph, runtime, {name: np.array([feeds[name] for feeds in drawn]) for name in graph.inputs})
    kernels = [_kernel(graph, k) for k in range(len(graph.nodes))]
    for t in range(steps):
        for node, kernel in zip(graph.nodes, kernels, strict=True):
            expected = kernel([_raw(graph, seen, name, t) for name in node.inputs])
            _note(found, node.kind, np.abs(expected - _raw(graph, seen, node.outputs[0], t)))
    return found


def _note(found: dict[str, dict[str, int]], op: str, gap: NDArray[np.int64]) -> None:
    if gap.any():
        entry = found.setdefault(op, {"results": 0, "units": 0})
        entry["results"] += int(np.count_nonzero(gap))
        entry["units"] = max(entry["units"], int(gap.max()))


def _kernel(graph: TfliteGraph, k: int) -> Kernel:
    node = graph.nodes[k]
    return prepare(node, [graph.tensors[name] for name in node.inputs], graph.tensors[node.outputs[0]])


def _random(rng: np.random.Generator, graph: TfliteGraph, name: str) -> NDArray[Any]:
    tensor = graph.tensors[name]
    info = np.iinfo(tensor.dtype)
    return rng.integers(info.min, info.max, tensor.shape, dtype=tensor.dtype, endpoint=True)


def _raw(graph: TfliteGraph, seen: Seen, name: str, t: int) -> NDArray[np.int64]:
    data = graph.tensors[name].data
    return (seen[name][t] if data is None else data).reshape(-1).astype(np.int64)


def _seen(content: bytes, graph: TfliteGraph, runtime: str, feeds: Seen) -> Seen:
    """Every tensor that is no constant after each step; tensors stand in the file in the graph's order."""
    index = {name: k for k, name in enumerate(graph.tensors)}
    wanted = {name: index[name] for node in graph.nodes for name in (*node.inputs, *node.outputs)
              if graph.tensors[name].data is None}
    found = runtimes.tensors(content, read(content, graph.name), runtime, feeds,
                             {name: index[name] for name in graph.inputs}, sorted(wanted.values()))
    return {name: found[str(k)] for name, k in wanted.items()}
