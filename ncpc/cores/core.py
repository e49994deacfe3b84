"""What the simulator and the toolchain know of a microcontroller core."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Arch = Literal["arm", "riscv32"]
TimingClass = Literal["rtl-checked", "manual", "bounds", "count"]


@dataclass(frozen=True)
class Region:
    """A memory of the core: first address and size in bytes."""

    origin: int
    size: int

    @property
    def end(self) -> int:
        """First address past the region."""
        return self.origin + self.size


@dataclass(frozen=True)
class Estimate:
    """Upper cycles and flash bytes (without tables) of an int16 step: what one of each unit that is counted takes
    (``ncpc/inspect/estimates.py``), and what is ``fixed``. Fitted by ``benchmarks/estimates.py`` to networks whose
    figures stand beside it; tests hold the estimates to those, and those to what is built.
    """

    cycles: Mapping[str, float]
    flash: Mapping[str, float]


@dataclass(frozen=True)
class Core:
    """One microcontroller core: how to compile for it, where its memories lie, how its cycles are counted.

    ``isa`` is the instruction set, by the names of ``ncpc.theorem.instruction_sets``.
    ``timing_class`` says what the cycle figures mean: ``rtl-checked`` (equal to the RTL on the committed comparison),
    ``manual`` (the reference manual's counts), ``bounds`` (lower and upper bound), ``count`` (instructions only).
    ``hard_float`` is true where float arithmetic runs on an FPU and floats are passed in its registers. ``chips`` are
    beginnings of the names of chips that have the core, for those who ask for a chip. ``estimates`` are ``ltc`` and
    ``generic``, by the form of the integer step; none where nobody has fitted one.
    """

    name: str
    title: str
    arch: Arch
    isa: str
    zig_target: str
    zig_mcpu: str
    zig_flags: tuple[str, ...]
    gcc_command: str
    gcc_flags: tuple[str, ...]
    flash: Region
    ram: Region
    timing_class: TimingClass
    timing_table: str
    emulator_cpu: str
    elf_machine: str
    hard_float: bool
    chips: tuple[str, ...]
    estimates: Mapping[str, Estimate]

    @property
    def long_products(self) -> bool:
        """Whether an instruction multiplies 32 by 32 bits to 64."""
        return self.isa != "armv6-m"
