"""The runtimes that execute a .tflite file, each in a worker process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool, ProofFailed
from ncpc.targets.tflite import libraries
from ncpc.targets.tflite.reading import File
from ncpc.worker.process import Service, borrowed, opened

Arrays = dict[str, NDArray[Any]]

REFERENCE, XNNPACK, MICRO, OLD = "litert-reference", "litert-xnnpack", "tflite-micro", "tflite-runtime"
RUNTIMES = (OLD, XNNPACK, REFERENCE, MICRO)

OLD_VERSION = "2.14.0"
OLD_PYTHON = "NCPC_TFLITE_RUNTIME_PYTHON"
"""Environment variable: the Python of an environment that has tflite-runtime, which needs NumPy below 2."""

ARENA_BYTES = 8 << 20
"""Least working memory given to TFLite Micro on the machine that verifies; the device's own arena is far smaller."""


def run(content: bytes, file: File, runtime: str, data: Mapping[str, NDArray[Any]]) -> Arrays:
    """Run raw sequences through the file in one of RUNTIMES; arrays as ``worker.drive`` takes and gives them.

    Raises MissingTool when the runtime is not installed, ProofFailed when it cannot run the file or is brought down.
    """
    with borrowed(_service(runtime), runtime) as process:
        try:
            process.ask("open", _opening(file, runtime), {"model": np.frombuffer(content, np.uint8)})
            found = process.ask("run", {}, data)
        except MissingTool as error:
            raise _missing(runtime, error) from error
    rows = data["x"].shape[:2]
    return {edge.name: found.array(edge.name, edge.dtype, (*rows, edge.size)) for edge in file.outputs}


def tensors(content: bytes, file: File, runtime: str, feeds: Mapping[str, NDArray[Any]], inputs: Mapping[str, int],
            indices: list[int]) -> Mapping[str, NDArray[Any]]:
    """Tensors by their ``indices`` in the file after each of N invokes on ``feeds``, (N, ...) by name; keys are texts.

    ``inputs`` are the feeds' indices, in the file's order. Raises what ``run`` raises.
    """
    steps = len(next(iter(feeds.values())))
    head = {**_opening(file, runtime), "inputs": dict(inputs), "read": indices, "steps": steps}
    with borrowed(_service(runtime), runtime) as process:
        found = process.ask("tensors", head, {**feeds, "model": np.frombuffer(content, np.uint8)}).arrays
    if set(found) != set(map(str, indices)) or any(len(array) != steps for array in found.values()):
        raise ProofFailed(f"{runtime} gave other tensors than it was asked for")
    return found


class RuntimeInstance:
    """One instance in a worker process, for closed loops; not for the old runtime, which runs whole sequences only."""

    def __init__(self, content: bytes, file: File, runtime: str) -> None:
        """Raises what ``run`` raises."""
        self._worker = opened(_service(runtime), runtime, {**_opening(file, runtime), "fresh": True},
                              {"model": np.frombuffer(content, np.uint8)})

    def fresh(self) -> None:
        """Load the file anew."""
        self._worker.ask("fresh")

    def invoke(self, feeds: Arrays) -> Arrays:
        """Outputs by name."""
        return dict(self._worker.ask("invoke", {}, feeds).arrays)

    def close(self) -> None:
        """End the process."""
        self._worker.close()


def _opening(file: File, runtime: str) -> dict[str, Any]:
    names = [[edge.name for edge in part] for part in (file.inputs, file.outputs)]
    return {"runtime": runtime, "arena": arena(file), "inputs": names[0], "outputs": names[1]}


def _service(runtime: str) -> Service:
    """The service in the Python that has ``runtime``. Raises MissingTool."""
    script = str(Path(__file__).with_name("worker.py"))
    if runtime != OLD:
        libraries.require("tflite_micro" if runtime == MICRO else "ai_edge_litert")
        return Service(script, sys.executable)
    python = os.environ.get(OLD_PYTHON)
    if not python:
        raise MissingTool(f"tflite-runtime {OLD_VERSION} needs an environment of its own, with numpy<2: set "
                          f"{OLD_PYTHON} to its Python")
    return Service(script, python, bare=True)


def _missing(runtime: str, error: MissingTool) -> MissingTool:
    if runtime != OLD:
        return error
    return MissingTool(f"{os.environ.get(OLD_PYTHON)}: has no tflite-runtime ({error}); pip install "
                       f"tflite-runtime=={OLD_VERSION} 'numpy<2'")


def arena(file: File) -> int:
    """Working memory in which every tensor has a place of its own, and as much again for the runtime's own."""
    return ARENA_BYTES + 2 * file.written


def version(runtime: str) -> str:
    """The version of what runs the file."""
    if runtime == OLD:
        return OLD_VERSION
    return libraries.installed("tflite-micro" if runtime == MICRO else "ai-edge-litert")


def describe(runtime: str) -> str:
    """The options it runs with."""
    return {REFERENCE: "op resolver BUILTIN_REF, 1 thread", XNNPACK: "op resolver AUTO (XNNPACK), 1 thread",
            MICRO: "Python interpreter, reference kernels",
            OLD: "op resolver BUILTIN_REF, environment with numpy<2"}[runtime]
