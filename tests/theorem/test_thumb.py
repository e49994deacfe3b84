"""Executing Thumb on terms: held against unicorn, sample by sample, flags too, and refusing what it cannot say."""

from __future__ import annotations

import random
import re
from typing import Any

import numpy as np
import pytest

from ncpc.theorem import thumb_flags as flags
from ncpc.theorem.flash import Flash
from ncpc.theorem.machine import Processor
from ncpc.theorem.memory import Ram, RamRegion
from ncpc.theorem.term import FULL, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.thumb import ThumbCode
from ncpc.theorem.thumb_encoding import SP
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK
from tests.theorem.thumb_programs import DATA, INDEX, NEGATIVE, POSITIVE, ROWS, SPAN, STEP, bytes_of, programs

ORIGIN, RAM = 0x00100000, 0x20000000
PLACES = {SP: RAM + 0x800, DATA: RAM + 0x400}
CORNERS = (0, 1, 2, -1, -2, FULL[0], FULL[0] + 1, FULL[1], 31, 32, 33, 0x8000, -0x8000, 0x7FFF, 0xFF, 0x80, 0xFFFF,
           0x10000, -0x10000, 0x7FFF8000, -0x7FFF8000)
SPANS_OF_DIVISORS = {POSITIVE: (1, 1000), NEGATIVE: (-70_000, -2)}
BEHIND = random.Random(7).randbytes(2048)
"""What literals are read from."""
RETURN = bytes_of(0x4770)


def numbers(rng: random.Random, span: tuple[int, int], count: int) -> np.ndarray:
    """(count,) numbers in a span, its ends and those near 0 among them."""
    inside = [*span, *(c for c in CORNERS if span[0] <= c <= span[1])]
    return np.array([rng.choice(inside) if rng.random() < 0.5 else rng.randint(*span) for _ in range(count)])


def machine(code: bytes, rng: random.Random, samples: int) -> Processor:
    """Registers and the bytes that programs use are variables, or numbers where there is one sample."""
    flash = Flash(((ORIGIN, np.frombuffer(code + RETURN + BEHIND, np.uint8)),))
    terms = BitTerms(samples, flash)

    def word(span: tuple[int, int] = FULL) -> BitTerm:
        sample = numbers(rng, span, samples)
        return terms.const(int(sample[0])) if samples == 1 else terms.var("word", *span, sample)

    registers = [word(SPANS_OF_DIVISORS.get(number, FULL)) for number in range(flags.REGISTERS)]
    registers[INDEX], registers[flags.BLOCK] = terms.const(STEP), terms.const(0)
    for number, place in PLACES.items():
        registers[number] = terms.var(f"r{number}", RAM, RAM + 0xFFFF, np.full(samples, place))
    regions = {registers[n]: RamRegion(f"r{n}", registers[n], *SPAN, True, 16) for n in PLACES}
    memory = Ram(terms, regions)
    for number in PLACES:
        for offset in range(*SPAN, 4):
            memory.put(f"r{number}", offset, 4, word())
    return Processor(terms, ThumbCode(flash), registers, memory, ORIGIN)


def held(device: Processor, number: int) -> dict[int, np.ndarray]:
    """(samples,) bytes of a region by offset; of the stack those that no interrupt may have changed."""
    base = next(r.base for r in device.memory.regions.values() if r.name == f"r{number}")
    cells = [(at, size) for (name, at), (size, _) in device.memory.cells.items() if name == f"r{number}"]
    known = {at + k for at, size in cells for k in range(size)}
    return {k: device.memory.load(device.terms.addc(base, k), 1, False).sample for k in sorted(known)}


def core_registers(device: Processor) -> np.ndarray:
    """(samples, 15)."""
    return np.stack([term.sample for term in device.registers[:15]], -1)


class EmulatedThumb:
    """Unicorn's Cortex-M4 with a program at ORIGIN and RAM."""

    def __init__(self, unicorn: Any) -> None:
        from unicorn import arm_const as a

        self.engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB | unicorn.UC_MODE_MCLASS)
        self.engine.ctl_set_cpu_model(a.UC_CPU_ARM_CORTEX_M4)
        self.engine.mem_map(ORIGIN, 0x10000)
        self.engine.mem_map(RAM, 0x10000)
        self.names = [*(a.UC_ARM_REG_R0 + n for n in range(13)), a.UC_ARM_REG_SP, a.UC_ARM_REG_LR]
        self.flags = a.UC_ARM_REG_XPSR

    def run(self, size: int, registers: np.ndarray, content: dict[int, bytes]) -> tuple[list[int], int, list[bytes]]:
        """Core registers, the flags' four bits, and memory afterwards."""
        for name, value in zip(self.names, registers, strict=True):
            self.engine.reg_write(name, int(value))
        for number, data in content.items():
            self.engine.mem_write(PLACES[number] + SPAN[0], data)
        self.engine.emu_start(ORIGIN | 1, ORIGIN + size)
        return ([self.engine.reg_read(name) & MASK for name in self.names], self.engine.reg_read(self.flags) >> 28,
                [bytes(self.engine.mem_read(PLACES[n] + SPAN[0], SPAN[1] - SPAN[0])) for n in PLACES])


