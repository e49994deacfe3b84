"""Executing RV32IMC on terms: held against unicorn, sample by sample, and refusing what it cannot say."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from ncpc.theorem.flash import Flash
from ncpc.theorem.machine import Processor
from ncpc.theorem.memory import Ram, RamRegion
from ncpc.theorem.riscv import RiscvCode
from ncpc.theorem.riscv_decode import LAYOUTS
from ncpc.theorem.term import FULL, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK
from tests.theorem.riscv_programs import DATA, NEGATIVE, POSITIVE, SPANS, STACK, Piece, one, programs, row

ORIGIN, RAM = 0x00100000, 0x00200000
PLACES = {STACK: RAM + 0x800, DATA: RAM + 0x400}
CORNERS = (0, 1, 2, -1, -2, FULL[0], FULL[0] + 1, FULL[1], 31, 32, 0x8000, -0x8000, 0x7FFF, 0xFF, 0x80, 0xFFFF)
SPANS_OF_DIVISORS = {POSITIVE: (1, 1000), NEGATIVE: (-70_000, -2)}
RETURN = bytes.fromhex("8280")


def numbers(rng: random.Random, span: tuple[int, int], count: int) -> np.ndarray:
    """(count,) numbers in a span, its ends and those near 0 among them."""
    inside = [*span, *(c for c in CORNERS if span[0] <= c <= span[1])]
    return np.array([rng.choice(inside) if rng.random() < 0.5 else rng.randint(*span) for _ in range(count)])


def machine(code: bytes, rng: random.Random, samples: int) -> Processor:
    """Registers and the bytes that programs use are variables, or numbers where there is one sample.

    Behind the code stands a return.
    """
    flash = Flash(((ORIGIN, np.frombuffer(code + RETURN, np.uint8)),))
    terms = BitTerms(samples, flash)

    def word(span: tuple[int, int] = FULL) -> BitTerm:
        sample = numbers(rng, span, samples)
        return terms.const(int(sample[0])) if samples == 1 else terms.var("word", *span, sample)

    registers = [terms.const(0), *(word(SPANS_OF_DIVISORS.get(number, FULL)) for number in range(1, 32))]
    for number, place in PLACES.items():
        registers[number] = terms.var(f"x{number}", RAM, RAM + 0xFFFF, np.full(samples, place))
    regions = {registers[n]: RamRegion(f"x{n}", registers[n], *SPANS[n], True, 16) for n in PLACES}
    memory = Ram(terms, regions)
    for number, (first, end) in SPANS.items():
        for offset in range(first, end, 4):
            memory.put(f"x{number}", offset, 4, word())
    return Processor(terms, RiscvCode(flash), registers, memory, ORIGIN)


def final_bytes(device: Processor, base: BitTerm) -> np.ndarray:
    """(SAMPLES, bytes) of a region."""
    region = device.memory.regions[base]
    loaded = [device.memory.load(device.terms.addc(base, k), 1, False) for k in range(region.first, region.end)]
    return np.stack([term.sample for term in loaded], -1)


def initial(device: Processor) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Registers (SAMPLES, 31) and the bytes of each region (SAMPLES, bytes)."""
    registers = np.stack([term.sample for term in device.registers[1:]], -1)
    return registers, {number: final_bytes(device, device.registers[number]) for number in PLACES}


class Emulated:
    """Unicorn with a program at ORIGIN and RAM."""

    def __init__(self, unicorn: Any) -> None:
        from unicorn import riscv_const as r

        self.engine = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV32)
        self.engine.mem_map(ORIGIN, 0x10000)
        self.engine.mem_map(RAM, 0x10000)
        self.names = [r.UC_RISCV_REG_X0 + n for n in range(1, 32)]

    def run(self, size: int, registers: np.ndarray, content: dict[int, np.ndarray]) -> tuple[list[int], list[bytes]]:
        for name, value in zip(self.names, registers, strict=True):
            self.engine.reg_write(name, int(value))
        for number, data in content.items():
            self.engine.mem_write(PLACES[number] + SPANS[number][0], data.astype(np.uint8).tobytes())
        self.engine.emu_start(ORIGIN, ORIGIN + size)
        return ([self.engine.reg_read(name) & MASK for name in self.names],
                [bytes(self.engine.mem_read(PLACES[n] + SPANS[n][0], SPANS[n][1] - SPANS[n][0])) for n in PLACES])


def compared(code: bytes, rng: random.Random, samples: int, emulated: Emulated) -> Processor:
    """The machine after the code, which left in every sample what unicorn leaves."""
    device = machine(code, rng, samples)
    registers, content = initial(device)
    device.run(ORIGIN + len(code))
    ours = np.stack([term.sample for term in device.registers[1:]], -1)
    memory = [final_bytes(device, device.memory.regions[base].base) for base in device.memory.regions]
    emulated.engine.mem_write(ORIGIN, code + RETURN)
    emulated.engine.ctl_remove_cache(ORIGIN, ORIGIN + 0x10000)
    for k in range(samples):
        theirs, held = emulated.run(len(code), registers[k], {n: data[k] for n, data in content.items()})
        assert ours[k].tolist() == theirs
        assert [data[k].astype(np.uint8).tobytes() for data in memory] == held
    return device


