"""Runs a .tflite file over sequences; also a script for an interpreter of its own, which then needs NumPy alone.

As a script: ``python worker.py MODEL.tflite IN.npz OUT.npz`` with the package ``tflite_runtime``. Every array is raw:
``x`` (B, T, n); optional ``dt`` (B, T) and ``reset`` (B, T); ``start_<state>`` (B, n); ``reset_<state>`` (n,). A file
that keeps its states has neither of the last two: it is loaded anew for every reset.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Arrays = dict[str, np.ndarray[Any, Any]]
    Invoke = Callable[[Arrays], Arrays]


def drive(load: Callable[[], Invoke], data: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Step every sequence with carried state; every output by name, (B, T, n) each. ``load`` gives a fresh model."""
    rows, steps = data["x"].shape[:2]
    states = [name[len("start_"):] for name in data if name.startswith("start_")]
    kept: dict[str, list[np.ndarray[Any, Any]]] = {}
    invoke = load()
    for b in range(rows):
        invoke = invoke if states else load()
        state = {s: data[f"start_{s}"][b : b + 1] for s in states}
        for t in range(steps):
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

    def invoke(feeds: Arrays) -> Arrays:
        for name, index in inputs.items():
            interpreter.set_tensor(index, feeds[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in outputs.items()}

    return invoke


def store(path: str, arrays: Mapping[str, Any]) -> None:
    """Arrays as an npz file."""
    named: dict[str, Any] = dict(arrays)
    np.savez(path, **named)


def main(model: str, source: str, target: str) -> None:
    """The script."""
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    def load() -> Invoke:
        return invoker(Interpreter(model_path=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF))

    with np.load(source) as data:
        store(target, drive(load, dict(data)))


if __name__ == "__main__":
    main(*sys.argv[1:])
