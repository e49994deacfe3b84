"""Closed loops: one instance held open, physical numbers in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.program import Program
from ncpc.semantics import ports
from ncpc.sim.plan import Interface as Calls
from ncpc.sim.run import open_session
from ncpc.targets.c.cores import Core
from ncpc.targets.c.device import dt_bits
from ncpc.targets.c.host import Instance, load_library
from ncpc.targets.c.interface import from_bytes, interface_of, to_bytes

F64 = NDArray[np.float64]


class HostSession:
    """The library on this machine; see ``ncpc.targets.base.Session``."""

    def __init__(self, library: Path, program: Program) -> None:
        self.status = 0
        self._program = program
        self._instance = Instance(load_library(library), interface_of(program))

    def reset(self) -> None:
        """Back to the reset state."""
        self._instance.reset()

    def step(self, x: F64, dt: float | None = None) -> F64:
        """One step: ``x`` (inputs,) -> (outputs,), physical."""
        raw, raw_dt = _encoded(self._program, x, dt)
        y, self.status = self._instance.step(raw, raw_dt)
        return ports.decode(self._program.y, y)

    def close(self) -> None:
        """Nothing to release."""


class DeviceSession:
    """The linked program on the simulated core; see ``ncpc.targets.base.Session``."""

    def __init__(self, elf: bytes, core: Core, interface: Calls, program: Program) -> None:
        self.status = 0
        self._program = program
        self._face = interface_of(program)
        self._session = open_session(elf, core, interface)

    def reset(self) -> None:
        """Back to the reset state."""
        self._session.reset()

    def step(self, x: F64, dt: float | None = None) -> F64:
        """One step: ``x`` (inputs,) -> (outputs,), physical."""
        raw, raw_dt = _encoded(self._program, x, dt)
        bits = None if raw_dt is None else int(dt_bits(np.asarray(raw_dt)[None], self._face)[0])
        done = self._session.step(to_bytes(raw, self._face.x), bits)
        self.status = done.status
        return ports.decode(self._program.y, from_bytes(done.y, self._face.y))

    def close(self) -> None:
        """End the simulator."""
        self._session.close()


def _encoded(program: Program, x: F64, dt: float | None) -> tuple[NDArray[Any], Any]:
    """Raw inputs and timespan. Raises BadInput for a vector of the wrong length."""
    inputs = np.asarray(x, np.float64)
    if inputs.shape != program.x.value.shape:
        raise BadInput(f"x has shape {inputs.shape}: a step of {program.name} takes {program.x.value.shape}")
    raw = ports.encode(program.x, inputs)
    if program.dt is None:
        return raw, None
    given = float(program.dt.range[0].mean()) if dt is None else dt
    return raw, ports.encode(program.dt, np.array([given]))[0]
