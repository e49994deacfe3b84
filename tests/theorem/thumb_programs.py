"""Random Thumb programs that end: every row of the decoder's tables, in and outside of IT blocks, with corners."""

from __future__ import annotations

import random
from collections.abc import Iterator

from ncpc.theorem.thumb import ACCESSES, SEVERAL
from ncpc.theorem.thumb_decode import NARROW, WIDE, decode
from ncpc.theorem.thumb_encoding import ALWAYS, LR, PC, SP, Encoding, ThumbInstruction
from ncpc.theorem.undecided import Undecided

DATA, INDEX, POSITIVE, NEGATIVE = 7, 3, 6, 11
"""An address, a small number to add to one, and two numbers to divide by."""
STEP = 4
"""What INDEX holds."""
KEPT = (SP, DATA, INDEX, POSITIVE, NEGATIVE)
SPAN = (-80, 160)
"""The bytes around either address that are used."""
JUMPS = ("b", "bl", "bx", "blx", "cbz", "cbnz", "tbb", "tbh")
ROWS = [*NARROW, *WIDE]


def bytes_of(word: int) -> bytes:
    halves = (word >> 16, word & 0xFFFF) if word > 0xFFFF else (word,)
    return b"".join(half.to_bytes(2, "little") for half in halves)


def word_of(encoding: Encoding, rng: random.Random, **letters: int) -> int:
    """A word of the row, whose fields are as given, or anything."""
    word = encoding.value
    for letter, bits in encoding.fields.items():
        value = letters.get(letter, rng.choice((0, rng.getrandbits(len(bits)), rng.getrandbits(len(bits)), -1)))
        for i, bit in enumerate(reversed(bits)):
            word |= (value >> i & 1) << bit
    return word


def read(word: int) -> ThumbInstruction | None:
    try:
        return decode(word, 0)
    except Undecided:
        return None


def written(i: ThumbInstruction) -> set[int | None]:
    """Registers that are set, the base of a load or store excepted."""
    loads = i.name.startswith(("ld", "pop"))
    second = i.a if i.name.startswith(("smull", "umull", "umlal", "umaal", "smlal", "smlsld")) or loads else None
    return {i.d, second, *((i.t, *i.listed) if loads else ())}


def fits(i: ThumbInstruction) -> bool:
    """Whether it leaves KEPT and PC as they are, but for a base, and reads and writes memory within SPAN alone."""
    if written(i) & {*KEPT, PC}:
        return i.d == SP == i.n and i.name in ("add", "sub") and i.imm is not None and i.imm % 4 == 0
    if i.name in SEVERAL:
        above = i.name in ("ldm", "pop", "stm") or (i.name in ("stmdb", "push") and i.wback)
        return i.n == DATA or (i.n == SP and above)
    if i.name in ACCESSES or i.name in ("ldrd", "strd"):
        offset = (i.imm or 0) if i.m is None else STEP << i.shift[1]
        size = ACCESSES.get(i.name, (4, False))[0]
        if i.n == PC:
            return i.name.startswith("ld") and 0 <= offset < 1000 and offset % size == 0
        at_stack = i.n == SP and offset % 4 == 0 and (offset >= 0 or (i.wback and i.name.startswith("st") and i.index))
        return (at_stack or i.n == DATA) and i.m in (None, INDEX) and offset % size == 0 and -72 <= offset <= 140
    return i.name not in ("sdiv", "udiv") or i.m in (POSITIVE, NEGATIVE)


def plain(encoding: Encoding, rng: random.Random, block: bool = False) -> bytes:
    """An instruction that only calculates, loads or stores; behind one that moves a base, another that moves it back.
    None of the row may stand in a block.
    """
    for _ in range(30 if block else 3000):
        letters = {"n": rng.choice((SP, DATA))} if encoding.name in (*ACCESSES, *SEVERAL, "ldrd", "strd") else {}
        if "i" in encoding.fields and letters and rng.random() < 0.5:
            letters["i"] = rng.randrange(36)
        if rng.random() < 0.8 and "m" in encoding.fields and (letters or encoding.name in ("sdiv", "udiv")):
            letters["m"] = INDEX if letters else rng.choice((POSITIVE, NEGATIVE))
        if encoding.name in SEVERAL:
            letters["r"] = rng.getrandbits(16) & rng.getrandbits(16) & ~sum(1 << r for r in (*KEPT, PC))
            letters["x"] = int(encoding.name == "push" and rng.random() < 0.5)
        i = read(word := word_of(encoding, rng, **letters))
        if i is None or i.name in JUMPS or not fits(i) or (block and (i.name == "movs" or i.wback or i.d == SP)):
            continue
        return bytes_of(word) + moved_back(i)
    assert block, encoding.name
    return plain(rng.choice([e for e in ROWS if is_plain(e)]), rng, block)


