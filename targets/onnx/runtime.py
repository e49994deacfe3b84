"""Runs emitted files: ONNX Runtime at either optimization level, step by step or as a Scan, and onnx's evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ports import bits
from ncpc.targets.onnx.library import onnx, onnxruntime

F32 = NDArray[np.float32]
Feeds = Mapping[str, F32]
Call = Callable[[Feeds], dict[str, F32]]
"""One execution of a model: inputs by name -> outputs by name."""

REFERENCE = "onnx-reference"
ORT_PLAIN = "ort-disable-all"
ORT_FULL = "ort-enable-all"
ORT_SCAN = "ort-enable-all-scan"
RUNTIMES = (REFERENCE, ORT_PLAIN, ORT_SCAN, ORT_FULL)
_LEVELS = {ORT_PLAIN: "ORT_DISABLE_ALL", ORT_FULL: "ORT_ENABLE_ALL", ORT_SCAN: "ORT_ENABLE_ALL"}


def load(model: bytes, runtime: str) -> Call:
    """A model ready to call in ``runtime``, on one thread. Raises MissingTool."""
    return _reference(model) if runtime == REFERENCE else _session(model, _LEVELS[runtime])


def version(runtime: str) -> str:
    """The version of the library behind ``runtime``."""
    return str((onnx() if runtime == REFERENCE else onnxruntime()).__version__)


def describe(runtime: str) -> str:
    """What a reader of the report wants to know beside the library's version."""
    if runtime == REFERENCE:
        return "ReferenceEvaluator, step model"
    return f"{_LEVELS[runtime]}, CPU, 1 thread, {'sequence' if runtime == ORT_SCAN else 'step'} model"


def run_steps(call: Call, data: Sequences, start: F32, initial: F32, dt: float | None) -> Trace:
    """Step by step with carried state. ``start`` (S,) is the reset state, ``initial`` (B, S) what is begun with.

    ``dt`` is the nominal timespan, None where the model has no such input.
    """
    state, ys, states = initial, [], []
    for t in range(data.x.shape[1]):
        if data.reset is not None:
            state = np.where(data.reset[:, t, None], start, state)
        y, state = _one(call, _feeds(data, t, dt), state)
        ys.append(y)
        states.append(state)
    return as_trace(np.stack(ys, 1), np.stack(states, 1))


def run_scan(call: Call, data: Sequences, start: F32, initial: F32, dt: float | None) -> Trace:
    """Whole sequences at once, cut at resets of any row; ``state`` is known only at the end of each piece.

    States inside a piece are NaN.
    """
    batch, steps = data.x.shape[:2]
    cuts = [0, *_resets(data), steps]
    state, ys = initial, []
    states = np.full((batch, steps, start.shape[0]), np.nan, np.float32)
    for a, b in pairwise(cuts):
        if data.reset is not None:
            state = np.where(data.reset[:, a, None], start, state)
        y, state = _one(call, _feeds(data, slice(a, b), dt), state)
        ys.append(y)
        states[:, b - 1] = state
    return as_trace(np.concatenate(ys, 1), states)


def as_trace(y: F32, state: F32) -> Trace:
    """A trace of binary32 numbers; these graphs report no status bits."""
    return Trace(y.astype(np.float64), state.astype(np.float64), bits(y), bits(state), np.zeros(y.shape[:2], np.int64))


def _one(call: Call, feeds: dict[str, F32], state: F32) -> tuple[F32, F32]:
    """Outputs and next state; a model without state passes the empty one on."""
    out = call({**feeds, "state": state} if state.shape[1] else feeds)
    return out["y"], out.get("state_out", state)


def _feeds(data: Sequences, t: int | slice, dt: float | None) -> dict[str, F32]:
    feeds = {"x": data.x[:, t].astype(np.float32)}
    if dt is not None:
        spans = np.full(data.x.shape[:2], dt) if data.dt is None else data.dt
        feeds["dt"] = spans[:, t, None].astype(np.float32)
    return feeds


def _resets(data: Sequences) -> list[int]:
    """The steps but the first before which some row is reset."""
    return [] if data.reset is None else [int(t) for t in np.flatnonzero(data.reset.any(axis=0)) if t]


def _reference(model: bytes) -> Call:
    evaluator = onnx().reference.ReferenceEvaluator(model)
    names = list(evaluator.output_names)
    return lambda feeds: dict(zip(names, evaluator.run(None, dict(feeds)), strict=True))


def _session(model: bytes, level: str) -> Call:
    session = make_session(model, level)
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def make_session(model: bytes, level: str) -> Any:
    """An ONNX Runtime session on the CPU with one thread."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
