"""The Thumb decoder beside capstone's: the same instruction, operands, shift and flags, and no word that is none."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ncpc.sim.decode import arm_number, disassembler
from ncpc.theorem.thumb_data import expanded
from ncpc.theorem.thumb_decode import WIDE, decode, is_wide
from ncpc.theorem.thumb_encoding import ALWAYS, LR, PC, SP, Encoding, ThumbInstruction
from ncpc.theorem.undecided import Undecided

AT = 0x1000
REGISTER, NUMBER, MEMORY = 1, 2, 3
"""Capstone's kinds of operands."""
SHIFTS = {0: "lsl", 1: "asr", 2: "lsl", 3: "lsr", 4: "ror", 5: "rrx"}
"""Capstone's shifts; 0 is none."""
RRX = 5
NOT_NEEDED_WIDE = re.compile(
    r"v.*|f[a-z]+x|cdp2?|mcrr?2?|mrrc?2?|mrc2?|ldc2?l?|stc2?l?|hint|ldr(ex|exb|exh|exd|t|bt|ht|sbt|sht)|mrs|msr|pld|pldw|pli"
    r"|(s|u|q|uq|sh|uh)(add16|add8|asx|sax|sub16|sub8)|sel|usada?8|str(ex|exb|exh|exd|t|bt|ht)|udf|smc|hvc|tta?t?|clrex"
    r"|[di]sb|dmb|sg|bxj|ld[al].*|st[l].*|crc.*|dbg|eret|subs|cps|hlt|bf.*|le|wls|dls|cs.*|cx.*|w?fe|wfi|sev|yield|ssbb")
"""System, coprocessor and floating-point instructions, exclusive and unprivileged accesses, hints, parallel sums."""
NOT_NEEDED_NARROW = {"bkpt", "svc", "udf", "cps", "hint", "trap", "bxns", "blxns"}
UNPREDICTABLE_NARROW = {"stm", "cmp", "bx", "add", "mov", "it", "blx"}
"""16 bits: stores of a base that changes, two low registers, should-be bits, PC where it may not or need not be."""


@pytest.fixture(autouse=True)
def _capstone(require_tool: Any) -> None:
    require_tool("capstone")


def bytes_of(word: int) -> bytes:
    halves = (word >> 16, word & 0xFFFF) if word > 0xFFFF else (word,)
    return b"".join(half.to_bytes(2, "little") for half in halves)


def theirs(word: int) -> Any:
    """Capstone's instruction; None where it knows none of that length."""
    data = bytes_of(word)
    found = next(disassembler("arm").disasm(data, AT), None)
    return found if found is not None and found.size == len(data) else None


def ours(word: int) -> ThumbInstruction | None:
    try:
        return decode(word, AT)
    except Undecided:
        return None


def operands_of(capstone: Any) -> list[Any]:
    """Registers as numbers with their shift, numbers as ("#", number), memory as (base, index, offset, shift)."""
    found: list[Any] = []
    for o in capstone.operands:
        if o.type == REGISTER:
            found.append((arm_number(o.reg), SHIFTS[o.shift.type], max(o.shift.value, o.shift.type == RRX)))
        elif o.type == NUMBER:
            found.append(("#", (-o.imm if o.subtracted else o.imm) & 0xFFFFFFFF))
        else:
            assert o.type == MEMORY
            found.append((arm_number(o.mem.base), arm_number(o.mem.index) if o.mem.index else None,
                          o.mem.disp, o.shift.value))
    return found


def register(number: int | None, shift: tuple[str, int] = ("lsl", 0)) -> tuple[int, str, int]:
    assert number is not None
    return (number, *shift) if shift[1] else (number, "lsl", 0)


def number(value: int | None) -> tuple[str, int]:
    assert value is not None
    return "#", value & 0xFFFFFFFF


def expected(i: ThumbInstruction) -> tuple[str, list[Any]]:
    """Name and operands, as capstone has them."""
    if i.name in ("ldm", "stm", "ldmdb", "stmdb", "push", "pop"):
        return several(i)
    if i.t is not None:
        return i.name, [register(r) for r in (i.t, i.a) if r is not None] + place(i)
    if i.name in ("tbb", "tbh"):
        return i.name, [(i.n, i.m, 0, int(i.name == "tbh"))]
    if i.name in ("b", "bl", "cbz", "cbnz"):
        return i.name, [register(r) for r in (i.n,) if r is not None] + [number(i.target)]
    if i.name in ("it", "nop"):
        return i.name, []
    return whole(i)


def several(i: ThumbInstruction) -> tuple[str, list[Any]]:
    listed = [register(r) for r in i.listed]
    short = {"ldm": "pop", "stmdb": "push"}.get(i.name)
    if i.size == 2 and i.n == SP:
        return i.name, listed
    return (short, listed) if i.n == SP and i.wback and short else (i.name, [register(i.n), *listed])


def place(i: ThumbInstruction) -> list[Any]:
    if i.m is not None:
        return [(i.n, i.m, 0, i.shift[1])]
    return [(i.n, None, i.imm, 0)] if i.index else [(i.n, None, 0, 0), number(i.imm)]


