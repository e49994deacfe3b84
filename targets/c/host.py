"""The generated C on this machine: a shared library, called through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import ports
from ncpc.semantics.run import encoded_dt, trace_of
from ncpc.targets.c.interface import Interface, from_bytes, interface_of, numpy_type

_SCALARS: Mapping[str, Any] = {
    "float": ctypes.c_float, "int8_t": ctypes.c_int8, "uint8_t": ctypes.c_uint8, "int16_t": ctypes.c_int16,
    "uint16_t": ctypes.c_uint16, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
}


class Instance:
    """One instance of a policy in a loaded library: its struct is a NumPy array of bytes owned here."""

    def __init__(self, library: ctypes.CDLL, face: Interface) -> None:
        self.face = face
        self.memory = np.full(max(face.struct_bytes(), 1), 0xA5, np.uint8)
        self._y = np.zeros(face.outputs, numpy_type(face.y))
        self._functions = {name: getattr(library, f"{face.name}_{name}") for name in ("init", "reset", "step")}
        self._functions["step"].restype = ctypes.c_uint32
        self._pointer = ctypes.c_void_p(self.memory.ctypes.data)
        self._functions["init"](self._pointer)

    def reset(self) -> None:
        """Back to the reset state."""
        self._functions["reset"](self._pointer)

    def step(self, x: NDArray[Any], dt: Any = None) -> tuple[NDArray[Any], int]:
        """One step of raw numbers: ``x`` (inputs,) -> (outputs,) and the status word."""
        raw = np.ascontiguousarray(x, numpy_type(self.face.x))
        args = [self._pointer, ctypes.c_void_p(raw.ctypes.data)]
        if self.face.dt is not None:
            args.append(_SCALARS[self.face.dt.name](dt.item() if hasattr(dt, "item") else dt))
        status = self._functions["step"](*args, ctypes.c_void_p(self._y.ctypes.data))
        return self._y.copy(), int(status)

    def states(self) -> list[NDArray[Any]]:
        """The states in program order, each (n,)."""
        ranges = zip(self.face.states, self.face.offsets(), strict=True)
        return [from_bytes(self.memory[at : at + size].copy(), state.ctype) for state, (at, size) in ranges]

    def load(self, states: list[NDArray[Any]]) -> None:
        """Put raw states into the struct."""
        for state, (at, size), numbers in zip(self.face.states, self.face.offsets(), states, strict=True):
            raw = np.ascontiguousarray(numbers, numpy_type(state.ctype))
            self.memory[at : at + size] = raw.view(np.uint8)


def load_library(path: Path) -> ctypes.CDLL:
    """The library as the file is now: loaded under a name of its own, as a name once opened stays what it was."""
    with tempfile.TemporaryDirectory(prefix="ncpc-load-") as folder:
        return ctypes.CDLL(shutil.copy(path, folder))


def run_library(path: Path, program: Program, data: Sequences, initial: NDArray[np.int64] | None = None) -> Trace:
    """Run ``data`` through the library, each sequence from reset or from the raw states ``initial`` (B, S)."""
    instance = Instance(load_library(path), interface_of(program))
    x, dt = ports.encode(program.x, data.x), encoded_dt(program, data)
    batch, steps = data.x.shape[:2]
    y = np.zeros((batch, steps, instance.face.outputs), ports.dtype(program.y.value.type))
    sizes = [s.size for s in instance.face.states]
    state = np.zeros((batch, steps, sum(sizes)), y.dtype)
    flags = np.zeros((batch, steps), np.int64)
    for b in range(batch):
        instance.reset()
        if initial is not None:
            instance.load(np.split(_numbers(initial[b], program), np.cumsum(sizes)[:-1]))
        for t in range(steps):
            if data.reset is not None and data.reset[b, t]:
                instance.reset()
            y[b, t], flags[b, t] = instance.step(x[b, t], None if dt is None else dt[b, t])
            if sizes:
                state[b, t] = np.concatenate(instance.states())
    return trace_of(program, y, state, flags)


def _numbers(raw: NDArray[np.int64], program: Program) -> NDArray[Any]:
    """Raw states as a Trace holds them (bit patterns for binary32) as numbers."""
    if ports.dtype(program.y.value.type) is np.float32:
        return raw.astype(np.int32).view(np.float32)
    return raw
