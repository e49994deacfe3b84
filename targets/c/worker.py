"""The service of the generated C on this machine: a shared library, called through ctypes by a worker process.

Needs NumPy and the standard library alone (``ncpc.worker``). Everything is bytes, as the functions of the header take
and give them; ``ncpc.targets.c.host`` asks.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Head = Mapping[str, Any]
Arrays = Mapping[str, "np.ndarray[Any, Any]"]
Found = tuple[dict[str, Any], "dict[str, np.ndarray[Any, Any]]"]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]

PAINT = 0xA5
SCALARS = {"<f4": ctypes.c_float, "|i1": ctypes.c_int8, "|u1": ctypes.c_uint8, "<i2": ctypes.c_int16,
           "<u2": ctypes.c_uint16, "<i4": ctypes.c_int32, "<u4": ctypes.c_uint32}


class Instance:
    """One instance of a policy in a loaded library. Its struct, and one for what is saved, are owned here."""

    def __init__(self, head: Head) -> None:
        """``head``: path of the library, name of the policy, bytes of struct and outputs, (offset, size) of states."""
        library = ctypes.CDLL(head["path"])
        self.ranges = [(int(offset), int(size)) for offset, size in head["state"]]
        self.y_bytes = int(head["y_bytes"])
        self.memory, self.kept = (np.full(max(head["struct_bytes"], 1), PAINT, np.uint8) for _ in range(2))
        self._at, self._kept = self.memory.ctypes.data, self.kept.ctypes.data
        names = ("init", "reset", "step", "restore", "save", "self_test")
        self._functions = {name: getattr(library, f"{head['name']}_{name}") for name in names}
        self._functions["step"].restype = self._functions["restore"].restype = ctypes.c_uint32
        self.init()

    def init(self) -> None:
        """Begin anew, on memory that holds nothing of use."""
        self.memory[:] = PAINT
        self._functions["init"](ctypes.c_void_p(self._at))

    def reset(self) -> None:
        """Back to the reset state."""
        self._functions["reset"](ctypes.c_void_p(self._at))

    def step(self, x: int, y: int, dt: tuple[Any, ...]) -> int:
        """One step from the inputs at address ``x`` to the outputs at ``y``: the status word."""
        return int(self._functions["step"](ctypes.c_void_p(self._at), ctypes.c_void_p(x), *dt, ctypes.c_void_p(y)))

    def state(self, memory: Bytes) -> Bytes:
        """The bytes of the states in a struct, back to back."""
        return np.concatenate([np.zeros(0, np.uint8), *(memory[at : at + size] for at, size in self.ranges)])

    def restore(self, state: Bytes) -> int:
        """Give states to restore: its status bits."""
        self.kept[:] = PAINT
        begin = 0
        for at, size in self.ranges:
            self.kept[at : at + size] = state[begin : begin + size]
            begin += size
        return int(self._functions["restore"](ctypes.c_void_p(self._at), ctypes.c_void_p(self._kept)))

    def save(self) -> Bytes:
        """The states as save gives them."""
        self.kept[:] = PAINT
        self._functions["save"](ctypes.c_void_p(self._at), ctypes.c_void_p(self._kept))
        return self.state(self.kept)

    def self_test(self) -> int:
        """How many values differ in the self test."""
        return int(self._functions["self_test"]())


def commands(alive: Callable[[], None]) -> dict[str, Callable[[Head, Arrays], Found]]:
    """``open`` loads a library; ``run``, ``reset`` and ``step`` use the instance that was opened last."""
    opened: list[Instance] = []

    def load(head: Head, arrays: Arrays) -> Found:
        opened[:] = [Instance(head)]
        return {}, {}

    def reset(head: Head, arrays: Arrays) -> Found:
        opened[0].reset()
        return {}, {}

    return {"open": load, "reset": reset, "step": lambda head, arrays: _step(opened[0], arrays),
            "run": lambda head, arrays: _run(opened[0], arrays, alive)}


def _step(instance: Instance, arrays: Arrays) -> Found:
    y = np.full(instance.y_bytes, PAINT, np.uint8)
    status = instance.step(arrays["x"].ctypes.data, y.ctypes.data, next(_spans(arrays, 1)))
    return {"status": status}, {"y": y}


def _run(instance: Instance, arrays: Arrays, alive: Callable[[], None]) -> Found:
    """All sequences of ``x`` (B, T, bytes), with optional ``dt`` and ``reset`` (B, T), each from reset, or from
    ``start`` (B, bytes), which is given to restore: save and the self test run too then.
    """
    x, restores = arrays["x"], "start" in arrays
    batch, steps = x.shape[:2]
    width = sum(size for _, size in instance.ranges)
    y = np.full((batch, steps, instance.y_bytes), PAINT, np.uint8)
    state, status = np.zeros((batch, steps, width), np.uint8), np.zeros((batch, steps), np.uint32)
    saved, spans = np.zeros((batch, width), np.uint8), _spans(arrays, batch * steps)
    for b in range(batch):
        (instance.reset if b else instance.init)()
        bits = instance.restore(arrays["start"][b]) if restores else 0
        for t in range(steps):
            alive()
            if "reset" in arrays and arrays["reset"][b, t]:
                instance.reset()
            at = b * steps + t
            status[b, t] = instance.step(x.ctypes.data + at * x.shape[2], y.ctypes.data + at * y.shape[2], next(spans))
            state[b, t] = instance.state(instance.memory)
        status[b, :1] |= np.uint32(bits)
        if restores:
            saved[b] = instance.save()
    wrong = instance.self_test() if restores else None
    return {"self_test": wrong}, {"y": y, "state": state, "status": status, **({"saved": saved} if restores else {})}


def _spans(arrays: Arrays, steps: int) -> Iterator[tuple[Any, ...]]:
    """The argument between inputs and outputs, step by step: none where the step takes no timespan."""
    if "dt" not in arrays:
        yield from [()] * steps
        return
    scalar = SCALARS[arrays["dt"].dtype.str]
    yield from ((scalar(value),) for value in arrays["dt"].reshape(-1).tolist())
