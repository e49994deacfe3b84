"""The runtimes that execute a .tflite file, as functions of named raw arrays."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool, ProofFailed
from ncpc.targets.tflite import libraries, worker
from ncpc.targets.tflite.reading import File

Arrays = dict[str, NDArray[Any]]
Invoke = Callable[[Arrays], Arrays]

REFERENCE, XNNPACK, MICRO, OLD = "litert-reference", "litert-xnnpack", "tflite-micro", "tflite-runtime"
RUNTIMES = (OLD, XNNPACK, REFERENCE, MICRO)

OLD_VERSION = "2.14.0"
OLD_PYTHON = "NCPC_TFLITE_RUNTIME_PYTHON"
"""Environment variable: the Python of an environment that has tflite-runtime, which needs NumPy below 2."""

ARENA_BYTES = 8 << 20
"""Least working memory given to TFLite Micro on the machine that verifies; the device's own arena is far smaller."""


def run(content: bytes, file: File, runtime: str, data: Mapping[str, NDArray[Any]]) -> Arrays:
    """Run raw sequences through the file in one of RUNTIMES; arrays as ``worker.drive`` takes and gives them.

    Raises MissingTool when the runtime is not installed, ProofFailed when it cannot run the file.
    """
    if runtime == OLD:
        return _in_old_runtime(content, data)
    return worker.drive(lambda: load(content, file, runtime), data)


def load(content: bytes, file: File, runtime: str) -> Invoke:
    """One step as a function; not for the old runtime, which lives in an environment of its own."""
    try:
        return _micro(content, file) if runtime == MICRO else worker.invoker(litert(content, runtime))
    except (RuntimeError, ValueError) as error:
        raise ProofFailed(f"{runtime} cannot run the file: {_last_line(str(error))}") from error


def litert(content: bytes, runtime: str, keep_all: bool = False) -> Any:
    """LiteRT's own interpreter object; ``keep_all`` keeps every tensor readable after an invoke."""
    module = libraries.litert()
    kinds = {REFERENCE: module.OpResolverType.BUILTIN_REF, XNNPACK: module.OpResolverType.AUTO}
    return module.Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kinds[runtime],
                              experimental_preserve_all_tensors=keep_all)


def arena(file: File) -> int:
    """Working memory in which every tensor has a place of its own, and as much again for the runtime's own."""
    return ARENA_BYTES + 2 * file.written


def _micro(content: bytes, file: File) -> Invoke:
    """TFLite Micro may reuse the memory of its inputs: they are all set before every invoke."""
    interpreter = libraries.micro().Interpreter.from_bytes(content, arena_size=arena(file))

    def invoke(feeds: Arrays) -> Arrays:
        for index, edge in enumerate(file.inputs):
            interpreter.set_input(feeds[edge.name], index)
        interpreter.invoke()
        return {edge.name: interpreter.get_output(index) for index, edge in enumerate(file.outputs)}

    return invoke


def _in_old_runtime(content: bytes, data: Mapping[str, NDArray[Any]]) -> Arrays:
    python = os.environ.get(OLD_PYTHON)
    if not python:
        raise MissingTool(f"tflite-runtime {OLD_VERSION} needs an environment of its own, with numpy<2: set "
                          f"{OLD_PYTHON} to its Python")
    with tempfile.TemporaryDirectory() as scratch:
        model, source, target = (Path(scratch, name) for name in ("model.tflite", "in.npz", "out.npz"))
        model.write_bytes(content)
        worker.store(str(source), data)
        _call([python, str(Path(worker.__file__)), str(model), str(source), str(target)])
        with np.load(target) as found:
            return dict(found)


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_bare_environment())
    except OSError as error:
        raise MissingTool(f"{command[0]}: cannot be run ({error.strerror}); set {OLD_PYTHON} to a Python") from error
    if "No module named 'tflite_runtime'" in done.stderr:
        raise MissingTool(f"{command[0]}: has no tflite-runtime; pip install tflite-runtime=={OLD_VERSION} 'numpy<2'")
    if done.returncode:
        raise ProofFailed(f"tflite-runtime cannot run the file: {_last_line(done.stderr)}")


def _bare_environment() -> dict[str, str]:
    """Without this environment's packages on the path of the other."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


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
