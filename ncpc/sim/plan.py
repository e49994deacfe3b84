"""What a simulation is asked and what it answers: plain records of bytes and counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class CallInterface:
    """How to call a linked policy: its C symbols and the sizes, in bytes, of what they exchange.

    ``init(s)`` and ``reset(s)`` take the instance; ``step(s, x, y)``, or ``step(s, x, dt, y)`` if ``takes_dt``, returns
    the status word. With ``float_dt`` dt is a float, which cores with an FPU take in another register. ``state`` are
    (offset, size) ranges of the instance to read back after each step. ``struct_alignment`` is in bytes, as the
    instance's type has it; the simulator's own places are aligned more. ``struct_symbol`` names a static instance in
    the ELF; without it the simulator places one in RAM behind the image.
    ``neuron_label`` is a symbol kept at the entry of the neuron loop's body (copies named ``label_<digits>`` count as
    the same label), passed ``neuron_count`` times per unfold. ``neuron_end`` is one behind the neuron's last write:
    give it wherever the entry may share its address with the head of an inner loop, since an entry then counts only
    once until the neuron has ended. ``restore(s, from)``, which returns status bits, ``save(s, to)`` and
    ``self_test()`` are called where they are named.
    """

    init: str
    step: str
    reset: str
    struct_bytes: int
    x_bytes: int
    y_bytes: int
    takes_dt: bool = False
    float_dt: bool = False
    state: tuple[tuple[int, int], ...] = ()
    struct_symbol: str | None = None
    neuron_label: str | None = None
    neuron_count: int = 0
    neuron_end: str | None = None
    restore: str | None = None
    save: str | None = None
    self_test: str | None = None
    struct_alignment: int = 1

    @property
    def state_bytes(self) -> int:
        """Bytes read back from the instance after each step."""
        return sum(size for _, size in self.state)


@dataclass(frozen=True, eq=False)
class CallPlan:
    """B sequences of T steps. The first starts from init on a poisoned instance, the others from reset.

    ``x`` (B, T, x_bytes) uint8; ``dt`` (B, T) uint32, the argument's bits (an unsigned fixed-point number, or a
    float32), present exactly if the interface takes one; ``reset`` (B, T) bool: call reset before that step. ``start``
    (B, state_bytes) uint8: the state each sequence starts from, its ranges in the interface's order; given to
    ``restore`` where the interface names one, whose status bits are those of the first step then, else written.
    """

    interface: CallInterface
    x: Bytes
    dt: NDArray[np.uint32] | None = None
    reset: NDArray[np.bool_] | None = None
    start: Bytes | None = None


@dataclass(frozen=True)
class Fault:
    """Why a run stopped: in which call, at which instruction, touching which address.

    ``kind``: ``read``, ``write`` or ``fetch`` outside the memories the core declares, ``protected`` (write to flash,
    fetch from RAM), ``misaligned`` (the timing tables hold for aligned accesses), ``invalid`` (undefined instruction),
    ``exception`` (any other trap), ``stack`` (the stack met the data below it), ``timeout`` (instruction limit).
    ``step`` is -1 inside init.
    """

    sequence: int
    step: int
    function: str
    kind: str
    pc: int
    address: int
    size: int

    def __str__(self) -> str:
        place = f"sequence {self.sequence} step {self.step}" if self.step >= 0 else "init"
        return f"{place}: {self.kind} of {self.size} bytes at 0x{self.address:08x} by {self.function} (0x{self.pc:08x})"


@dataclass(frozen=True)
class Cost:
    """Totals over a run: executed instructions, cycles (lower and upper bound), entries."""

    instructions: int
    lower: int
    upper: int
    entries: int


@dataclass(frozen=True, eq=False)
class SimResult:
    """What the deployed binary did. Arrays are (B, T, ...) in the order of the plan.

    ``y`` and ``state`` uint8 bytes, ``status`` uint32, ``instructions``, ``lower``, ``upper`` int64 per step (from the
    step function's first instruction to its return, inclusive). ``functions`` are exclusive totals by function and add
    up to the sum over all steps; so do ``neurons`` plus ``neurons_other`` (empty without a label). ``stack_bytes`` is
    the deepest stack of the run. After a fault the arrays hold zeros from step ``completed`` on.
    With timing class ``count``, lower and upper equal the instruction count and are no cycle figures. ``saved``
    (B, state_bytes) is what ``save`` gave after each sequence, None without one; ``self_test`` what that returned.
    """

    y: Bytes
    state: Bytes
    status: NDArray[np.uint32]
    instructions: Counts
    lower: Counts
    upper: Counts
    functions: Mapping[str, Cost]
    neurons: tuple[Cost, ...]
    neurons_other: Cost | None
    stack_bytes: int
    completed: int
    faults: tuple[Fault, ...]
    timing_class: str
    emulator: str
    hook: Literal["c", "python"]
    saved: Bytes | None = None
    self_test: int | None = None


@dataclass(frozen=True, eq=False)
class StepResult:
    """One step of a session: ``y`` and ``state`` uint8 bytes, status word, instructions, cycle bounds."""

    y: Bytes
    state: Bytes
    status: int
    instructions: int
    lower: int
    upper: int
