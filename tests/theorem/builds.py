"""Linked steps to prove: policies compiled for a core, and their ELFs changed by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks.elf_runs import Build, built
from ncpc.cores.elf import read_elf
from ncpc.driver.job import Request
from ncpc.ir.program import Program
from ncpc.theorem.equality import Budget
from ncpc.theorem.theorem import Theorem

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, eq=False)
class Linked:
    """A Program and the ELF that its C became."""

    build: Build

    @property
    def program(self) -> Program:
        return self.build.program

    @property
    def elf(self) -> bytes:
        return self.build.elf

    def prove(self, elf: bytes | None = None, seconds: float = 120) -> Theorem:
        return self.build.prove(elf or self.elf, Budget(seconds))

    def with_byte(self, symbol: str, offset: int, change: int) -> bytes:
        """The ELF with one byte at an offset from a symbol increased."""
        return with_byte(self.elf, symbol, offset, change)


def linked(folder: Path, policy: Path, request: Request) -> Linked:
    """Compiled and linked, not verified."""
    return Linked(built(folder, policy, request))


def with_byte(elf: bytes, symbol: str, offset: int, change: int) -> bytes:
    """An ELF with one byte at an offset from a symbol increased."""
    image = read_elf(elf)
    at = image.address(symbol) + offset
    segment = next(s for s in image.segments if s.address <= at < s.address + len(s.data))
    place = elf.index(segment.data) + at - segment.address
    return elf[:place] + bytes([(elf[place] + change) & 0xFF]) + elf[place + 1 :]
