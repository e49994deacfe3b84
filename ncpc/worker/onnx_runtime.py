"""The service of ONNX Runtime: models loaded and run by a worker process.

Needs NumPy and the runtime alone (``ncpc.worker``). What drives a model over sequences serves every evaluator.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

Head = Mapping[str, Any]
Arrays = Mapping[str, "np.ndarray[Any, Any]"]
Found = tuple[dict[str, Any], "dict[str, np.ndarray[Any, Any]]"]
F32 = np.ndarray[Any, np.dtype[np.float32]]
Call = Callable[[Mapping[str, F32]], "dict[str, F32]"]
"""One execution of a model: inputs by name -> outputs by name."""


def drive_steps(call: Call, data: Arrays, alive: Callable[[], Any] = bool) -> dict[str, F32]:
    """Step by step with carried state: ``y`` and ``state`` (B, T, n).

    ``data``: ``x`` (B, T, n), ``start`` (S,) the reset state, ``initial`` (B, S) what is begun with, and, where there
    are such, ``reset`` (B, T) and the model's input ``dt`` (B, T).
    """
    state, ys, states = data["initial"], [], []
    for t in range(data["x"].shape[1]):
        alive()
        if "reset" in data:
            state = np.where(data["reset"][:, t, None], data["start"], state)
        y, state = _one(call, _feeds(data, t), state)
        ys.append(y)
        states.append(state)
    return {"y": np.stack(ys, 1), "state": np.stack(states, 1)}


def drive_scan(call: Call, data: Arrays, alive: Callable[[], Any] = bool) -> dict[str, F32]:
    """Whole sequences at once, cut at resets of any row; ``state`` is known only at the end of each piece.

    States inside a piece are NaN.
    """
    batch, steps = data["x"].shape[:2]
    cuts = [0, *_resets(data), steps]
    state, ys = data["initial"], []
    states = np.full((batch, steps, data["start"].shape[0]), np.nan, np.float32)
    for a, b in pairwise(cuts):
        alive()
        if "reset" in data:
            state = np.where(data["reset"][:, a, None], data["start"], state)
        y, state = _one(call, _feeds(data, slice(a, b)), state)
        ys.append(y)
        states[:, b - 1] = state
    return {"y": np.concatenate(ys, 1), "state": states}


def _one(call: Call, feeds: dict[str, F32], state: F32) -> tuple[F32, F32]:
    """Outputs and next state; a model without state passes the empty one on."""
    out = call({**feeds, "state": state} if state.shape[1] else feeds)
    return out["y"], out.get("state_out", state)


def _feeds(data: Arrays, t: int | slice) -> dict[str, F32]:
    feeds = {"x": data["x"][:, t]}
    if "dt" in data:
        feeds["dt"] = data["dt"][:, t, None]
    return feeds


def _resets(data: Arrays) -> list[int]:
    """The steps but the first before which some row is reset."""
    return [int(t) for t in np.flatnonzero(data["reset"].any(axis=0)) if t] if "reset" in data else []


def drive_carried(call: Call, head: Head, data: Arrays, alive: Callable[[], Any] = bool
                  ) -> dict[str, np.ndarray[Any, Any]]:
    """A model of any names: each input (B, calls, ...), its states ``carry`` (input and output by name) from what
    stands under the input's name; ``outputs``, each (B, calls, ...).
    """
    carry, names = dict(head["carry"]), list(head["outputs"])
    given = {name: array for name, array in data.items() if name not in carry}
    rows, calls = next(iter(given.values())).shape[:2]
    found: dict[str, list[Any]] = {name: [] for name in names}
    for row in range(rows):
        state = {name: data[name] for name in carry}
        for k in range(calls):
            alive()
            out = call({**{name: array[row, k] for name, array in given.items()}, **state})
            state = {taken: out[kept] for taken, kept in carry.items()}
            for name in names:
                found[name].append(out[name])
    return {name: np.stack(parts).reshape(rows, calls, *parts[0].shape) for name, parts in found.items()}


def make_session(model: bytes, level: str) -> Any:
    """An ONNX Runtime session on the CPU with one thread."""
    ort = importlib.import_module("onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _caller(session: Any) -> Call:
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, dict(feeds)), strict=True))


def commands(alive: Callable[[], None]) -> dict[str, Callable[[Head, Arrays], Found]]:
    """``open`` loads a model; ``call`` executes it once, ``steps``, ``scan`` and ``carried`` over sequences."""
    opened: list[Call] = []

    def load(head: Head, arrays: Arrays) -> Found:
        opened[:] = [_caller(make_session(arrays["model"].tobytes(), head["level"]))]
        return {"version": str(importlib.import_module("onnxruntime").__version__)}, {}

    return {"open": load, "call": lambda head, arrays: ({}, opened[0](arrays)),
            "steps": lambda head, arrays: ({}, drive_steps(opened[0], arrays, alive)),
            "carried": lambda head, arrays: ({}, drive_carried(opened[0], head, arrays, alive)),
            "scan": lambda head, arrays: ({}, drive_scan(opened[0], arrays, alive))}
