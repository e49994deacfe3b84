"""Thumb machine code of Armv7E-M to instructions (Armv7-M Architecture Reference Manual, DDI 0403E, A5 and A7.7).

Strict: a word is an instruction only if it is one in every detail. Whatever is UNPREDICTABLE, UNDEFINED, has a
should-be-zero bit set or is not needed in a step (system instructions, floating point, parallel sums) raises Undecided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from ncpc.theorem.thumb_access import ONES, SEVERAL
from ncpc.theorem.thumb_access import PAIRS as DOUBLES
from ncpc.theorem.thumb_data import PACKED, PLAIN, SHIFTED_AND_MODIFIED
from ncpc.theorem.thumb_encoding import (
    ALWAYS,
    SP,
    Encoding,
    Fields,
    Operands,
    ThumbInstruction,
    either,
    none_of,
    registers,
    row,
    signed,
)
from ncpc.theorem.thumb_narrow import NARROW
from ncpc.theorem.thumb_products import LONG, PRODUCTS, REGISTERS
from ncpc.theorem.undecided import Undecided


def _near(f: Fields) -> Operands:
    return {"imm": 2 * signed(f["s"] << 19 | f["k"] << 18 | f["j"] << 17 | f["i"], 20), "condition": f["c"]}


def _far(f: Fields) -> Operands:
    """A7.7.12: I = NOT(J EOR S)."""
    j, k = (1 - (f[key] ^ f["s"]) for key in "jk")
    return {"imm": 2 * signed(f["s"] << 23 | j << 22 | k << 21 | f["i"], 24)}


BRANCHES: tuple[Encoding, ...] = (
    row("nop", "11110011101011111000000000000000"),
    row("b", "11110 s cccc iiiiii 10 j 0 k iiiiiiiiiii", _near, lambda f: f["c"] >= ALWAYS),
    row("b", "11110 s iiiiiiiiii 10 j 1 k iiiiiiiiiii", _far),
    row("bl", "11110 s iiiiiiiiii 11 j 1 k iiiiiiiiiii", _far),
    row("tbb", "111010001101 nnnn 11110000 000 0 mmmm", registers, either(none_of("n", SP), none_of("m"))),
    row("tbh", "111010001101 nnnn 11110000 000 1 mmmm", registers, either(none_of("n", SP), none_of("m"))),
)
"""A5.3.4 and A5.3.6."""


WIDE = (*SHIFTED_AND_MODIFIED, *PLAIN, *BRANCHES, *SEVERAL, *DOUBLES, *ONES, *PACKED, *REGISTERS, *PRODUCTS, *LONG)


def _by_top(encodings: Iterable[Encoding], low: int, size: int) -> Mapping[int, tuple[Encoding, ...]]:
    """The rows in their order, by the ``size`` bits from ``low`` of the words that they can match."""
    table: dict[int, list[Encoding]] = defaultdict(list)
    for encoding in encodings:
        mask, value = encoding.mask >> low, encoding.value >> low
        for top in range(1 << size):
            if top & mask == value:
                table[top].append(encoding)
    return {top: tuple(rows) for top, rows in table.items()}


NARROW_BY_TOP = _by_top(NARROW, 10, 6)
WIDE_BY_TOP = _by_top(WIDE, 24, 8)


def is_wide(half: int) -> bool:
    """Whether an instruction that begins with this halfword has another (A5.1)."""
    return half >> 11 in (0b11101, 0b11110, 0b11111)


def decode(word: int, address: int) -> ThumbInstruction:
    """The instruction that ``word`` is: 16 bits, or 32 with the first halfword above the second.

    Raises Undecided for a word that is none, or whose meaning the manual leaves open.
    """
    wide = word > 0xFFFF
    text = f"{word:08x}" if wide else f"{word:04x}"
    for encoding in (WIDE_BY_TOP.get(word >> 24, ()) if wide else NARROW_BY_TOP.get(word >> 10, ())):
        if word & encoding.mask == encoding.value:
            fields = encoding.read(word)
            if encoding.refuses(fields):
                raise Undecided(f"at {address:#x}: {text} is no {encoding.name} that the manual defines")
            operands = encoding.form(fields)
            return ThumbInstruction(address, 4 if wide else 2, encoding.name, **operands)
    raise Undecided(f"at {address:#x}: {text} is no instruction that a step is known to need")