def known_flags(device: Processor) -> list[tuple[int, np.ndarray]]:
    """The bit in the status register and (samples,) values of each flag that is known."""
    found = []
    for bit, get in ((3, flags.negative), (2, flags.zero), (1, flags.carry), (0, flags.overflow)):
        try:
            found.append((bit, get(device).sample))
        except Undecided:
            continue
    return found


def compared(code: bytes, rng: random.Random, samples: int, emulated: EmulatedThumb) -> tuple[Processor, int]:
    """The machine after the code, which left in every sample what unicorn leaves, and how many flags were known."""
    device = machine(code, rng, samples)
    registers, content = core_registers(device), {number: held(device, number) for number in PLACES}
    device.run(ORIGIN + len(code))
    ours, ends, memory = core_registers(device), known_flags(device), [held(device, number) for number in PLACES]
    emulated.engine.mem_write(ORIGIN, code + RETURN + BEHIND)
    emulated.engine.ctl_remove_cache(ORIGIN, ORIGIN + 0x10000)
    for k in range(samples):
        initial = {number: bytes(int(byte[k]) for byte in data.values()) for number, data in content.items()}
        theirs, status, stored = emulated.run(len(code), registers[k], initial)
        assert ours[k].tolist() == theirs
        assert [int(value[k]) for _, value in ends] == [status >> bit & 1 for bit, _ in ends]
        for ends_at, bytes_there in zip(memory, stored, strict=True):
            assert all(bytes_there[at - SPAN[0]] == byte[k] for at, byte in ends_at.items())
    return device, len(ends)


@pytest.fixture(scope="module")
def emulated(require_tool: Any) -> EmulatedThumb:
    return EmulatedThumb(require_tool("unicorn"))


LEFT_OPEN = r"flags that are not known|where nothing was stored"
"""Conditions behind a shift by a register, whose carry is not modelled, or on flags of different kinds; bytes that two
ways stored by different widths."""


@pytest.mark.parametrize(("samples", "count"), [(8, 120), (1, 160)], ids=["variables", "numbers"])
def test_programs_do_what_an_emulator_does(samples: int, count: int, emulated: EmulatedThumb) -> None:
    rng, run, known, equal = random.Random(samples), set(), 0, 0
    why: list[str] = []
    for code in programs(rng, count, 6, ORIGIN):
        try:
            device, found = compared(code, rng, samples, emulated)
        except Undecided as stop:
            why.append(str(stop))
            continue
        assert isinstance(device.code, ThumbCode)
        run |= {(i.name, i.size) for i in device.code.decoded.values()}
        known, equal = known + found, equal + 1
    assert all(re.search(LEFT_OPEN, text) for text in why), why
    assert run == {(e.name, 2 if e.mask <= 0xFFFF else 4) for e in ROWS}
    assert equal > 0.75 * count
    assert known > 3 * equal


def wide(*words: int) -> bytes:
    return b"".join(bytes_of(word) for word in words)


REFUSED = {
    "a divisor that may be 0": (wide(0xFB90F0F1), r"\(sdiv\): div of "),
    "flags of another function": (wide(0xBF08, 0x2001), r"\(mov\): flags that are not known"),
    "the carry of a shift by a register": (wide(0x4088, 0x4140), r"\(adc\): flags that are not known"),
    "a return that data decides": (wide(0x4288, 0xBF08, 0x4770), r"\(bx\): a call or return that data decides"),
    "a jump that is not the last of its block": (wide(0x4288, 0xBF04, 0xE000, 0x2001), r"\(b\): .* in an IT block"),
    "a conditional branch in a block": (wide(0x4288, 0xBF08, 0xD000), r"\(b\): .* in an IT block"),
    "a block within a block": (wide(0x4288, 0xBF04, 0xBF08, 0x2001, 0x2001), r"\(it\): .* in an IT block"),
    "a jump to what data says": (wide(0x4708), r"\(bx\): a jump to "),
    "a jump to an even address": (wide(0x2008, 0x4700), r"\(bx\): a jump to .* no address of Thumb code"),
    "a table of jumps at what data says": (wide(0xE8DFF001), r"\(tbb\)"),
    "a stack pointer that data says": (wide(0x4685), r"\(mov\): the stack pointer becomes "),
    "a stack pointer between words": (wide(0xF20D0D02), r"\(add\): the stack pointer becomes "),
    "a store wherever data says": (wide(0x6008), r"\(str\): a store of 4 bytes at "),
    "a store by a condition where nothing was": (wide(0x4288, 0xBF08, 0x9050), r"\(str\): .* nothing was stored"),
    "a load that is not aligned": (wide(0xF8B70001), r"\(ldrh\): a misaligned access of 2 bytes"),
    "a double word that is not aligned": (wide(0x3702, 0xE9D70100), r"\(ldrd\): a misaligned access of 4 bytes"),
    "a load from below the stack": (wide(0xF85D0C04), r"\(ldr\): an access below the stack"),
    "a store below the stack": (wide(0xF84D0C04), r"\(str\): an access below the stack"),
    "what was popped": (wide(0xB401, 0xBC01, 0xB081, 0x9800), r"\(ldr\): .* nothing was stored"),
    "the status register": (wide(0xF3EF8000), "^at 0x100000: f3ef8000 is no "),
}


