"""The service of the TFLite runtimes: files loaded and run by a worker process, in this or another environment.

Needs NumPy and the runtime alone (``ncpc.worker``). Arrays are raw: ``x`` (B, T, n); optional ``dt`` (B, T) and
``reset`` (B, T); ``start_<state>`` (B, n); ``reset_<state>`` (n,). A file that keeps its states has neither of the last
two: it is loaded anew for every reset.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Head = Mapping[str, Any]
    Arrays = dict[str, np.ndarray[Any, Any]]
    Given = Mapping[str, np.ndarray[Any, Any]]
    Found = tuple[dict[str, Any], Arrays]
    Invoke = Callable[[Given], Arrays]


def commands(alive: Callable[[], None]) -> dict[str, Callable[[Head, Given], Found]]:
    """``open`` takes a file; ``run`` steps whole sequences, ``fresh`` and ``invoke`` one instance, ``tensors`` gives
    every tensor that is asked for.
    """
    opened: list[Callable[[], Invoke]] = []
    held: list[Invoke] = []

    def load(head: Head, arrays: Given) -> Found:
        model = arrays["model"].tobytes()
        opened[:] = [loader(head["runtime"], model, head["arena"], head["inputs"], head["outputs"])]
        return fresh(head, arrays) if head.get("fresh") else ({}, {})

    def fresh(head: Head, arrays: Given) -> Found:
        held[:] = [opened[0]()]
        return {}, {}

    return {"open": load, "fresh": fresh, "run": lambda head, arrays: ({}, drive(opened[0], arrays, alive)),
            "invoke": lambda head, arrays: ({}, held[0](arrays)),
            "tensors": lambda head, arrays: ({}, tensors(head, arrays, alive))}


def drive(load: Callable[[], Invoke], data: Given, alive: Callable[[], Any]) -> Arrays:
    """Step every sequence with carried state; every output by name, (B, T, n) each. ``load`` gives a fresh model."""
    rows, steps = data["x"].shape[:2]
    states = [name[len("start_"):] for name in data if name.startswith("start_")]
    kept: dict[str, list[np.ndarray[Any, Any]]] = {}
    invoke = load()
    for b in range(rows):
        invoke = invoke if states else load()
        state = {s: data[f"start_{s}"][b : b + 1] for s in states}
        for t in range(steps):
            alive()
            if "reset" in data and data["reset"][b, t]:
                invoke = invoke if states else load()
                state = {s: data[f"reset_{s}"][None] for s in states}
            feeds = {"x": data["x"][b, t][None], **state}
            if "dt" in data:
                feeds["dt"] = data["dt"][b, t : t + 1]
            found = invoke(feeds)
            state = {s: found[f"{s}_out"] for s in states}
            for name, value in found.items():
                kept.setdefault(name, []).append(value[0].copy())
    return {name: np.array(values).reshape(rows, steps, -1) for name, values in kept.items()}


def invoker(interpreter: Any) -> Invoke:
    """A LiteRT or tflite-runtime interpreter as a function of named arrays."""
    interpreter.allocate_tensors()
    inputs = {d["name"]: d["index"] for d in interpreter.get_input_details()}
    outputs = {d["name"]: d["index"] for d in interpreter.get_output_details()}

    def invoke(feeds: Given) -> Arrays:
        for name, index in inputs.items():
            interpreter.set_tensor(index, feeds[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}

    return invoke


def loader(runtime: str, model: bytes, arena: int, inputs: list[str], outputs: list[str]) -> Callable[[], Invoke]:
    """What gives a fresh model in ``runtime``. TFLite Micro knows its edges by position only: it needs working memory,
    in bytes, and their names.
    """
    if runtime == "tflite-micro":
        return lambda: micro_invoker(model, arena, inputs, outputs)
    return lambda: invoker(litert(runtime, model))


def litert(runtime: str, model: bytes, keep_all: bool = False) -> Any:
    """An interpreter object of LiteRT or tflite-runtime; ``keep_all`` keeps every tensor readable after an invoke."""
    old = runtime == "tflite-runtime"
    module = importlib.import_module("tflite_runtime.interpreter" if old else "ai_edge_litert.interpreter")
    kinds = module.OpResolverType
    resolver = kinds.AUTO if runtime == "litert-xnnpack" else kinds.BUILTIN_REF
    return module.Interpreter(model_content=model, num_threads=1, experimental_op_resolver_type=resolver,
                              experimental_preserve_all_tensors=keep_all)


def micro() -> Any:
    """TFLite Micro's module."""
    return importlib.import_module("tflite_micro.python.tflite_micro.runtime")


def micro_invoker(model: bytes, arena: int, inputs: list[str], outputs: list[str]) -> Invoke:
    """TFLite Micro may reuse the memory of its inputs: they are all set before every invoke."""
    interpreter = micro().Interpreter.from_bytes(model, arena_size=arena)

    def invoke(feeds: Given) -> Arrays:
        for index, name in enumerate(inputs):
            interpreter.set_input(feeds[name], index)
        interpreter.invoke()
        return {name: interpreter.get_output(index) for index, name in enumerate(outputs)}

    return invoke


def tensors(head: Head, arrays: Given, alive: Callable[[], Any]) -> Arrays:
    """Tensors by their index in the file (``read``) after each of N invokes: (N, ...). ``arrays``: the ``model``, and
    each input of the file (``inputs``, name -> index) as (N, ...).
    """
    model, inputs = arrays["model"].tobytes(), head["inputs"]
    step = (_micro_step if head["runtime"] == "tflite-micro" else _litert_step)(head, model)
    found: dict[str, list[Any]] = {str(index): [] for index in head["read"]}
    for t in range(head["steps"]):
        alive()
        read = step({name: arrays[name][t] for name in inputs})
        for index in head["read"]:
            found[str(index)].append(np.array(read(index)))
    return {index: np.array(values) for index, values in found.items()}


def _litert_step(head: Head, model: bytes) -> Callable[[Given], Callable[[int], Any]]:
    interpreter = litert(head["runtime"], model, keep_all=True)
    interpreter.allocate_tensors()

    def step(feeds: Given) -> Callable[[int], Any]:
        for name, array in feeds.items():
            interpreter.set_tensor(head["inputs"][name], array)
        interpreter.invoke()
        return lambda index: interpreter.get_tensor(index)

    return step


def _micro_step(head: Head, model: bytes) -> Callable[[Given], Callable[[int], Any]]:
    module = micro()
    interpreter = module.Interpreter.from_bytes(
        model, arena_size=head["arena"], intrepreter_config=module.InterpreterConfig.kPreserveAllTensors)

    def step(feeds: Given) -> Callable[[int], Any]:
        for position, array in enumerate(feeds.values()):
            interpreter.set_input(array, position)
        interpreter.invoke()
        return lambda index: interpreter.GetTensor(index, 0)["tensor_data"]

    return step
