"""RV32IMC machine code to instructions: no more than what a compiler writes into a step, and nothing guessed.

The layouts are those of the RISC-V unprivileged manual (version 20191213), in its notation: chapter 24, "RV32/64G
Instruction Set Listings", and tables 16.5 to 16.7, "Instruction listing for RVC". ``imm[4|9:8]`` are the bits of the
immediate that stand there, the highest first; ``imm`` and ``nzimm`` are signed, all others are not; ``nz`` says that 0
is reserved or a hint. A word that fits no row is refused, whatever a processor would do with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ncpc.theorem.undecided import Undecided

WORDS = """
lui    : imm[31:12] rd!=0 0110111
auipc  : imm[31:12] rd!=0 0010111
jal    : imm[20|10:1|11|19:12] rd 1101111
jalr   : imm[11:0] rs1 000 rd 1100111
beq    : imm[12|10:5] rs2 rs1 000 imm[4:1|11] 1100011
bne    : imm[12|10:5] rs2 rs1 001 imm[4:1|11] 1100011
blt    : imm[12|10:5] rs2 rs1 100 imm[4:1|11] 1100011
bge    : imm[12|10:5] rs2 rs1 101 imm[4:1|11] 1100011
bltu   : imm[12|10:5] rs2 rs1 110 imm[4:1|11] 1100011
bgeu   : imm[12|10:5] rs2 rs1 111 imm[4:1|11] 1100011
lb     : imm[11:0] rs1 000 rd!=0 0000011
lh     : imm[11:0] rs1 001 rd!=0 0000011
lw     : imm[11:0] rs1 010 rd!=0 0000011
lbu    : imm[11:0] rs1 100 rd!=0 0000011
lhu    : imm[11:0] rs1 101 rd!=0 0000011
sb     : imm[11:5] rs2 rs1 000 imm[4:0] 0100011
sh     : imm[11:5] rs2 rs1 001 imm[4:0] 0100011
sw     : imm[11:5] rs2 rs1 010 imm[4:0] 0100011
addi   : imm[11:0] rs1 000 rd!=0 0010011
addi   : 000000000000 00000 000 00000 0010011
slti   : imm[11:0] rs1 010 rd!=0 0010011
sltiu  : imm[11:0] rs1 011 rd!=0 0010011
xori   : imm[11:0] rs1 100 rd!=0 0010011
ori    : imm[11:0] rs1 110 rd!=0 0010011
andi   : imm[11:0] rs1 111 rd!=0 0010011
slli   : 0000000 shamt[4:0] rs1 001 rd!=0 0010011
srli   : 0000000 shamt[4:0] rs1 101 rd!=0 0010011
srai   : 0100000 shamt[4:0] rs1 101 rd!=0 0010011
add    : 0000000 rs2 rs1 000 rd!=0 0110011
sub    : 0100000 rs2 rs1 000 rd!=0 0110011
sll    : 0000000 rs2 rs1 001 rd!=0 0110011
slt    : 0000000 rs2 rs1 010 rd!=0 0110011
sltu   : 0000000 rs2 rs1 011 rd!=0 0110011
xor    : 0000000 rs2 rs1 100 rd!=0 0110011
srl    : 0000000 rs2 rs1 101 rd!=0 0110011
sra    : 0100000 rs2 rs1 101 rd!=0 0110011
or     : 0000000 rs2 rs1 110 rd!=0 0110011
and    : 0000000 rs2 rs1 111 rd!=0 0110011
mul    : 0000001 rs2 rs1 000 rd!=0 0110011
mulh   : 0000001 rs2 rs1 001 rd!=0 0110011
mulhsu : 0000001 rs2 rs1 010 rd!=0 0110011
mulhu  : 0000001 rs2 rs1 011 rd!=0 0110011
div    : 0000001 rs2 rs1 100 rd!=0 0110011
divu   : 0000001 rs2 rs1 101 rd!=0 0110011
rem    : 0000001 rs2 rs1 110 rd!=0 0110011
remu   : 0000001 rs2 rs1 111 rd!=0 0110011
"""
"""Without fence, ecall, ebreak and csr. What only writes x0 is a hint (section "HINT Instructions") but for the nop."""

HALVES = """
addi rs1=2      : 000 nzuimm[5:4|9:6|2|3] rd' 00
lw              : 010 uimm[5:3] rs1' uimm[2|6] rd' 00
sw              : 110 uimm[5:3] rs1' uimm[2|6] rs2' 00
addi            : 000 0 00000 00000 01
addi            : 000 nzimm[5] rs1/rd!=0 nzimm[4:0] 01
jal rd=1        : 001 imm[11|4|9:8|10|6|7|3:1|5] 01
addi            : 010 imm[5] rd!=0 imm[4:0] 01
addi rd=2 rs1=2 : 011 nzimm[9] 00010 nzimm[4|6|8:7|5] 01
lui             : 011 nzimm[17] rd!=0,2 nzimm[16:12] 01
srli            : 100 0 00 rs1'/rd' nzuimm[4:0] 01
srai            : 100 0 01 rs1'/rd' nzuimm[4:0] 01
andi            : 100 imm[5] 10 rs1'/rd' imm[4:0] 01
sub             : 100 0 11 rs1'/rd' 00 rs2' 01
xor             : 100 0 11 rs1'/rd' 01 rs2' 01
or              : 100 0 11 rs1'/rd' 10 rs2' 01
and             : 100 0 11 rs1'/rd' 11 rs2' 01
jal             : 101 imm[11|4|9:8|10|6|7|3:1|5] 01
beq             : 110 imm[8|4:3] rs1' imm[7:6|2:1|5] 01
bne             : 111 imm[8|4:3] rs1' imm[7:6|2:1|5] 01
slli            : 000 0 rs1/rd!=0 nzuimm[4:0] 10
lw rs1=2        : 010 uimm[5] rd!=0 uimm[4:2|7:6] 10
jalr            : 100 0 rs1!=0 00000 10
add             : 100 0 rd!=0 rs2!=0 10
jalr rd=1       : 100 1 rs1!=0 00000 10
add             : 100 1 rs1/rd!=0 rs2!=0 10
sw rs1=2        : 110 uimm[5:2|7:6] rs2 10
"""
"""As the base instruction that each is. The bit before a shift amount is 0 on RV32: 1 is left to custom extensions."""

REGISTER = re.compile(r"(?P<names>(?:rs1'?/)?(?:rd|rs1|rs2)(?P<short>'?))(?:!=(?P<never>[\d,]+))?")
IMMEDIATE = re.compile(r"(?P<kind>nzimm|imm|nzuimm|uimm|shamt)\[(?P<bits>[\d:|]+)\]")


@dataclass(frozen=True, slots=True)
class Riscv:
    """An instruction of RV32IM: registers by number (0 where it has none), the signed immediate as an integer added,
    compared or shifted by, the size in bytes (2: it was compressed). ``lui`` and ``auipc`` hold ``imm`` shifted."""

    name: str
    rd: int = 0
    rs1: int = 0
    rs2: int = 0
    imm: int = 0
    size: int = 4


@dataclass(frozen=True, slots=True)
class BitField:
    """``width`` bits from ``low`` of the word are the bits from ``place`` of ``name``."""

    name: str
    low: int
    width: int
    place: int


@dataclass(frozen=True, slots=True)
class RiscvLayout:
    """A row of the tables: the words w with w & mask = match, unless a field has a value that it never has."""

    name: str
    size: int
    fixed: tuple[tuple[str, int], ...]
    """rd, rs1, rs2 and imm where no field gives them."""
    mask: int
    match: int
    fields: tuple[BitField, ...]
    never: tuple[tuple[str, int], ...]
    signed: int
    """The sign bit of the immediate as a number; 0 for an unsigned one."""

    def read(self, word: int) -> Riscv | None:
        """The instruction, or None if ``word`` is not of this row."""
        if word & self.mask != self.match:
            return None
        values: dict[str, int] = dict.fromkeys((field.name for field in self.fields), 0)
        for field in self.fields:
            values[field.name] += (word >> field.low & (1 << field.width) - 1) << field.place
        for name in ("rd'", "rs1'", "rs2'"):  # the three bits of a popular register: x8 to x15
            if name in values:
                values[name[:-1]] = values.pop(name) + 8
        if any(values[name] == value for name, value in self.never):
            return None
        if values.get("imm", 0) & self.signed:
            values["imm"] -= 2 * self.signed
        rd, rs1, rs2, imm = (values.get(name, fixed) for name, fixed in self.fixed)
        return Riscv(self.name, rd, rs1, rs2, imm, self.size)


def _ranges(bits: str) -> list[tuple[int, int]]:
    """``4|9:8`` as [(4, 4), (9, 8)]."""
    return [(int(part.split(":")[0]), int(part.split(":")[-1])) for part in bits.split("|")]


def _layout(row: str, size: int) -> RiscvLayout:
    head, tokens = (part.split() for part in row.split(":", 1))
    low, mask, match, sign = 8 * size, 0, 0, 0
    fields: list[BitField] = []
    never: set[tuple[str, int]] = set()
    for token in tokens:
        if set(token) <= {"0", "1"}:
            low -= len(token)
            mask |= (1 << len(token)) - 1 << low
            match |= int(token, 2) << low
        elif register := REGISTER.fullmatch(token):
            low -= 3 if register["short"] else 5
            names = register["names"].split("/")
            fields += [BitField(name, low, 3 if register["short"] else 5, 0) for name in names]
            never |= {(name, int(n)) for name in names for n in (register["never"] or "").split(",") if n}
        elif immediate := IMMEDIATE.fullmatch(token):
            for high, place in _ranges(immediate["bits"]):
                low -= high - place + 1
                fields.append(BitField("imm", low, high - place + 1, place))
                sign = max(sign, 1 << high if immediate["kind"] in ("imm", "nzimm") else 0)
            never |= {("imm", 0)} if immediate["kind"].startswith("nz") else set()
    assert low == 0, f"{row}: {low} bits without a meaning"
    fixed = dict.fromkeys(("rd", "rs1", "rs2", "imm"), 0)
    fixed |= {name: int(value) for name, value in (word.split("=") for word in head[1:])}
    return RiscvLayout(head[0], size, tuple(fixed.items()), mask, match, tuple(fields), tuple(sorted(never)), sign)


def _layouts(table: str, size: int) -> Iterator[RiscvLayout]:
    return (_layout(row, size) for row in table.strip().splitlines())


LAYOUTS = {2: tuple(_layouts(HALVES, 2)), 4: tuple(_layouts(WORDS, 4))}
"""By the size of an instruction in bytes."""


def decode(word: int, pc: int) -> Riscv:
    """The instruction at ``pc``, where the four bytes of ``word`` stand, the lowest first; a compressed one is two.

    Raises Undecided for every word that is no row of the tables.
    """
    size = 4 if word & 3 == 3 else 2
    word &= (1 << 8 * size) - 1
    for layout in LAYOUTS[size]:
        if instruction := layout.read(word):
            return instruction
    raise Undecided(f"at {pc:x}: {word:0{2 * size}x} is no instruction of RV32IMC that a step is known by")