@pytest.mark.parametrize(("code", "message"), REFUSED.values(), ids=REFUSED)
def test_what_terms_cannot_say_is_refused_with_its_address(code: bytes, message: str) -> None:
    with pytest.raises(Undecided, match=message):
        machine(code, random.Random(1), 8).run(ORIGIN + len(code))


def test_a_jump_into_a_block_is_refused() -> None:
    code = wide(0x4288, 0xBF08, 0x2001, 0xE7FD)  # CMP, IT EQ, MOVEQ, back to the MOV
    with pytest.raises(Undecided, match="a jump into an IT block"):
        machine(code, random.Random(1), 8).run(ORIGIN + 100)


CONDITIONS = {0xD000: "eq", 0xD200: "sltu", 0xD800: "sltu", 0xDA00: "slt", 0xDC00: "slt", 0xDD00: "slt", 0xD900: "sltu"}


@pytest.mark.parametrize(("branch", "op"), CONDITIONS.items())
def test_a_condition_after_a_comparison_is_one_comparison(branch: int, op: str) -> None:
    device = machine(wide(0x4288, branch), random.Random(1), 8)
    device.code.execute(device)
    found = device.code.execute(device)
    assert found is not None
    assert found.condition.op == {"eq": "eq0"}.get(op, op)


def test_a_comparison_with_a_negative_number_is_one_too() -> None:
    device = machine(wide(0xF5100FA0, 0xDC00), random.Random(1), 8)  # CMN r0, #0x500000; BGT
    device.code.execute(device)
    found = device.code.execute(device)
    assert found is not None
    assert (found.condition.op, found.condition.args[0].par) == ("slt", (-0x500000,))


def test_limits_are_those_of_a_program() -> None:
    device = machine(wide(0xF3000007, 0xF3810107), random.Random(1), 8)  # SSAT r0, #8, r0; USAT r1, #7, r1
    device.run(ORIGIN + 8)
    assert [device.registers[r].op for r in (0, 1)] == ["smin", "smin"]
    assert [(device.registers[r].lo, device.registers[r].hi) for r in (0, 1)] == [(-128, 127), (0, 127)]


def test_where_code_goes_on() -> None:
    code = wide(0xD001, 0xE001, 0xF3AF8000, 0x4770, 0xBD00, 0xB101, 0x4288, 0xBF08, 0xE000)
    found = ThumbCode(Flash(((0, np.frombuffer(code + RETURN, np.uint8)),)))
    at = [0, 2, 8, 10, 12, 14, 16, 18]
    assert [found.successors(pc) for pc in at] == [(2, 6), (8,), (), (), (14, 16), (16,), (18,), (20, 22)]


@pytest.mark.parametrize(("first", "op"), [(b"", "lin"), (wide(0xB200, 0xB209), "asr")], ids=["words", "halves"])
def test_the_high_word_of_a_difference_is_one_term(first: bytes, op: str, emulated: EmulatedThumb) -> None:
    code = first + wide(0x17C2, 0x17CB, 0x1A44, 0xEB620503)  # ASRS, ASRS, SUBS, SBC of r0 and r1 as 64 bits
    device, _ = compared(code, random.Random(9), 64, emulated)
    assert device.registers[5].op == op
    assert (device.registers[5].lo, device.registers[5].hi) == (-1, 0)


def test_what_was_borrowed_from_other_words_is_no_sign(emulated: EmulatedThumb) -> None:
    code = wide(0x17C2, 0x17CB, 0x1A0C, 0xEB620503)  # ASRS, ASRS, SUBS of r1 and r0, SBC
    compared(code, random.Random(9), 64, emulated)
