"""Small faults in a linked RV32IMC program: one instruction or one entry of a table is another."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from elftools.elf.elffile import ELFFile

from ncpc.cores.elf import READ_ONLY, Image, read_elf
from ncpc.theorem.flash import Flash, flash_of
from ncpc.theorem.riscv import RiscvCode
from ncpc.theorem.riscv_decode import LAYOUTS, RiscvLayout


@dataclass(frozen=True)
class Fault:
    """``new`` instead of ``old`` at an address: both numbers of ``size`` bytes."""

    kind: str
    number: int
    address: int
    size: int
    old: int
    new: int


@dataclass(frozen=True, eq=False)
class Linked:
    """A program and what of it a step runs and reads: addresses of instructions, and of bytes of tables."""

    elf: bytes
    image: Image
    flash: Flash
    instructions: tuple[int, ...]
    tables: tuple[int, ...]

    def word(self, address: int, size: int) -> int:
        word = self.flash.read(address, size)
        assert word is not None
        return word

    def layout(self, address: int) -> tuple[RiscvLayout, int]:
        """The row of the decoder that reads the instruction there, and its word."""
        for size, layouts in LAYOUTS.items():
            for layout in layouts:
                if layout.read(self.word(address, size)) is not None:
                    return layout, self.word(address, size)
        raise AssertionError(hex(address))


def linked(elf: bytes, step: str) -> Linked:
    """What can run of the function ``step``, calls included, and all constants."""
    image = read_elf(elf)
    flash = flash_of(image)
    code, reached, todo = RiscvCode(flash), set[int](), [image.address(step)]
    while todo:
        pc = todo.pop()
        if pc not in reached:
            reached.add(pc)
            called = code.at(pc).name == "jal" and code.at(pc).rd != 0
            todo += [*code.successors(pc), *([pc + code.at(pc).imm] if called else [])]
    tables = tuple(a for s in image.sections if s.kind == READ_ONLY for a in range(s.address, s.address + s.size))
    return Linked(elf, image, flash, tuple(sorted(reached)), tables)


def with_fields(layout: RiscvLayout, word: int, values: Mapping[str, int]) -> int | None:
    """The word with other values in fields of its row; None where the row has no such word."""
    for field in layout.fields:
        if field.name in values:
            mask = (1 << field.width) - 1
            word = word & ~(mask << field.low) | (values[field.name] >> field.place & mask) << field.low
    return word if layout.read(word) is not None else None


def bit_of_instruction(program: Linked, rng: random.Random) -> Fault | None:
    address = rng.choice(program.instructions)
    layout, word = program.layout(address)
    return Fault("", 0, address, layout.size, word, word ^ 1 << rng.randrange(8 * layout.size))


def bit_of_table(program: Linked, rng: random.Random) -> Fault | None:
    address = rng.choice(program.tables)
    old = program.word(address, 1)
    return Fault("", 0, address, 1, old, old ^ 1 << rng.randrange(8))


def entry_of_table(program: Linked, rng: random.Random) -> Fault | None:
    """16 bits of it are one more or one less."""
    address = rng.choice(program.tables) & ~1
    old = program.word(address, 2)
    return Fault("", 0, address, 2, old, old + rng.choice((1, -1)) & 0xFFFF)


def other_fields(names: Callable[[RiscvLayout, random.Random], Mapping[str, Callable[[int], int]]]
                 ) -> Callable[[Linked, random.Random], Fault | None]:
    """Instructions with other numbers in fields: ``names`` gives what becomes of which, nothing for other rows."""
    def plant(program: Linked, rng: random.Random) -> Fault | None:
        address = rng.choice(program.instructions)
        layout, word = program.layout(address)
        changes = names(layout, rng)
        values = dict.fromkeys(changes, 0)
        for field in layout.fields:
            if field.name in values:
                values[field.name] |= (word >> field.low & (1 << field.width) - 1) << field.place
        new = with_fields(layout, word, {name: change(values[name]) for name, change in changes.items()})
        return None if new is None or not changes else Fault("", 0, address, layout.size, word, new)
    return plant


def shift_amount(layout: RiscvLayout, rng: random.Random) -> Mapping[str, Callable[[int], int]]:
    by = rng.choice((1, -1, 2, 8))
    return {"imm": lambda k: (k + by) % 32} if layout.name in ("slli", "srli", "srai") else {}


def number(layout: RiscvLayout, rng: random.Random) -> Mapping[str, Callable[[int], int]]:
    """The smallest step that an immediate has, up or down."""
    places = [field.place for field in layout.fields if field.name == "imm"]
    if not places or layout.name in ("slli", "srli", "srai"):
        return {}
    by = rng.choice((1, -1)) << min(places)
    return {"imm": lambda imm: imm + by}


def register(layout: RiscvLayout, rng: random.Random) -> Mapping[str, Callable[[int], int]]:
    """One of them is its neighbour or any other."""
    names = sorted({field.name for field in layout.fields if field.name != "imm"})
    by = rng.choice((1, -1, rng.randrange(1, 32)))
    return {rng.choice(names): lambda r: r + by} if names else {}


def operation(program: Linked, rng: random.Random) -> Fault | None:
    """Another one of the same fields; operands of one that has no such twin change places."""
    address = rng.choice(program.instructions)
    layout, word = program.layout(address)
    twins = [other for other in LAYOUTS[layout.size] if other.fields == layout.fields and other is not layout
             and other.name not in ("div", "divu", "rem", "remu")]
    if not twins:
        return None
    twin = rng.choice(twins)
    new = word & ~layout.mask | twin.match
    return None if twin.read(new) is None else Fault("", 0, address, layout.size, word, new)


def swapped(program: Linked, rng: random.Random) -> Fault | None:
    """The two operands in the other order, where that matters."""
    address = rng.choice(program.instructions)
    layout, word = program.layout(address)
    place = {field.name: field.low for field in layout.fields}
    if not {"rs1", "rs2"} <= set(place) or layout.name in ("add", "mul", "and", "or", "xor", "beq", "bne"):
        return None
    one, other = word >> place["rs1"] & 31, word >> place["rs2"] & 31
    new = with_fields(layout, word, {"rs1": other, "rs2": one})
    return None if new is None else Fault("", 0, address, layout.size, word, new)


KINDS: Mapping[str, tuple[int, Callable[[Linked, random.Random], Fault | None]]] = {
    "bit of an instruction": (65, bit_of_instruction),
    "bit of a table": (25, bit_of_table),
    "entry of a table": (25, entry_of_table),
    "shift amount": (20, other_fields(shift_amount)),
    "register": (20, other_fields(register)),
    "operands swapped": (10, swapped),
    "number": (20, other_fields(number)),
    "operation": (15, operation),
}
"""How many of each, and how one is made; None: not of what was drawn."""


def faults(program: Linked) -> list[Fault]:
    """Each follows from its kind and number; no two are the same."""
    seen, made = set[tuple[int, int, int]](), list[Fault]()
    for kind, (count, plant) in KINDS.items():
        for index in range(count):
            rng = random.Random(f"{kind} {index}")
            while True:
                fault = plant(program, rng)
                if fault and fault.new != fault.old and (key := (fault.address, fault.size, fault.new)) not in seen:
                    break
            seen.add(key)
            made.append(replace(fault, kind=kind, number=index))
    return made


def planted(elf: bytes, fault: Fault) -> bytes:
    """The ELF with the fault in it."""
    for segment in ELFFile(io.BytesIO(elf)).iter_segments():
        at = fault.address - segment["p_vaddr"]
        if segment["p_type"] == "PT_LOAD" and 0 <= at < segment["p_filesz"]:
            place = segment["p_offset"] + at
            assert int.from_bytes(elf[place : place + fault.size], "little") == fault.old
            return elf[:place] + fault.new.to_bytes(fault.size, "little") + elf[place + fault.size :]
    raise AssertionError(f"{fault.address:x} is in no segment")


def where(program: Linked, address: int) -> str:
    """Symbol and offset."""
    named = [s for s in program.image.symbols if s.size and s.address <= address < s.address + s.size]
    return f"{named[0].name}+{address - named[0].address}" if named else hex(address)


def text(word: int, size: int) -> str:
    """An instruction, or what it is not."""
    for layout in LAYOUTS.get(size, ()):
        if (read := layout.read(word)) is not None:
            return " ".join([read.name, *(f"{name}={getattr(read, name)}" for name in ("rd", "rs1", "rs2", "imm"))])
    return f"{word:0{2 * size}x}"
