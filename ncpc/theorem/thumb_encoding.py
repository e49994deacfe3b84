"""What a Thumb instruction is, once decoded, and how a row of the encoding tables reads its fields out of a word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

SP, LR, PC = 13, 14, 15
ALWAYS = 14
"""The condition AL."""
SHIFTS = ("lsl", "lsr", "asr", "ror")

Sets = Literal["never", "always", "outside"]
"""Whether an instruction sets flags; ``outside``: outside of an IT block, as most of 16 bits do."""
Fields = Mapping[str, int]
Operands = dict[str, Any]


@dataclass(frozen=True)
class ThumbInstruction:
    """One instruction of Armv7E-M, its operands under the manual's names.

    ``d n m a t`` are core registers, None where there is none; of a long product ``a`` is the low and ``d`` the high
    word, of a pair ``t`` the first and ``a`` the second. ``imm`` is the number in the instruction, expanded and signed:
    of a branch and of an address by PC, what is added to PC. ``shift`` applies to ``m``, or to ``n`` where there is no
    ``m``. ``carry``: the carry flag that an expanded immediate leaves, None as it was. ``lsb`` and ``width`` of a field
    or a saturation. ``index``: a load or store at the sum, else at the base alone; ``wback``: the base becomes the sum.
    """

    address: int
    size: int
    name: str
    sets: Sets = "never"
    d: int | None = None
    n: int | None = None
    m: int | None = None
    a: int | None = None
    t: int | None = None
    imm: int | None = None
    shift: tuple[str, int] = ("lsl", 0)
    carry: int | None = None
    lsb: int = 0
    width: int = 0
    index: bool = True
    wback: bool = False
    listed: tuple[int, ...] = ()
    condition: int = ALWAYS

    @property
    def target(self) -> int:
        """Where a branch by immediate goes."""
        return (self.address + 4 + (self.imm or 0)) & 0xFFFFFFFF


@dataclass(frozen=True)
class Encoding:
    """A row: the words with ``value`` under ``mask`` are ``name``, unless ``refuses`` (UNPREDICTABLE, or not modelled).

    ``fields``: for each letter of the pattern its bits, highest first. ``form`` makes operands of their numbers.
    """

    name: str
    mask: int
    value: int
    fields: Mapping[str, tuple[int, ...]]
    form: Callable[[Fields], Operands]
    refuses: Callable[[Fields], bool]

    def read(self, word: int) -> dict[str, int]:
        """The numbers of the fields in ``word``."""
        return {letter: sum((word >> bit & 1) << i for i, bit in enumerate(reversed(bits)))
                for letter, bits in self.fields.items()}


def registers(f: Fields) -> Operands:
    """Fields of one letter as they are."""
    return {key: value for key, value in f.items() if key in "dnmat"}


def never(_: Fields) -> bool:
    """No word of the row is refused."""
    return False


def none_of(letters: str, *numbers: int) -> Callable[[Fields], bool]:
    """Refuse words that name one of the registers ``numbers`` (SP and PC, if none is given) in one of the fields."""
    refused = numbers or (SP, PC)
    return lambda f: any(f[letter] in refused for letter in letters)


def either(*checks: Callable[[Fields], bool]) -> Callable[[Fields], bool]:
    """Refuse what one of ``checks`` does."""
    return lambda f: any(check(f) for check in checks)


def row(name: str, pattern: str, form: Callable[[Fields], Operands] = registers,
        refuses: Callable[[Fields], bool] = never) -> Encoding:
    """A row from the manual's picture of the word: 0 and 1 as they must be (should-be bits too), letters for fields.

    Bits of one letter make one number, in the order written.
    """
    bits = pattern.replace(" ", "")
    top = len(bits) - 1
    letters = sorted(set(bits) - {"0", "1"})
    fields = {letter: tuple(top - i for i, c in enumerate(bits) if c == letter) for letter in letters}
    return Encoding(name, int("".join("01"[c in "01"] for c in bits), 2),
                    int("".join("01"[c == "1"] for c in bits), 2), fields, form, refuses)


def signed(value: int, bits: int) -> int:
    """Two's complement of ``bits`` bits."""
    return value - (1 << bits) if value >> (bits - 1) & 1 else value


def listed(mask: int) -> tuple[int, ...]:
    """The registers of a list, ascending."""
    return tuple(i for i in range(16) if mask >> i & 1)
