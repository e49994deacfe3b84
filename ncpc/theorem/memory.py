"""Memory of terms: the instance, the inputs, the outputs and the stack lie somewhere in RAM, aligned and apart.

An address there is a base plus a number. Bytes are kept as they were stored, a word as one cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ncpc.theorem.spans import zeros_below
from ncpc.theorem.term import BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK

Cells = dict[tuple[str, int], tuple[int, BitTerm]]


@dataclass(frozen=True)
class RamRegion:
    """A piece of RAM at ``base``: the offsets from it that exist, which of them may be stored to, its alignment."""

    name: str
    base: BitTerm
    first: int
    end: int
    writable: bool
    alignment: int


@dataclass
class Ram:
    """``cells`` by region and offset: how many bytes, and what they hold. ``lowest``: the deepest store by region."""

    terms: BitTerms
    regions: Mapping[BitTerm, RamRegion]
    cells: Cells = field(default_factory=dict)
    lowest: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Ram:
        """Another one with the same content."""
        return replace(self, cells=dict(self.cells), lowest=dict(self.lowest))

    def place(self, address: BitTerm) -> tuple[RamRegion, int] | None:
        """RamRegion and offset of an address; None for one that is in no region."""
        if address in self.regions:
            return self.regions[address], 0
        if address.op == "lin" and len(address.args) == 1 and address.par[0] == 1 and address.args[0] in self.regions:
            return self.regions[address.args[0]], address.par[1]
        return None

    def load(self, address: BitTerm, size: int, signed: bool) -> BitTerm:
        """``size`` bytes, extended to a word. Raises Undecided where nothing is known to be there."""
        place = self.place(address)
        if place is None:
            return self._from_flash(address, size, signed)
        region, offset = place
        require_aligned(region, offset, size)
        return self.extended(self._bytes(region.name, offset, size), size, signed)

    def _from_flash(self, address: BitTerm, size: int, signed: bool) -> BitTerm:
        """Constants; a table's entry at an address that varies."""
        if not address.fixed:
            if zeros_below(address) < size.bit_length() - 1:
                raise Undecided(f"a load of {size} bytes at {address}, whose alignment is not known")
            return self.terms.load(address, size, signed)
        at = address.par[0] & MASK
        word = self.terms.flash.read(at, size)
        if word is None or at % size:
            raise Undecided(f"a load of {size} bytes from {at:#x}, which is no constant in flash")
        return self.extended(self.terms.const(word), size, signed)

    def _bytes(self, region: str, offset: int, size: int) -> BitTerm:
        """A term whose low bytes are those stored there."""
        for start in range(offset, offset - 4, -1):
            held = self.cells.get((region, start))
            if held is not None and start + held[0] >= offset + size:
                return self.terms.srl(held[1], 8 * (offset - start))
        if size == 1:
            raise Undecided(f"a load from {region}{offset:+d}, where nothing was stored")
        half = size // 2
        low, high = (self._bytes(region, offset + i, half) for i in (0, half))
        return self.terms.lin([(self.extended(low, half, False), 1), (high, 1 << (8 * half))])

    def extended(self, term: BitTerm, size: int, signed: bool) -> BitTerm:
        """The low ``size`` bytes as a number."""
        k = 32 - 8 * size
        shifted = self.terms.shl(term, k)
        return self.terms.asr(shifted, k) if signed else self.terms.srl(shifted, k)

    def store(self, address: BitTerm, size: int, term: BitTerm) -> None:
        """Raises Undecided for a store to anything but the instance, the outputs and the stack."""
        place = self.place(address)
        if place is None or not place[0].writable:
            raise Undecided(f"a store of {size} bytes at {address}, outside what the step may change")
        region, offset = place
        if offset < region.first or offset + size > region.end:
            raise Undecided(f"a store of {size} bytes at {region.name}{offset:+d}, which is outside of it")
        require_aligned(region, offset, size)
        self.put(region.name, offset, size, term)
        self.lowest[region.name] = min(offset, self.lowest.get(region.name, region.end))

    def put(self, region: str, offset: int, size: int, term: BitTerm) -> None:
        """Whatever was there."""
        for start in range(offset - 3, offset + size):
            held = self.cells.get((region, start))
            if held is not None and start + held[0] > offset and not (start == offset and held[0] <= size):
                self._split(region, start)
        for byte in range(offset, offset + size):
            self.cells.pop((region, byte), None)
        self.cells[region, offset] = (size, term)

    def forget_below(self, region: RamRegion, offset: int) -> None:
        """Of a region that is a stack, what lies below the offset to which it has come."""
        for place in [p for p in self.cells if p[0] == region.name and p[1] < offset]:
            del self.cells[place]

    def _split(self, region: str, start: int) -> None:
        size, term = self.cells.pop((region, start))
        for i in range(size):
            self.cells[region, start + i] = (1, self.terms.srl(term, 8 * i))


def require_aligned(region: RamRegion, offset: int, size: int) -> None:
    """Raises Undecided for an access that is not aligned wherever the region is."""
    if offset % size or size > region.alignment:
        raise Undecided(f"a misaligned access of {size} bytes at {region.name}{offset:+d}")


def merged(condition: BitTerm, yes: Ram, no: Ram) -> Ram:
    """After two ways that are taken by a condition; what only one of them stored is lost."""
    ite, cells = yes.terms.ite, Cells()
    for at in yes.cells.keys() & no.cells.keys():
        (size, a), (other, b) = yes.cells[at], no.cells[at]
        if size == other:
            cells[at] = (size, ite(condition, a, b))
    lowest = {r: min(m.lowest.get(r, 0) for m in (yes, no) if r in m.lowest) for r in {*yes.lowest, *no.lowest}}
    return replace(yes, cells=cells, lowest=lowest)
