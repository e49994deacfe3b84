"""The emulator's service: run by a worker process (``ncpc.worker``), which ``ncpc.sim.run`` asks.

``open``, with the ELF, loads a program; then ``run``, ``reset`` and ``step`` in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from ncpc.sim.emulator import Device, open_device
from ncpc.sim.profile import Answer, begin, empty_trace, run_sequences, step_into
from ncpc.sim.wire import unpack_core, unpack_interface

Head = Mapping[str, Any]
Arrays = Mapping[str, NDArray[Any]]


def commands(alive: Callable[[], None]) -> dict[str, Callable[[Head, Arrays], Answer]]:
    """The service's commands; they share the program that ``open`` loaded last."""
    loaded: list[Device] = []

    def load(head: Head, arrays: Arrays) -> Answer:
        loaded.clear()
        core, interface = unpack_core(head["core"]), unpack_interface(head["interface"])
        loaded.append(open_device(arrays["elf"].tobytes(), core, interface, head["hook"]))
        return {}, {}

    def run(head: Head, arrays: Arrays) -> Answer:
        return run_sequences(loaded[0], arrays, alive)

    def reset(head: Head, arrays: Arrays) -> Answer:
        fault = begin(loaded[0], first=bool(head["first"]))
        return {"faults": [] if fault is None else [{"sequence": 0, "step": -1, **fault}]}, {}

    return {"open": load, "run": run, "reset": reset, "step": lambda head, arrays: _step(loaded[0], head, arrays)}


def _step(device: Device, head: Head, arrays: Arrays) -> Answer:
    trace = empty_trace(device, 1, 1)
    fault = step_into(device, arrays["x"], int(head["dt"]), trace, (0, 0))
    counts = {name: int(getattr(trace, name)[0, 0]) for name in ("status", "instructions", "lower", "upper")}
    faults = [] if fault is None else [{"sequence": 0, "step": int(head["at"]), **fault}]
    return {**counts, "faults": faults}, {"y": trace.y[0, 0], "state": trace.state[0, 0]}
