"""Calls of a linked program's functions, in the simulator and on a core's RTL: what each took, and what it left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.elf import Image
from ncpc.errors import NcpcError
from ncpc.sim.emulator import Device, watched_call

END = 0x220000
"""Bytes of the bench's memories."""
HEAD = np.dtype([("cycles", "<u8"), ("instructions", "<u8"), ("value", "<u4"), ("listed", "<u4")])
ENTERED = np.dtype([("pc", "<u4"), ("cycle", "<u4")])


@dataclass(frozen=True)
class PlacedCall:
    """A call of ``function`` with at most four arguments; ``written`` goes to ``into`` before, ``size`` bytes from
    ``base`` are read after.
    """

    function: str
    arguments: tuple[int, ...]
    into: int
    written: bytes
    base: int
    size: int


@dataclass(frozen=True, eq=False)
class Measured:
    """What a call took and left: ``value`` is returned, ``memory`` was read after it. On RTL ``lower`` and ``upper``
    are equal, and ``entered`` lists program counter and cycle of every instruction where that was asked for. ``fault``
    says why the simulator stopped.
    """

    lower: int
    upper: int
    instructions: int
    value: int
    memory: bytes
    entered: NDArray[np.void] | None = None
    fault: str = ""

    @property
    def exact(self) -> bool:
        return self.lower == self.upper


def differences(simulated: Measured, rtl: Measured) -> list[str]:
    """Each way in which the simulator is not the core; cycles have to lie within the bounds, which are equal but where
    a conditional branch goes to the very next address.
    """
    if simulated.fault:
        return [f"fault: {simulated.fault}"]
    found = [f"{name}: {a} simulated, {b} on the RTL" for name in ("instructions", "value")
             if (a := getattr(simulated, name)) != (b := getattr(rtl, name))]
    if not simulated.lower <= rtl.lower <= simulated.upper:
        spread = "" if simulated.exact else f" to {simulated.upper}"
        found.append(f"cycles: {simulated.lower}{spread} simulated, {rtl.lower} on the RTL")
    if simulated.memory != rtl.memory:
        at = next(k for k, (a, b) in enumerate(zip(simulated.memory, rtl.memory, strict=True)) if a != b)
        found.append(f"memory: byte {at} is {simulated.memory[at]} simulated, {rtl.memory[at]} on the RTL")
    return found


def run_simulator(device: Device, calls: Sequence[PlacedCall]) -> Iterator[Measured]:
    """What ``calls``, one after the other, take by the simulator."""
    return (_simulated(device, c) for c in calls)


def _simulated(device: Device, c: PlacedCall) -> Measured:
    memory, origin = device.memory, device.core.ram.origin
    memory[c.into - origin : c.into - origin + len(c.written)] = np.frombuffer(c.written, np.uint8)
    done = watched_call(device, c.function, c.arguments)
    left = memory[c.base - origin : c.base - origin + c.size].tobytes()
    return Measured(done.lower, done.upper, done.instructions, done.value, left,
                    fault="" if done.fault is None else str(done.fault))


def memories(device: Device) -> NDArray[np.uint8]:
    """The bench's memories (END,) as the simulator's are now; 0 where the core has none."""
    memory, core = np.zeros(END, np.uint8), device.core
    for segment in device.image.segments:
        memory[segment.load_address : segment.load_address + len(segment.data)] = np.frombuffer(segment.data, np.uint8)
    memory[core.ram.origin : core.ram.end] = device.memory
    return memory


def run_rtl(bench: Path, device: Device, calls: Sequence[PlacedCall], listed: bool = False) -> list[Measured]:
    """What ``calls``, one after the other, take on the core, from the memory of ``device``, which is left as it is.

    Raises NcpcError where one does not return.
    """
    given = memories(device).tobytes() + b"".join(_packed(c, device.image) for c in calls)
    done = subprocess.run([str(bench), *(["list"] if listed else [])], input=given, capture_output=True, check=False)
    answers = list(_answers(done.stdout, calls))
    if done.returncode or len(answers) != len(calls):
        stopped = calls[min(len(answers), len(calls) - 1)].function
        raise NcpcError(f"the RTL, in {stopped}: {done.stderr.decode().strip() or done.returncode}")
    return answers


def _packed(c: PlacedCall, image: Image) -> bytes:
    arguments = (*c.arguments, 0, 0, 0, 0)[:4]
    words = (image.address(c.function), *arguments, c.into, len(c.written), c.base, c.size)
    return np.array(words, "<u4").tobytes() + c.written


def _answers(given: bytes, calls: Sequence[PlacedCall]) -> Iterator[Measured]:
    at = 0
    for c in calls:
        if len(given) < at + HEAD.itemsize:
            return
        head = np.frombuffer(given, HEAD, 1, at)[0]
        at += HEAD.itemsize
        entered = np.frombuffer(given, ENTERED, int(head["listed"]), at)
        at += entered.nbytes
        cycles = int(head["cycles"])
        yield Measured(cycles, cycles, int(head["instructions"]), int(head["value"]), given[at : at + c.size], entered)
        at += c.size
