"""Closed loops: one instance held open, physical numbers in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.cores import Core
from ncpc.ir.program import Program
from ncpc.semantics import ports
from ncpc.sim.run import open_session
from ncpc.targets.c.device import calls, dt_bits
from ncpc.targets.c.host import open_library, typed_dt
from ncpc.targets.c.interface import Interface, from_bytes, to_bytes

F64 = NDArray[np.float64]


class HostSession:
    """The library on this machine; see ``ncpc.targets.base.Session``."""

    def __init__(self, library: Path, face: Interface) -> None:
        self.status = 0
        self._face = face
        self._worker = open_library(library, face)

    def reset(self) -> None:
        """Back to the reset state."""
        self._worker.ask("reset")

    def step(self, x: F64, dt: float) -> F64:
        """One step: ``x`` (inputs,) -> (outputs,), physical."""
        raw, raw_dt = _encoded(self._face.program, x, dt)
        span = {} if raw_dt is None else {"dt": typed_dt(np.asarray(raw_dt)[None], self._face)}
        done = self._worker.ask("step", {}, {"x": to_bytes(raw, self._face.x), **span})
        self.status = int(done.head["status"])
        y = done.array("y", np.uint8, (self._face.outputs * self._face.y.bytes,))
        return ports.decode(self._face.program.y, from_bytes(y, self._face.y))

    def close(self) -> None:
        """End the worker."""
        self._worker.close()


class DeviceSession:
    """The linked program on the simulated core; see ``ncpc.targets.base.Session``."""

    def __init__(self, elf: bytes, core: Core, face: Interface) -> None:
        self.status = 0
        self._face = face
        self._session = open_session(elf, core, calls(face))

    def reset(self) -> None:
        """Back to the reset state."""
        self._session.reset()

    def step(self, x: F64, dt: float) -> F64:
        """One step: ``x`` (inputs,) -> (outputs,), physical."""
        raw, raw_dt = _encoded(self._face.program, x, dt)
        bits = None if raw_dt is None else int(dt_bits(np.asarray(raw_dt)[None], self._face)[0])
        done = self._session.step(to_bytes(raw, self._face.x), bits)
        self.status = done.status
        return ports.decode(self._face.program.y, from_bytes(done.y, self._face.y))

    def close(self) -> None:
        """End the simulator."""
        self._session.close()


def _encoded(program: Program, x: F64, dt: float) -> tuple[NDArray[Any], Any]:
    """Raw inputs, and the timespan where the program takes one."""
    raw = ports.encode(program.x, x)
    return raw, None if program.dt is None else ports.encode(program.dt, np.array([dt]))[0]
