"""Decoding RV32IMC: held against capstone with operands, and refusing whatever the tables do not list."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from ncpc.sim.decode import disassembler
from ncpc.theorem.riscv_decode import LAYOUTS, Riscv, decode
from ncpc.theorem.undecided import Undecided

REGISTERS = "add sub sll slt sltu xor srl sra or and mul mulh mulhsu mulhu div divu rem remu"
IMMEDIATES = "jalr addi slti sltiu xori ori andi slli srli srai lb lh lw lbu lhu"
FORMS = {
    **{name: f"{name} a b c 0" for name in REGISTERS.split()},
    **{name: f"{name} a b 0 c" for name in IMMEDIATES.split()},
    **{name: f"{name} 0 b a c" for name in ("sb", "sh", "sw")},
    **{name: f"{name} 0 a b c" for name in ("beq", "bne", "blt", "bge", "bltu", "bgeu")},
    "lui": "lui a 0 0 b", "auipc": "auipc a 0 0 b", "jal": "jal a 0 0 b",
    # pseudoinstructions: chapter "RISC-V Assembly Programmer's Handbook"
    "nop": "addi 0 0 0 0", "mv": "addi a b 0 0", "not": "xori a b 0 -1", "neg": "sub a 0 b 0",
    "seqz": "sltiu a b 0 1", "snez": "sltu a 0 b 0", "sltz": "slt a b 0 0", "sgtz": "slt a 0 b 0",
    "beqz": "beq 0 a 0 b", "bnez": "bne 0 a 0 b", "blez": "bge 0 0 a b", "bgez": "bge 0 a 0 b",
    "bltz": "blt 0 a 0 b", "bgtz": "blt 0 0 a b", "j": "jal 0 0 0 a", "jr": "jalr 0 a 0 0", "ret": "jalr 0 1 0 0",
    # compressed
    "c.addi4spn": "addi a b 0 c", "c.lw": "lw a c 0 b", "c.sw": "sw 0 c a b", "c.nop": "addi 0 0 0 0",
    "c.addi": "addi a a 0 b", "c.jal": "jal 1 0 0 a", "c.li": "addi a 0 0 b", "c.addi16sp": "addi a a 0 b",
    "c.lui": "lui a 0 0 b", "c.srli": "srli a a 0 b", "c.srai": "srai a a 0 b", "c.andi": "andi a a 0 b",
    "c.sub": "sub a a b 0", "c.xor": "xor a a b 0", "c.or": "or a a b 0", "c.and": "and a a b 0", "c.j": "jal 0 0 0 a",
    "c.beqz": "beq 0 a 0 b", "c.bnez": "bne 0 a 0 b", "c.slli": "slli a a 0 b", "c.lwsp": "lw a c 0 b",
    "c.jr": "jalr 0 a 0 0", "c.mv": "add a 0 b 0", "c.jalr": "jalr 1 a 0 0", "c.add": "add a a b 0",
    "c.swsp": "sw 0 c a b",
}
"""For each mnemonic of capstone's the base instruction, rd, rs1, rs2 and the immediate: its operands are a, b, c."""
SHORT = {"jal": "jal 1 0 0 a", "jalr": "jalr 1 a 0 0"}
"""The same for two that capstone writes with one operand where rd is ra."""

HINTS = {"c.nop", "c.addi", "c.slli", "c.lui", "c.srli", "c.srai"}
"""What capstone prints for compressed hints and reserved words: immediate 0, x0 written, or bit 5 of a shift amount."""
OTHER_HALVES = {"c.unimp", "c.ebreak", "c.fld", "c.flw", "c.fsd", "c.fsw", "c.fldsp", "c.flwsp", "c.fsdsp", "c.fswsp"}
OTHER_WORDS = re.compile(
    r"fence(\.i|\.tso)?|ecall|ebreak|[mrsu]ret|wfi|sfence\.vma|csrr[wsc]i?|(lr|sc|amo[a-z]+)\.w(\.aq|\.rl|\.aqrl)?"
    r"|fl[wd]|fs[wd]|fn?m(add|sub)\.[sd]|f(add|sub|mul|div|sqrt|min|max|sgnj[nx]?|eq|lt|le|class)\.[sd]"
    r"|fcvt\.(w|wu|s|d)\.(w|wu|s|d)|fmv\.[xw]\.[xw]")