def moved_back(i: ThumbInstruction) -> bytes:
    """ADDW or SUBW."""
    change = 4 * len(i.listed) * (-1 if SEVERAL[i.name][1] else 1) if i.name in SEVERAL else i.imm or 0
    change = -change if i.name == "sub" else change
    if not i.wback and i.d != SP:
        return b""
    n = i.n or 0
    number = abs(change)
    word = (0xF2A00000 if change > 0 else 0xF2000000) | n << 16 | n << 8
    return bytes_of(word | (number >> 11 & 1) << 26 | (number >> 8 & 7) << 12 | number & 255)


def is_plain(encoding: Encoding) -> bool:
    return encoding.name not in (*JUMPS, "it")


def not_moving(rng: random.Random) -> bytes:
    return plain(rng.choice([e for e in ROWS if is_plain(e)]), rng)


def block(rng: random.Random, condition: int) -> bytes:
    """IT and up to four instructions, the last sometimes a branch; the condition may change on the way."""
    count = rng.randrange(1, 5)
    mask = sum((condition & 1 ^ (rng.getrandbits(1) if condition != ALWAYS else 0)) << (4 - k) for k in range(1, count))
    it = 0xBF00 | condition << 4 | mask | 1 << (4 - count)
    rows = [e for e in ROWS if is_plain(e)]
    code = bytes_of(it) + b"".join(plain(rng.choice(rows), rng, block=True) for _ in range(count))
    if rng.random() < 0.2 and count < 4:
        mask = sum((condition & 1) << (4 - k) for k in range(1, count + 1))
        over = plain(rng.choice(rows), rng)
        it = 0xBF00 | condition << 4 | mask | 1 << (3 - count)
        code = bytes_of(it) + code[2:] + bytes_of(0xE000 | (len(over) - 2 >> 1) & 0x7FF) + over
    return code


def jump(encoding: Encoding, rng: random.Random, at: int) -> bytes:
    """A jump forward over instructions that calculate, which a branch by data may not take."""
    name, body = encoding.name, b"".join(not_moving(rng) for _ in range(rng.randrange(1, 4)))
    size = 2 if encoding in NARROW else 4
    if name in ("tbb", "tbh"):
        word = word_of(encoding, rng, n=PC, m=INDEX)
        table = bytes([9, 9, 9, 9, 3, 9]) if name == "tbb" else b"\x09\x09" * 4 + b"\x05\x00"
        return bytes_of(word) + table + body
    if name in ("bx", "blx"):  # MOVW and MOVT of the address behind the body
        target = at + 8 + 2 + len(body) | 1
        code = b""
        for head, number in ((0xF2400000, target & 0xFFFF), (0xF2C00000, target >> 16)):
            fields = (number >> 12) << 16 | (number >> 11 & 1) << 26 | (number >> 8 & 7) << 12 | number & 255
            code += bytes_of(head | LR << 8 | fields)
        return code + bytes_of(word_of(encoding, rng, m=LR)) + body
    offset = size + len(body) - 4 >> 1
    if name in ("cbz", "cbnz"):
        return bytes_of(word_of(encoding, rng, i=offset)) + body
    condition = rng.randrange(14)
    if "s" in encoding.fields:  # J1 and J2 are as the sign says, for B T3 as they are
        ones = 0 if "c" in encoding.fields else 1
        return bytes_of(word_of(encoding, rng, s=0, c=condition, i=offset, j=ones, k=ones)) + body
    return bytes_of(word_of(encoding, rng, c=condition, i=offset)) + body


def programs(rng: random.Random, count: int, length: int, origin: int) -> Iterator[bytes]:
    """Programs of about ``length`` rows; together they hold every row, and IT blocks of every condition. Each first
    sets all flags.
    """
    left: list[Encoding] = []
    conditions: list[int] = []
    for _ in range(count):
        code = bytes_of(0x4288)  # CMP r0, r1
        for _ in range(length):
            left = left or rng.sample(ROWS, len(ROWS))
            conditions = conditions or rng.sample(range(15), 15)
            encoding = left.pop()
            if encoding.name == "it" or rng.random() < 0.2:
                code += block(rng, conditions.pop())
            if encoding.name in JUMPS:
                code += jump(encoding, rng, origin + len(code))
            elif encoding.name != "it":
                code += plain(encoding, rng)
        yield code
