"""Running a linked policy on the simulated core: whole sequences, or step by step in a closed loop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ncpc
from ncpc.errors import BadInput, MissingTool, NcpcError
from ncpc.sim.core import Core
from ncpc.sim.plan import CallPlan, Cost, Fault, Interface, SimResult, StepResult
from ncpc.sim.wire import Message, pack, read_message, write_message


def simulate(elf: bytes, core: Core, plan: CallPlan, hook: str = "auto") -> SimResult:
    """Run all sequences of ``plan`` on ``elf``.

    ``hook`` is ``auto``, ``c`` or ``python``; the counts are the same. Faults of the program are in the result.
    Raises BadInput (shapes, missing symbols, ELF of another core), MissingTool without emulator or disassembler.
    """
    with open_session(elf, core, plan.interface, hook) as session:
        return session.run(plan)


def open_session(elf: bytes, core: Core, interface: Interface, hook: str = "auto") -> SimSession:
    """Load ``elf`` on a simulated ``core`` in a process of its own. The same exceptions as ``simulate``."""
    session = SimSession(_start_worker(), interface)
    head = {"core": pack(core), "interface": pack(interface), "hook": hook}
    try:
        session.ask(Message(head, {"elf": np.frombuffer(elf, np.uint8)}))
    except NcpcError:
        session.close()
        raise
    return session


@dataclass(eq=False)
class SimSession:
    """A program loaded on a simulated core, by ``open_session``; use it as a context manager.

    ``reset()`` then ``step(x)`` for closed loops; ``run(plan)`` for whole sequences.
    """

    process: subprocess.Popen[bytes]
    interface: Interface
    started: bool = False
    steps: int = 0

    def run(self, plan: CallPlan) -> SimResult:
        """All sequences of ``plan``, from init; see ``simulate``."""
        _check(plan, self.interface)
        optional = {"dt": plan.dt, "reset": plan.reset}
        arrays = {"x": plan.x, **{name: a for name, a in optional.items() if a is not None}}
        self.started = True
        return result_of(self.ask(Message({"command": "run"}, arrays)))

    def reset(self) -> None:
        """Init on a fresh instance the first time, reset from then on. Raises NcpcError if the program faults."""
        answer = self.ask(Message({"command": "reset", "first": not self.started}))
        self.started, self.steps = True, 0
        _raise_faults(answer)

    def step(self, x: NDArray[np.uint8], dt: int | None = None) -> StepResult:
        """One step on ``x`` (x_bytes,) uint8; ``dt`` the argument's bits. Raises NcpcError if the program faults."""
        if not self.started:
            self.reset()
        if x.shape != (self.interface.x_bytes,) or x.dtype != np.uint8:
            raise BadInput(f"x is {x.dtype}{x.shape}: a step takes uint8({self.interface.x_bytes},)")
        if (dt is not None) != self.interface.takes_dt:
            raise BadInput(f"dt: this program {'needs' if self.interface.takes_dt else 'takes no'} dt")
        answer = self.ask(Message({"command": "step", "dt": int(dt or 0), "at": self.steps}, {"x": x}))
        self.steps += 1
        _raise_faults(answer)
        status, *counts = (int(answer.head[name]) for name in ("status", "instructions", "lower", "upper"))
        return StepResult(answer.arrays["y"], answer.arrays["state"], status, *counts)

    def close(self) -> None:
        """End the process."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self.process.wait()

    def __enter__(self) -> SimSession:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        """Close; if an exception passes, without waiting for what is still being run."""
        if value is not None:
            self.process.kill()
        self.close()

    def ask(self, message: Message) -> Message:
        """Send a request and wait for its answer. Raises what the worker reports."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            write_message(self.process.stdin, message)
            answer = read_message(self.process.stdout)
        except BrokenPipeError:
            answer = None
        if answer is None:
            raise NcpcError("the simulator's process ended unexpectedly: see its message above")
        if "error" in answer.head:
            raise _error(answer.head)
        return answer


def _start_worker() -> subprocess.Popen[bytes]:
    missing = [name for name in ("unicorn", "capstone", "elftools") if find_spec(name) is None]
    if missing:
        raise MissingTool(f"the simulator needs {', '.join(missing)}: pip install 'ncpc[sim,c]'")
    root = str(Path(ncpc.__file__).parent.parent)
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "ncpc.sim.worker"]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _error(head: Mapping[str, Any]) -> NcpcError:
    kinds = {"BadInput": BadInput, "MissingTool": MissingTool}
    return kinds.get(head["error"], NcpcError)(head["message"])


def _raise_faults(answer: Message) -> None:
    for fault in answer.head["faults"]:
        raise NcpcError(f"the program faulted: {Fault(**fault)}")


def _check(plan: CallPlan, interface: Interface) -> None:
    """Refuse arrays that do not fit the interface."""
    if plan.x.ndim != 3 or plan.x.shape[2] != interface.x_bytes or plan.x.dtype != np.uint8:
        raise BadInput(f"x is {plan.x.dtype}{plan.x.shape}: the plan needs uint8(B, T, {interface.x_bytes})")
    if (plan.dt is not None) != interface.takes_dt:
        raise BadInput(f"dt: this program {'needs' if interface.takes_dt else 'takes no'} dt")
    for name, array, dtype in (("dt", plan.dt, np.uint32), ("reset", plan.reset, np.bool_)):
        if array is not None and (array.shape != plan.x.shape[:2] or array.dtype != dtype):
            raise BadInput(f"{name} is {array.dtype}{array.shape}: the plan needs {dtype.__name__}{plan.x.shape[:2]}")


def result_of(answer: Message) -> SimResult:
    """The worker's answer to a run as a SimResult."""
    head, arrays = answer.head, answer.arrays
    other = head["neurons_other"]
    return SimResult(
        **{name: arrays[name] for name in ("y", "state", "status", "instructions", "lower", "upper")},
        functions={name: Cost(**cost) for name, cost in head["functions"].items()},
        neurons=tuple(Cost(**cost) for cost in head["neurons"]),
        neurons_other=None if other is None else Cost(**other),
        stack_bytes=head["stack_bytes"],
        completed=head["completed"],
        faults=tuple(Fault(**fault) for fault in head["faults"]),
        timing_class=head["timing_class"],
        emulator=head["emulator"],
        hook=head["hook"],
    )
