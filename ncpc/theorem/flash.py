"""What of a linked program cannot change: its code and constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.elf import DATA, ZERO, Image
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import Words, words


@dataclass(frozen=True, eq=False)
class Flash:
    """Pieces of memory by their first addresses."""

    pieces: tuple[tuple[int, NDArray[np.uint8]], ...]

    def piece(self, start: int, end: int) -> tuple[int, NDArray[np.uint8]] | None:
        """The piece that all bytes from start up to end lie in, and its first address."""
        return next((p for p in self.pieces if p[0] <= start and end <= p[0] + len(p[1])), None)

    def require(self, start: int, end: int) -> tuple[int, NDArray[np.uint8]]:
        """The same. Raises Undecided where there is none."""
        found = self.piece(start, end)
        if found is None:
            raise Undecided(f"a load from {start:#x} to {end:#x}, which is not in one piece of flash")
        return found

    def read(self, start: int, size: int) -> int | None:
        """The little-endian word at an address; None outside flash."""
        found = self.piece(start, start + size)
        return None if found is None else int.from_bytes(found[1][start - found[0] :][:size].tobytes(), "little")

    def gather(self, addresses: Words, size: int, signed: bool) -> Words:
        """The words at many addresses. Raises Undecided where not all lie in one piece."""
        at = addresses.astype(np.int64)
        first, data = self.require(int(at.min()), int(at.max()) + size)
        total = sum((data[at - first + i].astype(np.int64) << (8 * i) for i in range(size)), np.zeros(1, np.int64))
        sign = 1 << (8 * size - 1)
        return words((total ^ sign) - sign if signed else total)


def flash_of(image: Image) -> Flash:
    """Code and constants of a linked program: what is neither initialized nor zeroed data."""
    changing = [(s.address, s.address + s.size) for s in image.sections if s.kind in (DATA, ZERO)]
    kept = [s for s in image.segments
            if s.data and not any(a < s.address + s.memory_size and s.address < b for a, b in changing)]
    return Flash(tuple((s.address, np.frombuffer(s.data, np.uint8)) for s in kept))
