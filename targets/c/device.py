"""The generated C as it is called, here or on a simulated core: between a program's numbers and the bytes exchanged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.cores import Core
from ncpc.errors import ProofFailed
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import ports
from ncpc.semantics.restore import numbers
from ncpc.semantics.run import encoded_dt, trace_of
from ncpc.sim.plan import CallInterface, CallPlan, SimResult
from ncpc.targets.base import CycleCounts
from ncpc.targets.c.interface import Interface, from_bytes, to_bytes
from ncpc.targets.c.statements import NEURON_END, NEURON_LABEL, profiled

STEPPING, BESIDE = ("init", "reset", "step"), ("restore", "save", "self_test")


def symbol_roots(face: Interface, whole: bool = False) -> tuple[str, ...]:
    """The functions that stay in the linked program; ``whole``: all of the header's."""
    return tuple(f"{face.name}_{function}" for function in (*STEPPING, *(BESIDE if whole else ())))


def calls(face: Interface, whole: bool = False) -> CallInterface:
    """How the simulator calls the C; ``whole``: restore, save and self test too."""
    loop = profiled(face.nest)
    init, reset, step, *beside = symbol_roots(face, whole)
    restore, save, self_test = beside or (None, None, None)
    return CallInterface(
        init=init, step=step, reset=reset, struct_bytes=face.struct_bytes(),
        x_bytes=face.inputs * face.x.bytes, y_bytes=face.outputs * face.y.bytes, takes_dt=face.dt is not None,
        float_dt=_takes_float(face), state=face.offsets(),
        neuron_label=NEURON_LABEL if loop else None, neuron_count=loop.axis.size if loop else 0,
        neuron_end=NEURON_END if loop else None, restore=restore, save=save, self_test=self_test,
        struct_alignment=face.struct_alignment(),
    )


def _takes_float(face: Interface) -> bool:
    """Whether dt is an argument in floating point, which cores with an FPU take in one of its registers."""
    return face.dt is not None and face.dt.name == "float"


def plan_for(face: Interface, data: Sequences) -> CallPlan:
    """The calls that feed ``data`` to the program, from reset or from the states it restores."""
    program, dt, start = face.program, encoded_dt(face.program, data), data.restored
    return CallPlan(
        calls(face, whole=data.restored is not None),
        to_bytes(ports.encode(program.x, data.x), face.x),
        None if dt is None else dt_bits(dt, face),
        data.reset,
        None if start is None else state_bytes(face, start),
    )


def state_bytes(face: Interface, raw: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Raw states (B, S) as the bytes of the struct's members, back to back."""
    fields, parts = face.states, numbers(raw, face.program).values()
    rows = [to_bytes(part.reshape(len(raw), -1), field.ctype) for part, field in zip(parts, fields, strict=True)]
    return np.concatenate([np.zeros((len(raw), 0), np.uint8), *rows], axis=1)


def dt_bits(dt: NDArray[Any], face: Interface) -> NDArray[np.uint32]:
    """The argument register's content."""
    if _takes_float(face):
        return np.ascontiguousarray(dt, np.float32).view(np.uint32)
    return dt.astype(np.uint32)


@dataclass(frozen=True, eq=False)
class RunBytes:
    """Bytes of outputs and states (B, T, n), status words (B, T), what save gave (B, n) and the self test counted;
    None where that was not called.
    """

    y: NDArray[np.uint8]
    state: NDArray[np.uint8]
    status: NDArray[np.uint32]
    saved: NDArray[np.uint8] | None
    self_test: int | None


def trace_from(face: Interface, result: SimResult) -> Trace:
    """The simulator's bytes as a trace. Raises ProofFailed, naming the place, if the program faulted."""
    if result.faults:
        raise ProofFailed(f"{face.program.name} faulted on the device: {result.faults[0]}")
    ran = RunBytes(result.y, result.state, result.status, result.saved, result.self_test)
    return trace_of_bytes(face, ran, "the device")


def trace_of_bytes(face: Interface, result: RunBytes, where: str) -> Trace:
    """The bytes of a run as a trace. Raises ProofFailed where save or the self test do not agree with it."""
    name = face.program.name
    if result.saved is not None and not np.array_equal(result.saved, result.state[:, -1]):
        raise ProofFailed(f"{name}_save gives another state on {where} than the one after a sequence")
    if result.self_test:
        raise ProofFailed(f"{name}_self_test on {where}: {result.self_test} values differ from the embedded vectors")
    y = from_bytes(result.y, face.y)
    parts, at = [np.zeros((*y.shape[:2], 0), y.dtype)], 0
    for state, (_, size) in zip(face.states, face.offsets(), strict=True):
        parts.append(from_bytes(result.state[..., at : at + size], state.ctype))
        at += size
    return trace_of(face.program, y, np.concatenate(parts, axis=2), result.status.astype(np.int64))


def cycles_from(face: Interface, core: Core, result: SimResult) -> CycleCounts | None:
    """Cycles per step, by function and by neuron; None where the core's model counts instructions only."""
    if core.timing_class == "count":
        return None
    steps = result.upper.size
    functions = {name: cost.upper / steps for name, cost in result.functions.items()}
    return CycleCounts(result.lower.reshape(-1), result.upper.reshape(-1), functions, _neurons(face, result, steps))


def _neurons(face: Interface, result: SimResult, steps: int) -> dict[str, float]:
    loop = profiled(face.nest)
    if loop is None or not result.neurons or result.neurons_other is None:
        return {}
    names = face.program.labels.get(loop.axis.name, tuple(f"neuron {i}" for i in range(loop.axis.size)))
    shares = {name: cost.upper / steps for name, cost in zip(names, result.neurons, strict=True)}
    return {**shares, "other": result.neurons_other.upper / steps}
