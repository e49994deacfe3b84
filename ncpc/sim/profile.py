"""Running calls on a loaded program: sequences of steps, single steps, and what they cost."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.sim.accounting import by_function, by_neuron, clear, restore, snapshot
from ncpc.sim.emulator import PAINT, Call, Device, call, emulator_version, open_probe, stack_depth
from ncpc.sim.plan import Fault
from ncpc.sim.wire import Message

PROBED_STEPS = 2
"""Steps that are run beforehand on a device that watches every access."""


@dataclass(eq=False)
class Trace:
    """Arrays (B, T, ...) that a run fills step by step, as in ``SimResult``."""

    y: NDArray[np.uint8]
    state: NDArray[np.uint8]
    status: NDArray[np.uint32]
    instructions: NDArray[np.int64]
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    completed: int = 0
    faults: list[Fault] = field(default_factory=list)


def empty_trace(device: Device, batch: int, steps: int) -> Trace:
    """Zeros for ``batch`` sequences of ``steps`` steps."""
    i, shape = device.interface, (batch, steps)
    counts = [np.zeros(shape, np.int64) for _ in range(3)]
    y, state = np.zeros((*shape, i.y_bytes), np.uint8), np.zeros((*shape, i.state_bytes), np.uint8)
    return Trace(y, state, np.zeros(shape, np.uint32), counts[0], counts[1], counts[2])


def run_sequences(device: Device, arrays: dict[str, Any]) -> Message:
    """All sequences of a plan (``x``, and ``dt``, ``reset`` if given), up to the first fault."""
    batch, steps = arrays["x"].shape[:2]
    trace = empty_trace(device, batch, steps)
    clear(device.account)
    trace.faults += misaligned(device, arrays)
    for b in range(0 if trace.faults else batch):
        if not run_sequence(device, arrays, trace, b):
            break
    return answer(device, trace)


def misaligned(device: Device, arrays: dict[str, Any]) -> list[Fault]:
    """Misaligned accesses in the first steps. The timing tables hold for aligned ones, and watching all is slow."""
    probe = open_probe(device)
    first = {name: a[:1, :PROBED_STEPS] for name, a in arrays.items()}
    trace = empty_trace(probe, *first["x"].shape[:2])
    if first["x"].size:
        run_sequence(probe, first, trace, 0)
    return [fault for fault in trace.faults if fault.kind == "misaligned"]


def run_sequence(device: Device, arrays: dict[str, Any], trace: Trace, b: int) -> bool:
    """One sequence; False if a fault ended it."""
    fault = begin(device, first=b == 0)
    resets = arrays["reset"][b] if "reset" in arrays else np.zeros(trace.status.shape[1], bool)
    for t in range(trace.status.shape[1]):
        if fault is None and resets[t]:
            fault = begin(device, first=False)
        if fault is not None:
            trace.faults.append(Fault(b, t if t > 0 or b > 0 else -1, **fault))
            return False
        fault = step_into(device, arrays["x"][b, t], int(arrays["dt"][b, t]) if "dt" in arrays else 0, trace, (b, t))
        if fault is not None:
            trace.faults.append(Fault(b, t, **fault))
            return False
    return True


def begin(device: Device, first: bool) -> dict[str, Any] | None:
    """Init, on a painted instance, or reset; neither is charged. Returns what stopped it."""
    i = device.interface
    counts = snapshot(device.account)
    if first:
        at = device.instance - device.core.ram.origin
        device.memory[at : at + i.struct_bytes] = PAINT
    done = call(device, i.init if first else i.reset, (device.instance,))
    restore(device.account, counts)
    return done.fault


def step_once(device: Device, x: NDArray[np.uint8], dt: int) -> Call:
    """One step with ``x`` (x_bytes,) in its buffer; y is painted beforehand, so that what is not written shows."""
    origin, i = device.core.ram.origin, device.interface
    device.memory[device.x - origin : device.x - origin + i.x_bytes] = x
    device.memory[device.y - origin : device.y - origin + i.y_bytes] = PAINT
    if not i.takes_dt:
        return call(device, i.step, (device.instance, device.x, device.y))
    if i.float_dt and device.core.hard_float:
        return call(device, i.step, (device.instance, device.x, device.y), floating=dt)
    return call(device, i.step, (device.instance, device.x, dt, device.y))


def step_into(
    device: Device, x: NDArray[np.uint8], dt: int, trace: Trace, at: tuple[int, int]
) -> dict[str, Any] | None:
    """One step, its results into ``trace`` at (sequence, step). Returns what stopped it."""
    done = step_once(device, x, dt)
    if done.fault is not None:
        return done.fault
    trace.y[at], trace.state[at] = outputs(device)
    trace.status[at] = done.value
    trace.instructions[at], trace.lower[at], trace.upper[at] = done.instructions, done.lower, done.upper
    trace.completed += 1
    return None


def outputs(device: Device) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The bytes of y, and of the instance's state ranges."""
    origin, i, memory = device.core.ram.origin, device.interface, device.memory
    y = memory[device.y - origin : device.y - origin + i.y_bytes]
    base = device.instance - origin
    parts = [memory[base + offset : base + offset + size] for offset, size in i.state]
    return y, np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def answer(device: Device, trace: Trace) -> Message:
    """A run's arrays and totals as a message."""
    neurons, other = by_neuron(device.account)
    head = {
        "functions": {name: asdict(cost) for name, cost in by_function(device.account).items()},
        "neurons": [asdict(cost) for cost in neurons],
        "neurons_other": asdict(other) if neurons else None,
        "stack_bytes": stack_depth(device),
        "completed": trace.completed,
        "faults": [asdict(fault) for fault in trace.faults],
        "timing_class": device.core.timing_class,
        "emulator": emulator_version(),
        "hook": device.hook.kind,
    }
    names = ("y", "state", "status", "instructions", "lower", "upper")
    return Message(head, {name: getattr(trace, name) for name in names})
