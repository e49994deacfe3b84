"""Running calls on a loaded program: sequences of steps, single steps, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.sim.accounting import by_function, by_neuron, clear, restore, snapshot
from ncpc.sim.emulator import PAINT, Call, Device, emulator_version, stack_depth, watched_call
from ncpc.sim.plan import Fault

Answer = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""JSON values and arrays, as a worker answers."""


@dataclass(eq=False)
class RunRecord:
    """Arrays (B, T, ...) that a run fills step by step, as in ``SimResult``."""

    y: NDArray[np.uint8]
    state: NDArray[np.uint8]
    status: NDArray[np.uint32]
    instructions: NDArray[np.int64]
    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    saved: NDArray[np.uint8]
    self_test: int | None = None
    completed: int = 0
    faults: list[Fault] = field(default_factory=list)


def empty_trace(device: Device, batch: int, steps: int) -> RunRecord:
    """Zeros for ``batch`` sequences of ``steps`` steps."""
    i, shape = device.interface, (batch, steps)
    counts = [np.zeros(shape, np.int64) for _ in range(3)]
    y, state = np.zeros((*shape, i.y_bytes), np.uint8), np.zeros((*shape, i.state_bytes), np.uint8)
    saved = np.zeros((batch, i.state_bytes), np.uint8)
    return RunRecord(y, state, np.zeros(shape, np.uint32), counts[0], counts[1], counts[2], saved)


def run_sequences(device: Device, arrays: Mapping[str, Any], alive: Callable[[], None]) -> Answer:
    """All sequences of a plan (``x``, and ``dt``, ``reset``, ``start`` if given), up to the first fault; ``alive`` is
    called before every step.
    """
    batch, steps = arrays["x"].shape[:2]
    trace = empty_trace(device, batch, steps)
    clear(device.account)
    for b in range(batch):
        if not run_sequence(device, arrays, trace, b, alive):
            break
    if not trace.faults:
        _test(device, trace)
    return answer(device, trace)


def run_sequence(device: Device, arrays: Mapping[str, Any], trace: RunRecord, b: int,
                 alive: Callable[[], None]) -> bool:
    """One sequence; False if a fault ended it."""
    fault, status = begin(device, first=b == 0), 0
    if fault is None and "start" in arrays:
        fault, status = _start(device, arrays["start"][b])
    resets = arrays["reset"][b] if "reset" in arrays else np.zeros(trace.status.shape[1], bool)
    for t in range(trace.status.shape[1]):
        alive()
        if fault is None and resets[t]:
            fault = begin(device, first=False)
        if fault is not None:
            trace.faults.append(Fault(b, t if t > 0 or b > 0 else -1, **fault))
            return False
        fault = step_into(device, arrays["x"][b, t], int(arrays["dt"][b, t]) if "dt" in arrays else 0, trace, (b, t))
        if fault is not None:
            trace.faults.append(Fault(b, t, **fault))
            return False
    trace.status[b, :1] |= np.uint32(status)
    return _save(device, trace, b)


def _start(device: Device, state: NDArray[np.uint8]) -> tuple[dict[str, Any] | None, int]:
    """Begin with ``state`` (state_bytes,), by restore where there is one; what stopped it, and the status bits."""
    i = device.interface
    target = device.instance if i.restore is None else device.kept
    for (offset, size), part in zip(i.state, np.split(state, np.cumsum([size for _, size in i.state])), strict=False):
        at = target - device.core.ram.origin + offset
        device.memory[at : at + size] = part
    if i.restore is None:
        return None, 0
    done = _uncharged(device, i.restore, (device.instance, device.kept))
    return done.fault, done.value


def _save(device: Device, trace: RunRecord, b: int) -> bool:
    """What save gives after sequence ``b``, where there is one; False if a fault ended it."""
    i, at = device.interface, device.kept - device.core.ram.origin
    if i.save is None:
        return True
    device.memory[at : at + i.struct_bytes] = PAINT
    done = _uncharged(device, i.save, (device.instance, device.kept))
    if done.fault is not None:
        trace.faults.append(Fault(b, trace.status.shape[1], **done.fault))
        return False
    trace.saved[b] = ranges(device, device.kept)
    return True


def _test(device: Device, trace: RunRecord) -> None:
    """Run the self test, where there is one."""
    if device.interface.self_test is None:
        return
    done = _uncharged(device, device.interface.self_test, ())
    trace.self_test = done.value
    if done.fault is not None:
        trace.faults.append(Fault(0, -1, **done.fault))


def _uncharged(device: Device, function: str, arguments: tuple[int, ...]) -> Call:
    """A call whose cost is no step's."""
    counts = snapshot(device.account)
    done = watched_call(device, function, arguments)
    restore(device.account, counts)
    return done


def begin(device: Device, first: bool) -> dict[str, Any] | None:
    """Init, on a painted instance, or reset; neither is charged. Returns what stopped it."""
    i = device.interface
    if first:
        at = device.instance - device.core.ram.origin
        device.memory[at : at + i.struct_bytes] = PAINT
    return _uncharged(device, i.init if first else i.reset, (device.instance,)).fault


def step_once(device: Device, x: NDArray[np.uint8], dt: int) -> Call:
    """One step with ``x`` (x_bytes,) in its buffer; y is painted beforehand, so that what is not written shows."""
    origin, i = device.core.ram.origin, device.interface
    device.memory[device.x - origin : device.x - origin + i.x_bytes] = x
    device.memory[device.y - origin : device.y - origin + i.y_bytes] = PAINT
    if not i.takes_dt:
        return watched_call(device, i.step, (device.instance, device.x, device.y))
    if i.float_dt and device.core.hard_float:
        return watched_call(device, i.step, (device.instance, device.x, device.y), floating=dt)
    return watched_call(device, i.step, (device.instance, device.x, dt, device.y))


def step_into(
    device: Device, x: NDArray[np.uint8], dt: int, trace: RunRecord, at: tuple[int, int]
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
    return y, ranges(device, device.instance)


def ranges(device: Device, address: int) -> NDArray[np.uint8]:
    """The bytes (state_bytes,) of the state ranges of the struct at ``address``."""
    base = address - device.core.ram.origin
    parts = [device.memory[base + offset : base + offset + size] for offset, size in device.interface.state]
    return np.concatenate([np.zeros(0, np.uint8), *parts])


def answer(device: Device, trace: RunRecord) -> Answer:
    """A run's totals and arrays."""
    neurons, other = by_neuron(device.account)
    head = {
        "functions": {name: asdict(cost) for name, cost in by_function(device.account).items()},
        "neurons": [asdict(cost) for cost in neurons],
        "neurons_other": asdict(other) if neurons else None,
        "stack_bytes": stack_depth(device),
        "completed": trace.completed,
        "self_test": trace.self_test,
        "faults": [asdict(fault) for fault in trace.faults],
        "timing_class": device.core.timing_class,
        "emulator": emulator_version(),
        "hook": device.hook.kind,
    }
    names = ("y", "state", "status", "instructions", "lower", "upper")
    saved = {} if device.interface.save is None else {"saved": trace.saved}
    return head, {**{name: getattr(trace, name) for name in names}, **saved}