"""What capstone knows and a step has no need of: order, system, control registers, atomics, floating point."""


def theirs(word: int, size: int) -> Any:
    return next(disassembler("riscv32").disasm(word.to_bytes(size, "little"), 0x1000), None)


def ours(word: int) -> Riscv | None:
    try:
        return decode(word, 0x1000)
    except Undecided:
        return None


def operands(instruction: Any) -> list[int]:
    """Registers and numbers in capstone's order; of an address the register, then the number."""
    kinds = {1: lambda o: [o.reg - 1], 2: lambda o: [o.imm], 3: lambda o: [o.mem.base - 1, o.mem.disp]}
    return [value for o in instruction.operands for value in kinds[o.type](o)]


def as_base(instruction: Any) -> Riscv:
    values = operands(instruction)
    form = (SHORT if len(values) == 1 else {}).get(instruction.mnemonic) or FORMS[instruction.mnemonic]
    name, *parts = form.split()
    rd, rs1, rs2, imm = (values["abc".index(part)] if part in "abc" else int(part) for part in parts)
    if name in ("lui", "auipc"):  # capstone gives the upper 20 bits without their sign
        imm = (imm << 12 ^ 1 << 31) - (1 << 31)
    return Riscv(name, rd, rs1, rs2, imm, instruction.size)


def compared(words: Iterator[int], size: int) -> tuple[dict[str, set[int]], set[Riscv]]:
    """What capstone accepts and the decoder refuses, by mnemonic, and what both accept, which is the same."""
    refused: dict[str, set[int]] = defaultdict(set)
    accepted = set()
    for word in words:
        one, other = ours(word), theirs(word, size)
        if one:
            assert other, f"{word:x}: capstone knows no such instruction, and this was read as {one}"
            assert one == as_base(other), f"{word:x}: {other.mnemonic} {other.op_str}"
            accepted.add(one)
        elif other:
            refused[other.insn_name()].add(word)
    return refused, accepted


def test_every_compressed_word_is_read_as_capstone_reads_it_or_refused() -> None:
    refused, accepted = compared((w for w in range(1 << 16) if w & 3 != 3), 2)
    assert set(refused) == HINTS | OTHER_HALVES
    assert {instruction.name for instruction in accepted} == {layout.name for layout in LAYOUTS[2]}
    assert all(w >> 7 & 31 == 0 or (w >> 2 & 31 == 0 and not w >> 12 & 1) for name in ("c.nop", "c.addi", "c.lui")
               for w in refused[name])
    assert all(w >> 12 & 1 or w >> 2 & 31 == 0 or (name == "c.slli" and w >> 7 & 31 == 0)
               for name in ("c.slli", "c.srli", "c.srai") for w in refused[name])


def words(rng: random.Random) -> Iterator[int]:
    """Every opcode with every function code, then the tables' own words and their neighbours by a bit or two."""
    for code in range(1 << 15):
        registers = [rng.choice((0, 1, 2, rng.randrange(32))) for _ in range(3)]
        yield (code >> 8) << 25 | registers[0] << 20 | registers[1] << 15 | (code >> 5 & 7) << 12 \
            | registers[2] << 7 | (code & 31) << 2 | 3
    for layout in LAYOUTS[4]:
        for _ in range(250):
            word = layout.match | rng.getrandbits(32) & ~layout.mask
            yield word
            yield word ^ 1 << rng.randrange(2, 32)
            yield word ^ 1 << rng.randrange(2, 32) ^ 1 << rng.randrange(2, 32)


