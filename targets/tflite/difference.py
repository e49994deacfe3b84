"""Which operators of a runtime differ from the model of their kernels, and by how much.

Every operator is fed what the runtime itself fed it, so one that differs does not taint those after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.tflite import libraries, runtimes
from ncpc.targets.tflite.graph import Graph
from ncpc.targets.tflite.kernels import Kernel, prepare
from ncpc.targets.tflite.reading import read

Read = Callable[[str], NDArray[Any]]


def unequal(content: bytes, graph: Graph, runtime: str, steps: int) -> dict[str, dict[str, int]]:
    """Operator -> how many of its results differed, and by how many units at most; in ``steps`` steps of random inputs
    and states over the whole of their types. Empty where ``runtime`` and the model are the same.
    """
    step, rng = _stepper(content, graph, runtime), np.random.default_rng(0)
    found: dict[str, dict[str, int]] = {}
    kernels = [_kernel(graph, k) for k in range(len(graph.nodes))]
    for _ in range(steps):
        read = step({name: _random(rng, graph, name) for name in graph.inputs})
        for node, kernel in zip(graph.nodes, kernels, strict=True):
            expected = kernel([_raw(graph, read, name) for name in node.inputs])
            _note(found, node.op, np.abs(expected - _raw(graph, read, node.outputs[0])))
    return found


def _note(found: dict[str, dict[str, int]], op: str, gap: NDArray[np.int64]) -> None:
    if gap.any():
        entry = found.setdefault(op, {"results": 0, "units": 0})
        entry["results"] += int(np.count_nonzero(gap))
        entry["units"] = max(entry["units"], int(gap.max()))


def _kernel(graph: Graph, k: int) -> Kernel:
    node = graph.nodes[k]
    return prepare(node, [graph.tensors[name] for name in node.inputs], graph.tensors[node.outputs[0]])


def _random(rng: np.random.Generator, graph: Graph, name: str) -> NDArray[Any]:
    tensor = graph.tensors[name]
    info = np.iinfo(tensor.dtype)
    return rng.integers(info.min, info.max, tensor.shape, dtype=tensor.dtype, endpoint=True)


def _raw(graph: Graph, read: Read, name: str) -> NDArray[np.int64]:
    data = graph.tensors[name].data
    return (read(name) if data is None else data).reshape(-1).astype(np.int64)


def _stepper(content: bytes, graph: Graph, runtime: str) -> Callable[[dict[str, NDArray[Any]]], Read]:
    """Runs one step and gives access to every tensor by name; tensors stand in the file in the graph's order."""
    index = {name: k for k, name in enumerate(graph.tensors)}
    return _micro(content, graph, index) if runtime == runtimes.MICRO else _litert(content, graph, index, runtime)


def _litert(content: bytes, graph: Graph, index: dict[str, int], runtime: str) -> Callable[..., Read]:
    interpreter = runtimes.litert(content, runtime, keep_all=True)
    interpreter.allocate_tensors()

    def step(feeds: dict[str, NDArray[Any]]) -> Read:
        for name, array in feeds.items():
            interpreter.set_tensor(index[name], array)
        interpreter.invoke()
        return lambda name: np.asarray(interpreter.get_tensor(index[name]))

    return step


def _micro(content: bytes, graph: Graph, index: dict[str, int]) -> Callable[..., Read]:
    module = libraries.micro()
    size = runtimes.arena(read(content, graph.name))
    interpreter = module.Interpreter.from_bytes(
        content, arena_size=size, intrepreter_config=module.InterpreterConfig.kPreserveAllTensors)

    def step(feeds: dict[str, NDArray[Any]]) -> Read:
        for position, name in enumerate(graph.inputs):
            interpreter.set_input(feeds[name], position)
        interpreter.invoke()
        return lambda name: np.asarray(interpreter.GetTensor(index[name], 0)["tensor_data"])

    return step
