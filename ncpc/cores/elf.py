"""Reading a linked 32-bit ELF: segments, sections, symbols, and which function an address lies in."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncpc.errors import BadInput, MissingTool

CODE, READ_ONLY, DATA, ZERO = "code", "constants", "data", "zero"


@dataclass(frozen=True)
class Segment:
    """Bytes to load: ``data`` at ``address`` (where it runs) and ``load_address`` (where flash holds it)."""

    address: int
    load_address: int
    data: bytes
    memory_size: int
    executable: bool


@dataclass(frozen=True)
class Section:
    """An allocated section: what it holds (``code``, ``constants``, ``data``, ``zero``), address, size in bytes."""

    name: str
    kind: str
    address: int
    size: int


@dataclass(frozen=True)
class Symbol:
    """A defined symbol; Thumb addresses have bit 0 cleared. ``kind`` is ``function``, ``object`` or ``label``."""

    name: str
    address: int
    size: int
    kind: str


@dataclass(frozen=True)
class Image:
    """A linked program. ``symbols`` are sorted by address, then name; ``functions`` those of them with code."""

    machine: str
    entry: int
    segments: tuple[Segment, ...]
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]

    @property
    def flash_bytes(self) -> int:
        """Bytes in program memory: code, constants and the initial values of data."""
        return sum(s.size for s in self.sections if s.kind != ZERO)

    @property
    def ram_bytes(self) -> int:
        """Bytes of static RAM: initialized and zeroed data, without the stack."""
        return sum(s.size for s in self.sections if s.kind in (DATA, ZERO))

    @property
    def functions(self) -> tuple[Symbol, ...]:
        """The functions, by address."""
        return tuple(s for s in self.symbols if s.kind == "function")

    def address(self, name: str) -> int:
        """Address of the symbol called ``name``. Raises BadInput if the ELF has none."""
        return self.symbol(name).address

    def symbol(self, name: str) -> Symbol:
        """The symbol called ``name``. Raises BadInput if the ELF has none."""
        found = next((s for s in self.symbols if s.name == name), None)
        if found is None:
            raise BadInput(f"the ELF has no symbol '{name}': keep it when linking")
        return found

    def labels(self, name: str) -> tuple[int, ...]:
        """Addresses of the symbols called ``name`` or ``name_<digits>`` (the copies an unrolled loop has)."""
        pattern = re.compile(re.escape(name) + r"(_\d+)?$")
        return tuple(sorted({s.address for s in self.symbols if pattern.match(s.name)}))


def function_at(functions: tuple[Symbol, ...], address: int) -> int:
    """Index of the function ``address`` lies in, or -1. A function without a size reaches to the next one."""
    index = bisect_right([f.address for f in functions], address) - 1
    if index < 0:
        return -1
    size = functions[index].size
    return index if size == 0 or address < functions[index].address + size else -1


def read_elf(data: bytes) -> Image:
    """Parse a linked ELF. Raises BadInput if it is none, MissingTool without pyelftools."""
    try:
        from elftools.common.exceptions import ELFError
        from elftools.elf.elffile import ELFFile
    except ImportError:
        raise MissingTool("reading an ELF needs pyelftools: pip install 'ncpc[c]'") from None
    try:
        elf = ELFFile(io.BytesIO(data))
    except ELFError:
        raise BadInput("the file is not an ELF: give one that the toolchain linked") from None
    if elf["e_type"] == "ET_REL":
        raise BadInput("the file is an object that was not linked: give the ELF that it was linked into")
    machine = str(elf["e_machine"])
    thumb = machine == "EM_ARM"
    try:
        return Image(machine, int(elf["e_entry"]) & ~int(thumb), _segments(elf), _sections(elf), _symbols(elf, thumb))
    except (ELFError, ValueError, LookupError, ArithmeticError) as error:
        raise BadInput(f"the file is a damaged ELF ({error}): link it again") from None


def _segments(elf: Any) -> tuple[Segment, ...]:
    return tuple(
        Segment(s["p_vaddr"], s["p_paddr"], s.data(), s["p_memsz"], bool(s["p_flags"] & 1))
        for s in elf.iter_segments()
        if s["p_type"] == "PT_LOAD" and s["p_memsz"] > 0
    )


def _sections(elf: Any) -> tuple[Section, ...]:
    return tuple(
        Section(s.name, _section_kind(s), s["sh_addr"], s["sh_size"])
        for s in elf.iter_sections()
        if s["sh_flags"] & 2 and s["sh_size"] > 0
    )


def _section_kind(section: Any) -> str:
    writable, executable = section["sh_flags"] & 1, section["sh_flags"] & 4
    if section["sh_type"] == "SHT_NOBITS":
        return ZERO
    return CODE if executable else DATA if writable else READ_ONLY


KINDS: Mapping[str, str] = {"STT_FUNC": "function", "STT_OBJECT": "object", "STT_NOTYPE": "label"}


def _symbols(elf: Any, thumb: bool) -> tuple[Symbol, ...]:
    table = elf.get_section_by_name(".symtab")
    found = [] if table is None else list(table.iter_symbols())
    defined = [s for s in found if s.name and s["st_shndx"] != "SHN_UNDEF" and s["st_info"]["type"] in KINDS]
    symbols = [_symbol(s, thumb) for s in defined if not s.name.startswith(("$", ".L"))]
    return tuple(sorted(symbols, key=lambda s: (s.address, s.name)))


def _symbol(entry: Any, thumb: bool) -> Symbol:
    kind = KINDS[entry["st_info"]["type"]]
    mask = ~1 if thumb and kind != "object" else ~0
    return Symbol(entry.name, entry["st_value"] & mask, entry["st_size"], kind)


def map_text(image: Image) -> str:
    """Sections and symbols by address, as text."""
    lines = [f"{s.address:08x} {s.size:8d} {s.kind:<9} {s.name}" for s in image.sections]
    lines += [f"{s.address:08x} {s.size:8d} {s.kind:<9} {s.name}" for s in image.symbols]
    return "\n".join(lines) + "\n"