def test_words_are_read_as_capstone_reads_them_or_refused() -> None:
    refused, accepted = compared((w for w in words(random.Random(1)) if w & 3 == 3), 4)
    base = {layout.name for layout in LAYOUTS[4]}
    assert {instruction.name for instruction in accepted} == base
    assert not [name for name in set(refused) - base if not OTHER_WORDS.fullmatch(name)]
    for name in set(refused) & base:  # of its own instructions: what writes x0 alone, and bit 5 of a shift amount
        assert all(w >> 7 & 31 == 0 or (name in ("slli", "srli", "srai") and w >> 25 & 1) for w in refused[name]), name


def test_no_word_is_of_two_rows() -> None:
    assert all(sum(layout.read(w) is not None for layout in LAYOUTS[2]) <= 1 for w in range(1 << 16))
    nop = [layout for layout in LAYOUTS[4] if not layout.fields]
    assert [layout.match for layout in nop] == [0x13]  # addi's row leaves this to it: rd != 0
    rest = [layout for layout in LAYOUTS[4] if layout.fields]
    assert all(one.match & one.mask & other.mask != other.match & one.mask & other.mask
               for one in rest for other in rest if one is not other)


RESERVED = {
    "nothing": 0x0000, "c.addi4spn of 0": 0x0010, "c.lwsp to x0": 0x4002, "c.lui of 0": 0x6501, "c.lui to x0": 0x6005,
    "c.addi16sp of 0": 0x6101, "c.jr x0": 0x8002, "c.ebreak": 0x9002, "c.slli by 32 and more": 0x1502,
    "c.srli by 32 and more": 0x9101, "c.srai by 32 and more": 0x9501, "c.subw": 0x9C01, "c.addw": 0x9C21,
    "quadrant 1, 100 1 11 10": 0x9C41, "quadrant 1, 100 1 11 11": 0x9C61, "quadrant 0, 100": 0x8000,
    "c.addi of 0": 0x0501, "c.nop with a number": 0x0005, "c.li to x0": 0x4005, "c.mv to x0": 0x802A,
    "c.add to x0": 0x902A, "c.slli by 0": 0x0502, "c.fld": 0x2000, "c.fsw": 0xE000, "c.flwsp": 0x6002,
    "jalr with funct3 1": 0x00009067, "branch with funct3 2": 0x00002063, "branch with funct3 3": 0x00003063,
    "ld": 0x00003503, "lwu": 0x00006503, "sd": 0x00A13023, "slli by 32": 0x02051513, "srli with funct7 1": 0x02055513,
    "srai by 32": 0x42055513, "add with funct7 2": 0x04B50533, "sub with funct7 0x21": 0x42B50533,
    "slt with funct7 0x20": 0x40B52533, "andn": 0x40B57533, "min": 0x0AB54533, "clz": 0x60051513, "sext.b": 0x60451513,
    "rori": 0x60155513, "addiw": 0x0005051B, "addw": 0x00B5053B, "fence": 0x0FF0000F, "fence.i": 0x0000100F,
    "ecall": 0x00000073, "ebreak": 0x00100073, "csrrs": 0xC0002573, "amoadd.w": 0x00B5252F, "flw": 0x00052507,
    "fadd.s": 0x00B57553, "48 bits": 0x0000001F, "64 bits": 0x0000003F, "all ones": 0xFFFFFFFF,
    "lui to x0": 0x00001037, "a hint for prefetching": 0x00006013, "ntl.p1": 0x00200033,
}


@pytest.mark.parametrize("word", RESERVED.values(), ids=RESERVED)
def test_what_is_reserved_a_hint_or_of_another_extension_stops_the_proof(word: int) -> None:
    with pytest.raises(Undecided, match=f"^at 1234: {word:0{8 if word & 3 == 3 else 4}x} is no instruction of RV32IMC"):
        decode(word, 0x1234)


def test_a_compressed_instruction_is_read_whatever_follows() -> None:
    assert decode(0xFFFF8082, 0) == decode(0x8082, 0) == Riscv("jalr", 0, 1, 0, 0, 2)
