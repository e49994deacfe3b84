"""Runs emitted files: ONNX Runtime at either optimization level, step by step or as a Scan, and onnx's evaluator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ports import bits
from ncpc.system.onnx_library import onnx, require_runtime
from ncpc.worker import onnx_runtime
from ncpc.worker.onnx_runtime import Call, drive_steps
from ncpc.worker.process import Service, Worker, borrowed, opened

F32 = NDArray[np.float32]

REFERENCE = "onnx-reference"
ORT_PLAIN = "ort-disable-all"
ORT_FULL = "ort-enable-all"
ORT_SCAN = "ort-enable-all-scan"
RUNTIMES = (REFERENCE, ORT_PLAIN, ORT_SCAN, ORT_FULL)
_LEVELS = {ORT_PLAIN: "ORT_DISABLE_ALL", ORT_FULL: "ORT_ENABLE_ALL", ORT_SCAN: "ORT_ENABLE_ALL"}
SERVICE = Service(str(onnx_runtime.__file__))


@dataclass(frozen=True)
class Start:
    """What sequences begin with: ``reset`` (S,) is the reset state, ``initial`` (B, S) the first one; ``dt`` is the
    nominal timespan, None where the model has no such input.
    """

    reset: F32
    initial: F32
    dt: float | None


def run(model: bytes, runtime: str, data: Sequences, start: Start, outputs: int) -> tuple[Trace, str]:
    """``data`` through a model with so many outputs, on one thread, and the version of what ran it.

    Raises MissingTool, and ProofFailed where ONNX Runtime does not run the model or is brought down.
    """
    given = arrays(data, start)
    if runtime == REFERENCE:
        return as_trace(drive_steps(_reference(model), given)), str(onnx().__version__)
    require_runtime()
    with borrowed(SERVICE, runtime) as worker:
        version = str(worker.ask("open", *_opening(model, runtime)).head["version"])
        found = worker.ask("scan" if runtime == ORT_SCAN else "steps", {}, given)
    shape, sizes = data.x.shape[:2], {"state": start.reset.shape[0], "y": outputs}
    return as_trace({name: found.array(name, np.float32, (*shape, n)) for name, n in sizes.items()}), version


def load(model: bytes, runtime: str) -> Loaded:
    """A model held open, on one thread. Raises what ``run`` raises."""
    if runtime == REFERENCE:
        return Loaded(_reference(model))
    require_runtime()
    worker = opened(SERVICE, runtime, *_opening(model, runtime))
    return Loaded(lambda feeds: dict(worker.ask("call", {}, feeds).arrays), worker)


@dataclass(frozen=True)
class Loaded:
    """A model to execute once at a time; ``worker`` is the process behind it, if there is one."""

    call: Call
    worker: Worker | None = None

    def close(self) -> None:
        """End what runs behind."""
        if self.worker is not None:
            self.worker.close()


def describe(runtime: str) -> str:
    """What a reader of the report wants to know beside the library's version."""
    if runtime == REFERENCE:
        return "ReferenceEvaluator, step model"
    return f"{_LEVELS[runtime]}, CPU, 1 thread, {'sequence' if runtime == ORT_SCAN else 'step'} model"


def arrays(data: Sequences, start: Start) -> dict[str, NDArray[Any]]:
    """What ``drive_steps`` and ``drive_scan`` take."""
    given: dict[str, NDArray[Any]] = {"x": data.x.astype(np.float32), "start": start.reset, "initial": start.initial}
    if data.reset is not None:
        given["reset"] = data.reset
    if start.dt is not None:
        spans = np.full(data.x.shape[:2], start.dt) if data.dt is None else data.dt
        given["dt"] = spans.astype(np.float32)
    return given


def run_steps(call: Call, data: Sequences, start: Start) -> Trace:
    """``data`` step by step through what is called in this process."""
    return as_trace(drive_steps(call, arrays(data, start)))


def as_trace(found: dict[str, F32]) -> Trace:
    """A trace of binary32 numbers; these graphs report no status bits."""
    y, state = found["y"], found["state"]
    return Trace(y.astype(np.float64), state.astype(np.float64), bits(y), bits(state), np.zeros(y.shape[:2], np.int64))


def _reference(model: bytes) -> Call:
    evaluator = onnx().reference.ReferenceEvaluator(model)
    names = list(evaluator.output_names)
    return lambda feeds: dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))


def _opening(model: bytes, runtime: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"level": _LEVELS[runtime]}, {"model": np.frombuffer(model, np.uint8)}

