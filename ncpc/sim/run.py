"""Running a linked policy on the simulated core: whole sequences, or step by step in a closed loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.core import Core
from ncpc.errors import BadInput, MissingTool, NcpcError, ProofFailed
from ncpc.sim.plan import CallInterface, CallPlan, Cost, Fault, SimResult, StepResult
from ncpc.sim.wire import pack
from ncpc.worker.process import Answer, Service, Worker, borrowed, opened

WHAT = "the simulator"
SERVICE = Service(str(Path(__file__).with_name("worker.py")), patience=3600.0)
"""A step ends with its limit of instructions: half an hour, where the hook runs in Python."""


def simulate(elf: bytes, core: Core, plan: CallPlan, hook: str = "auto") -> SimResult:
    """Run all sequences of ``plan`` on ``elf``.

    ``hook`` is ``auto``, ``c`` or ``python``; the counts are the same. Faults of the program are in the result.
    Raises BadInput (shapes, missing symbols, ELF of another core), MissingTool without emulator or disassembler,
    ProofFailed where the simulator's process ends.
    """
    _require()
    with borrowed(SERVICE, WHAT) as worker:
        worker.ask("open", *_opening(elf, core, plan.interface, hook))
        return _run(worker, plan, plan.interface)


def open_session(elf: bytes, core: Core, interface: CallInterface, hook: str = "auto") -> SimSession:
    """Load ``elf`` on a simulated ``core`` in a process of its own. The same exceptions as ``simulate``."""
    _require()
    return SimSession(opened(SERVICE, WHAT, *_opening(elf, core, interface, hook)), interface)


@dataclass(eq=False)
class SimSession:
    """A program loaded on a simulated core, by ``open_session``; use it as a context manager.

    ``reset()`` then ``step(x)`` for closed loops; ``run(plan)`` for whole sequences.
    """

    worker: Worker
    interface: CallInterface
    started: bool = False
    steps: int = 0

    def run(self, plan: CallPlan) -> SimResult:
        """All sequences of ``plan``, from init; see ``simulate``."""
        self.started = True
        return _run(self.worker, plan, self.interface)

    def reset(self) -> None:
        """Init on a fresh instance the first time, reset from then on. Raises NcpcError if the program faults."""
        answer = self.worker.ask("reset", {"first": not self.started})
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
        answer = self.worker.ask("step", {"dt": int(dt or 0), "at": self.steps}, {"x": x})
        self.steps += 1
        _raise_faults(answer)
        y = answer.array("y", np.uint8, (self.interface.y_bytes,))
        state = answer.array("state", np.uint8, (self.interface.state_bytes,))
        status, *counts = (int(answer.head[name]) for name in ("status", "instructions", "lower", "upper"))
        return StepResult(y, state, status, *counts)

    def close(self) -> None:
        """End the process."""
        self.worker.close()

    def __enter__(self) -> SimSession:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def _require() -> None:
    missing = [name for name in ("unicorn", "capstone", "elftools") if find_spec(name) is None]
    if missing:
        raise MissingTool(f"the simulator needs {', '.join(missing)}: pip install 'ncpc[sim,c]'")


def _opening(elf: bytes, core: Core, interface: CallInterface, hook: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"core": pack(core), "interface": pack(interface), "hook": hook}, {"elf": np.frombuffer(elf, np.uint8)}


def _run(worker: Worker, plan: CallPlan, interface: CallInterface) -> SimResult:
    _check(plan, interface)
    optional = {"dt": plan.dt, "reset": plan.reset, "start": plan.start}
    answer = worker.ask("run", {}, {"x": plan.x, **{name: a for name, a in optional.items() if a is not None}})
    return result_of(answer, interface, plan.x.shape[:2])


def _raise_faults(answer: Answer) -> None:
    for fault in answer.head["faults"]:
        raise NcpcError(f"the program faulted: {Fault(**fault)}")


def _check(plan: CallPlan, interface: CallInterface) -> None:
    """Refuse arrays that do not fit the interface."""
    if plan.x.ndim != 3 or plan.x.shape[2] != interface.x_bytes or plan.x.dtype != np.uint8:
        raise BadInput(f"x is {plan.x.dtype}{plan.x.shape}: the plan needs uint8(B, T, {interface.x_bytes})")
    if (plan.dt is not None) != interface.takes_dt:
        raise BadInput(f"dt: this program {'needs' if interface.takes_dt else 'takes no'} dt")
    for name, array, dtype in (("dt", plan.dt, np.uint32), ("reset", plan.reset, np.bool_)):
        if array is not None and (array.shape != plan.x.shape[:2] or array.dtype != dtype):
            raise BadInput(f"{name} is {array.dtype}{array.shape}: the plan needs {dtype.__name__}{plan.x.shape[:2]}")
    begin = (plan.x.shape[0], interface.state_bytes)
    if plan.start is not None and (plan.start.shape != begin or plan.start.dtype != np.uint8):
        raise BadInput(f"start is {plan.start.dtype}{plan.start.shape}: the plan needs uint8{begin}")


def result_of(answer: Answer, i: CallInterface, steps: tuple[int, ...]) -> SimResult:
    """The worker's answer to a run of ``steps`` (B, T) as a SimResult. Raises ProofFailed where it is none."""
    sizes: Mapping[str, tuple[Any, tuple[int, ...]]] = {
        "y": (np.uint8, (*steps, i.y_bytes)), "state": (np.uint8, (*steps, i.state_bytes)),
        "status": (np.uint32, steps),
        **dict.fromkeys(("instructions", "lower", "upper"), (np.int64, steps)),
    }
    arrays = {name: answer.array(name, *form) for name, form in sizes.items()}
    saved = None if i.save is None else answer.array("saved", np.uint8, (steps[0], i.state_bytes))
    try:
        return SimResult(**arrays, **_totals(answer.head), saved=saved)
    except (LookupError, TypeError, ValueError) as error:
        raise ProofFailed(f"{WHAT} gave an answer that is none: {error}") from error


def _totals(head: Mapping[str, Any]) -> dict[str, Any]:
    other = head["neurons_other"]
    return {
        "functions": {name: Cost(**cost) for name, cost in head["functions"].items()},
        "neurons": tuple(Cost(**cost) for cost in head["neurons"]),
        "neurons_other": None if other is None else Cost(**other),
        "faults": tuple(Fault(**fault) for fault in head["faults"]),
        **{name: head[name] for name in ("stack_bytes", "completed", "timing_class", "emulator", "hook", "self_test")},
    }
