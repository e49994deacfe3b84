"""One 32-bit word as an expression."""

from __future__ import annotations

from dataclasses import dataclass

from ncpc.theorem.values import MASK, Words

LEAST, MOST = -(1 << 31), (1 << 31) - 1
FULL = (LEAST, MOST)


def signed_word(x: int) -> int:
    """The number that the low 32 bits of ``x`` stand for."""
    return ((x & MASK) ^ (1 << 31)) - (1 << 31)


def trailing_zeros(x: int) -> int:
    """How often 2 divides a word; 32 for 0."""
    return 32 if x & MASK == 0 else (x & -x).bit_length() - 1


@dataclass(eq=False, slots=True)
class BitTerm:
    """``op`` of ``args`` and ``par`` (numbers), as a signed number at least ``lo`` and at most ``hi``.

    ``sample`` are its words on the sample vectors. ``name`` says which value of the Program it is, "" for none; at a
    ``cut`` sums are not flattened.
    """

    op: str
    args: tuple[BitTerm, ...]
    par: tuple[int, ...]
    lo: int
    hi: int
    sample: Words
    id: int
    name: str = ""
    cut: bool = False

    def __repr__(self) -> str:
        return f"t{self.id}:{self.op}{self.par if self.op != 'lin' else ''}[{self.lo},{self.hi}]"

    @property
    def fixed(self) -> bool:
        """Whether it is a number."""
        return self.op == "const"


def narrow(term: BitTerm, lo: int, hi: int) -> None:
    """Let it be known that a term lies between lo and hi; what it is shifted from lies accordingly.

    So (s >> 16) between 0 and 9 tells of s that it is not negative, whatever the intervals of its summands allow.
    """
    while not term.fixed and term.op != "var":
        term.lo, term.hi = max(term.lo, lo), min(term.hi, hi)
        if term.op != "asr":
            return
        k, term = term.par[0], term.args[0]
        lo, hi = lo << k, ((hi + 1) << k) - 1
