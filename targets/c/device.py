"""The generated C on a simulated core: between a program's numbers and the bytes that the simulator exchanges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import ports
from ncpc.semantics.run import encoded_dt, trace_of
from ncpc.sim.plan import CallPlan, SimResult
from ncpc.sim.plan import Interface as Calls
from ncpc.targets.base import CycleCounts
from ncpc.targets.c.cores import Core
from ncpc.targets.c.interface import Interface, from_bytes, interface_of, to_bytes
from ncpc.targets.c.nest import nest_of
from ncpc.targets.c.statements import NEURON_END, NEURON_LABEL, profiled


def symbol_roots(face: Interface) -> tuple[str, ...]:
    """The functions that stay in the linked program."""
    return tuple(f"{face.name}_{function}" for function in ("init", "reset", "step"))


def calls(program: Program) -> Calls:
    """How the simulator calls the program's C."""
    face = interface_of(program)
    loop = profiled(nest_of(program))
    init, reset, step = symbol_roots(face)
    return Calls(
        init=init, step=step, reset=reset, struct_bytes=face.struct_bytes(),
        x_bytes=face.inputs * face.x.bytes, y_bytes=face.outputs * face.y.bytes, takes_dt=face.dt is not None,
        state=face.offsets(), neuron_label=NEURON_LABEL if loop else None, neuron_count=loop.axis.size if loop else 0,
        neuron_end=NEURON_END if loop else None,
    )


def plan_for(program: Program, data: Sequences) -> CallPlan:
    """The calls that feed ``data`` to the program."""
    face = interface_of(program)
    dt = encoded_dt(program, data)
    return CallPlan(
        calls(program),
        to_bytes(ports.encode(program.x, data.x), face.x),
        None if dt is None else dt_bits(dt, face),
        data.reset,
    )


def dt_bits(dt: NDArray[Any], face: Interface) -> NDArray[np.uint32]:
    """The argument register's content."""
    if face.dt is not None and face.dt.name == "float":
        return np.ascontiguousarray(dt, np.float32).view(np.uint32)
    return dt.astype(np.uint32)


def trace_from(program: Program, result: SimResult) -> Trace:
    """The simulator's bytes as a trace. Raises ProofFailed, naming the place, if the program faulted."""
    if result.faults:
        raise ProofFailed(f"{program.name} faulted on the device: {result.faults[0]}")
    face = interface_of(program)
    y = from_bytes(result.y, face.y)
    parts, at = [np.zeros((*y.shape[:2], 0), y.dtype)], 0
    for state, (_, size) in zip(face.states, face.offsets(), strict=True):
        parts.append(from_bytes(result.state[..., at : at + size], state.ctype))
        at += size
    return trace_of(program, y, np.concatenate(parts, axis=2), result.status.astype(np.int64))


def cycles_from(program: Program, core: Core, result: SimResult) -> CycleCounts | None:
    """Cycles per step, by function and by neuron; None where the core's model counts instructions only."""
    if core.timing_class == "count":
        return None
    steps = result.upper.size
    functions = {name: cost.upper / steps for name, cost in result.functions.items()}
    return CycleCounts(result.lower.reshape(-1), result.upper.reshape(-1), functions, _neurons(program, result, steps))


def _neurons(program: Program, result: SimResult, steps: int) -> dict[str, float]:
    loop = profiled(nest_of(program))
    if loop is None or not result.neurons or result.neurons_other is None:
        return {}
    names = program.labels.get(loop.axis.name, tuple(f"neuron {i}" for i in range(loop.axis.size)))
    shares = {name: cost.upper / steps for name, cost in zip(names, result.neurons, strict=True)}
    return {**shares, "other": result.neurons_other.upper / steps}
