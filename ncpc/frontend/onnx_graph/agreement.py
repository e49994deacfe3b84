"""Does the policy compute what the ONNX file computes, run by ONNX Runtime?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, ProofFailed
from ncpc.frontend.agreement import probes, require_close
from ncpc.frontend.onnx_graph.file import FixedBatch, OnnxPort
from ncpc.frontend.onnx_graph.layout import CallForm
from ncpc.frontend.onnx_graph.read import OnnxReading
from ncpc.ir.policy import Policy
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.run import run
from ncpc.worker import onnx_runtime
from ncpc.worker.process import Service, borrowed

F64 = NDArray[np.float64]


def check_agreement(reading: OnnxReading, policy: Policy, where: str) -> None:
    """Run ``policy`` and the file side by side, on the calibration and on random sequences, each from states of zeros
    that are carried from step to step (or in one call, where the file keeps them inside).

    ONNX Runtime computes in the file's own precision: what counts as a difference is what ``require_close`` says.
    Raises ``BadInput``; where ONNX Runtime does not run the file too.
    """
    program, layout = lower(policy), reading.layout
    for data in probes(policy):
        x = _representable(data.x, layout)
        x = x if layout.window is None else np.take(x, range(layout.window), axis=1, mode="wrap")
        short = replace(data, x=x, dt=np.full(x.shape[:2], policy.dt.nominal))
        found = _outputs(reading, x, where)
        exact, single = (run(made, short).y[:, -found.shape[1] :] for made in (program, to_float32(program)))
        require_close(found, exact, single, where, f"{reading.file.where} in ONNX Runtime",
                      "are all states named by --carry? Otherwise please report it, with the file")


def _representable(x: F64, layout: CallForm) -> F64:
    """Inputs as the file can take them: rounded to its kind of numbers."""
    parts = [_rounded(part, np.dtype(port.dtype)) for port, part in _each(x, layout)]
    return np.concatenate(parts, axis=-1).astype(np.float64)


def _each(x: F64, layout: CallForm) -> Iterator[tuple[OnnxPort, F64]]:
    """The inputs, with what of the policy's (..., inputs) is theirs."""
    widths = [math.prod(layout.shapes[port.name]) for port in layout.inputs]
    return zip(layout.inputs, np.split(x, np.cumsum(widths)[:-1], axis=-1), strict=True)


def _rounded(part: F64, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind not in "iu":
        return part.astype(dtype)
    ends = np.iinfo(dtype)
    return np.rint(part).clip(ends.min, ends.max).astype(dtype)


def _outputs(reading: OnnxReading, x: F64, where: str) -> F64:
    """What the file gives, (B, T, outputs), or (B, 1, outputs) where it gives the last step alone."""
    layout = reading.layout
    head = {"carry": list(layout.carry.items()), "outputs": [port.name for port in reading.outputs]}
    batch = reading.file.batch
    states = {port.name: np.zeros([n or (batch.rows if batch else 1) for n in port.dims], port.dtype)
              for port in layout.states}
    arrays = {**_given(x, layout), **states}
    if batch:
        arrays |= {port.name: _among_others(arrays[port.name], batch, port.name) for port in layout.inputs}
    try:
        with borrowed(SERVICE, "ONNX Runtime") as worker:
            worker.ask("open", {"level": "ORT_ENABLE_ALL"}, {"model": np.frombuffer(reading.file.content, np.uint8)})
            answer = worker.ask("carried", head, arrays).arrays
            if batch:
                answer = {name: y.take([0], axis=2 + batch.axes[name]) for name, y in answer.items()}
    except ProofFailed as error:
        raise BadInput(f"{where}: {reading.file.where} cannot be run to compare with ({error})") from None
    return np.concatenate([_over_time(answer[port.name], port, layout, x.shape[1]) for port in reading.outputs], axis=2)


def _given(x: F64, layout: CallForm) -> dict[str, NDArray[Any]]:
    """Each input of each call, (B, calls, *dimensions)."""
    rows, steps = x.shape[:2]
    each = 1 if layout.time is None else steps
    return {port.name: part.reshape(rows, steps // each, *layout.given_shape(port, each)).astype(port.dtype)
            for port, part in _each(x, layout)}


def _among_others(part: NDArray[Any], batch: FixedBatch, name: str) -> NDArray[Any]:
    """An input (B, calls, *dimensions) of one row each as the first of so many; the others hold other steps, so that
    rows which are none show.
    """
    along = 1 if part.shape[1] > 1 else 2 + int(not batch.axes[name])
    others = [np.roll(part, k, axis=along) for k in range(batch.rows)]
    return np.concatenate(others, axis=2 + batch.axes[name])


def _over_time(y: NDArray[Any], port: OnnxPort, layout: CallForm, steps: int) -> F64:
    """An output of each call as (B, T, width)."""
    rows, calls = y.shape[:2]
    each = layout.rows(port, y.shape[2:], steps // calls)
    return y.astype(np.float64).reshape(rows, calls * each, -1)


SERVICE = Service(str(onnx_runtime.__file__))