@pytest.fixture(scope="module")
def emulated(require_tool: Any) -> Emulated:
    return Emulated(require_tool("unicorn"))


@pytest.mark.parametrize(("samples", "count"), [(32, 60), (1, 120)], ids=["variables", "numbers"])
def test_programs_do_what_an_emulator_does(samples: int, count: int, emulated: Emulated) -> None:
    rng, run, branches = random.Random(samples), set(), 0
    for code in programs(rng, count, length=40):
        device = compared(code, rng, samples, emulated)
        assert isinstance(device.code, RiscvCode)
        run |= {(i.name, i.size) for i in device.code.decoded.values()}
        branches += len(device.sites)
    assert run >= {(layout.name, layout.size) for layouts in LAYOUTS.values() for layout in layouts}
    assert (branches > 100) == (samples > 1)


def code(*words: Piece) -> bytes:
    return b"".join(word.to_bytes(size, "little") for word, size in words)


def test_a_table_beside_the_code_is_read_at_an_index_that_varies(emulated: Emulated) -> None:
    masked = one(row("andi"), rd=5, rs1=6, imm=3), one(row("slli"), rd=7, rs1=5, imm=2)
    table = one(row("auipc"), rd=9, imm=0), one(row("add"), rd=9, rs1=9, rs2=7), one(row("add"), rd=10, rs1=9, rs2=0)
    loads = [one(row(name), rd=16 + k, rs1=9, imm=24 + k) for k, name in enumerate(("lw", "lb"))]
    over = one(row("jal"), rd=0, imm=24)
    entries = [(entry, 4) for entry in (0x80FF7F01, 0x12345678, 0x9ABCDEF0, 7, 8)]
    device = compared(code(*masked, *table, *loads, over, *entries), random.Random(5), 32, emulated)
    assert len(set(device.registers[16].sample.tolist())) == 4


REFUSED = {
    "a divisor that may be 0": ([one(row("divu"), rd=5, rs1=6, rs2=7)], r"\(divu\): divu of .* which may be no number"),
    "a remainder by what may be 0": ([one(row("remu"), rd=5, rs1=6, rs2=7)], r"\(remu\)"),
    "-2**31 by what may be -1": ([one(row("srai"), rd=7, rs1=7, imm=31), one(row("ori"), rd=7, rs1=7, imm=-1),
                                  one(row("div"), rd=5, rs1=6, rs2=7)], r"\(div\)"),
    "a jump to what data says": ([one(row("jalr"), rd=0, rs1=6, imm=0)], r"\(jalr\): a jump to "),
    "a store wherever data says": ([one(row("sw"), rs1=6, rs2=7, imm=0)], r"\(sw\): a store of 4 bytes at "),
    "a store to the code": ([one(row("auipc"), rd=5, imm=0), one(row("sb"), rs1=5, rs2=7, imm=0)], r"at 0x100004 \(sb"),
    "a store behind its region": ([one(row("sh"), rs1=DATA, rs2=7, imm=8)], r"\(sh\): .* outside of it"),
    "a load that is not aligned": ([one(row("lh"), rd=5, rs1=DATA, imm=1)], r"\(lh\): a misaligned access of 2 bytes"),
    "a load from below the stack": ([one(row("lw"), rd=5, rs1=STACK, imm=-4)], r"\(lw\): an access below the stack"),
    "a load of what was never stored": ([one(row("lbu"), rd=5, rs1=DATA, imm=9)], r"\(lbu\): .* nothing was stored"),
    "the end of the code": ([one(row("jal"), rd=0, imm=100)], "^at 0x100064: no code"),
    "an instruction that it does not know": ([(0x00100073, 4)], "^at 100000: 00100073 is no instruction"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_terms_cannot_say_is_refused_with_its_address(words: list[Piece], message: str) -> None:
    with pytest.raises(Undecided, match=message):
        machine(code(*words), random.Random(1), 8).run(ORIGIN + 4 * len(words))


def test_where_code_goes_on() -> None:
    words = [one(row("beq"), rs1=1, rs2=2, imm=12), one(row("jal"), rd=0, imm=-4), one(row("jal"), rd=1, imm=8),
             one(row("jalr"), rd=0, rs1=1, imm=0), one(row("jalr"), rd=1, rs1=5, imm=0),
             one(row("sub"), rd=1, rs1=1, rs2=2)]
    found = [RiscvCode(Flash(((0, np.frombuffer(code(*words), np.uint8)),))).successors(4 * k) for k in range(6)]
    assert found == [(4, 12), (0,), (12,), (), (20,), (24,)]