def whole(i: ThumbInstruction) -> tuple[str, list[Any]]:
    """What has registers and numbers alone."""
    if i.name == "mov" and i.m is not None and i.shift != ("lsl", 0):
        kind, amount = i.shift
        return kind, [register(i.d), register(i.m)] + [number(amount)] * (kind != "rrx")
    if i.name in ("ubfx", "sbfx", "bfi", "bfc"):
        return i.name, [register(r) for r in (i.d, i.n) if r is not None] + [number(i.lsb), number(i.width)]
    if "sat" in i.name:
        return i.name, [register(i.d), number(i.width), register(i.n, i.shift)]
    if i.name in ("qadd", "qsub", "qdadd", "qdsub"):
        return i.name, [register(r) for r in (i.d, i.m, i.n)]
    long = i.a is not None and (i.name.startswith(("smull", "umull", "umlal", "umaal", "smlal", "smlsld")))
    order = (i.a, i.d, i.n, i.m) if long else (i.d, i.n, i.m, i.a)
    found = [register(r) for r in order if r is not None]
    if i.m is not None and i.a is None:
        found[-1] = register(i.m, i.shift)
    if i.imm is not None:
        found.append(number(i.imm))
    return i.name, found


def same(i: ThumbInstruction, c: Any) -> bool:
    name, operands = expected(i)
    found, theirs = c.insn_name(), operands_of(c)
    if name == "adr" and found in ("add", "sub"):
        assert i.imm is not None
        name, operands = found, [register(i.d), register(PC), number(abs(i.imm))]
    if i.d is not None and i.d == i.n and len(operands) == len(theirs) + 1:
        operands = operands[1:]
    if (name, found) in (("nop", "hint"), ("movw", "mov")):
        name = found
    sets = c.mnemonic.startswith(f"{found}s") if found in ("adc", "sbc") else c.update_flags
    flags = sets == (i.sets != "never") or i.name in ("tst", "teq", "cmp", "cmn")
    condition = i.name != "b" or c.cc == (0 if i.condition == ALWAYS else i.condition + 1) or c.cc == i.condition + 1
    writeback = bool(c.writeback) == i.wback or i.name in ("push", "pop") or i.n == SP
    return name == found and operands == theirs and flags and condition and writeback


def narrow_words() -> Iterator[int]:
    return (half for half in range(1 << 16) if not is_wide(half))


def test_every_halfword_is_what_capstone_says() -> None:
    wrong, only_theirs = [], set()
    for word in narrow_words():
        i, c = ours(word), theirs(word)
        if i is None:
            only_theirs |= {c.insn_name()} if c is not None else set()
        elif c is None or not same(i, c):
            wrong.append((hex(word), i, c and (c.insn_name(), operands_of(c))))
    assert not wrong, (len(wrong), wrong[::max(1, len(wrong) // 20)])
    assert only_theirs == NOT_NEEDED_NARROW | UNPREDICTABLE_NARROW


def filled(rng: random.Random, encoding: Encoding) -> int:
    """A word of the row; registers are often the special ones, or the same."""
    word = encoding.value | (rng.getrandbits(32) & ~encoding.mask)
    one = rng.getrandbits(4)
    for bits in encoding.fields.values():
        if len(bits) == 4 and (chance := rng.random()) < 0.4:
            chosen = rng.choice((SP, LR, PC, 0)) if chance < 0.15 else one
            for i, bit in enumerate(reversed(bits)):
                word = word & ~(1 << bit) | (chosen >> i & 1) << bit
    return word


def wide_words(seed: int, each: int) -> Iterator[int]:
    """Words of every row, the same with a bit of the row changed, and any."""
    rng = random.Random(seed)
    for encoding in WIDE:
        for _ in range(each):
            word = filled(rng, encoding)
            yield word
            other = word ^ (1 << rng.randrange(29))
            if is_wide(other >> 16):
                yield other
        yield rng.choice((0xE8000000, 0xF0000000, 0xF8000000)) | rng.getrandbits(27)


def test_words_are_what_capstone_says() -> None:
    wrong, only_theirs, names = [], set(), set()
    for word in wide_words(1, 60):
        i, c = ours(word), theirs(word)
        if i is None:
            only_theirs |= {c.insn_name()} if c is not None else set()
        elif c is None or not same(i, c):
            wrong.append((hex(word), i, c and (c.insn_name(), operands_of(c))))
        names |= {i.name} if i is not None else set()
    assert not wrong, (len(wrong), wrong[::max(1, len(wrong) // 20)])
    assert names == {encoding.name for encoding in WIDE}
    unknown = {name for name in only_theirs if not NOT_NEEDED_WIDE.fullmatch(name)}
    assert unknown <= names | {"lsl", "lsr", "asr", "ror", "rrx", "push", "pop"}, "registers or bits that may not be"


@pytest.mark.parametrize(("word", "why"), [
    (0x4487, "ADD to PC"), (0xF10D0F01, "ADD of no flags to PC"), (0xE8B10003, "base in its list"),
    (0xE8BDC001, "LR and PC at once"), (0xF8510804, "no index, no writeback"), (0xF8511D04, "base is its own data"),
    (0xFBA00001, "one register for both words"), (0xF320007F, "SSAT right by 0"), (0xBFF8, "IT of 15"),
    (0xBFEC, "IT AL with an else"), (0xF1501500, "an immediate of zeros twice"), (0xE8510000, "LDREX"),
    (0xF891FF00, "PLD"), (0xF3EF8000, "MRS"), (0xDF00, "SVC"), (0xBF20, "WFE"),
])
def test_what_is_unpredictable_or_not_needed_is_refused_with_its_address(word: int, why: str) -> None:
    with pytest.raises(Undecided, match=r"^at 0x1000: [0-9a-f]+ is no "):
        decode(word, AT)


@pytest.mark.parametrize(("code", "number", "carry"), [
    (0x0AB, 0xAB, None), (0x1AB, 0x00AB00AB, None), (0x2AB, 0xAB00AB00, None), (0x3AB, 0xABABABAB, None),
    (0x42B, 0xAB000000, 1), (0xFFF, 0x000001FE, 0), (0x4AB, 0x55800000, 0),
])
def test_immediates_are_expanded_as_the_manual_says(code: int, number: int, carry: int | None) -> None:
    assert expanded(code) == (number, carry)
