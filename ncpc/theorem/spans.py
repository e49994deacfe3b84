"""What can be said of a term from the intervals of others."""

from __future__ import annotations

from ncpc.theorem.term import FULL, LEAST, MOST, BitTerm, signed_word, trailing_zeros
from ncpc.theorem.values import MASK


def fitting(lo: int, hi: int) -> tuple[int, int]:
    """An exact interval, where 32 bits hold it."""
    return (lo, hi) if lo >= LEAST and hi <= MOST else FULL


def ends(a: BitTerm, b: BitTerm) -> tuple[int, int]:
    """The least and the largest exact product."""
    corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return min(corners), max(corners)


def low_number(x: int, bits: int) -> int:
    """The number that the low bits of ``x`` stand for, the highest of them being its sign."""
    half = 1 << (bits - 1)
    return ((x + half) & (2 * half - 1)) - half


def ordered(a: BitTerm, b: BitTerm) -> tuple[BitTerm, BitTerm]:
    """Both, the one that was made first in front: for what does not mind."""
    return (a, b) if a.id <= b.id else (b, a)


def is_condition(a: BitTerm) -> bool:
    """Whether it is 0 or 1."""
    return a.lo >= 0 and a.hi <= 1


def one_sign(a: BitTerm) -> bool:
    """Whether it is negative always or never."""
    return (a.lo >= 0) == (a.hi >= 0)


def low_bits_of(term: BitTerm, zeros: int) -> BitTerm | None:
    """The term whose low 32 - zeros bits are those of ``term``: for a mask that keeps them, and a sign extension."""
    if term.op == "and" and term.args[1].fixed and trailing_zeros(~term.args[1].par[0]) >= 32 - zeros:
        return term.args[0]
    if term.op == "asr" and zeros >= term.par[0]:
        a = term.args[0]
        if a.op == "lin" and not a.cut and len(a.args) == 1 and a.par == (signed_word(1 << term.par[0]), 0):
            return a.args[0]
    return None


def less_as_words(a: BitTerm, b: BitTerm) -> bool | None:
    """Whether a < b as words, where intervals of one sign each say so."""
    if not (one_sign(a) and one_sign(b)):
        return None
    return True if a.hi & MASK < b.lo & MASK else False if a.lo & MASK >= b.hi & MASK else None


def only_difference(d: BitTerm, a: BitTerm, b: BitTerm) -> int | None:
    """a - b where ``d``, the word of it, is one: of those that are equal modulo 2**32, the one that intervals allow."""
    if not d.fixed:
        return None
    least, most = a.lo - b.hi, a.hi - b.lo
    allowed = [x for x in (d.par[0] - (1 << 32), d.par[0], d.par[0] + (1 << 32)) if least <= x <= most]
    return allowed[0] if len(allowed) == 1 else None


def zeros_below(a: BitTerm, depth: int = 2) -> int:
    """How many low bits are 0 for sure, seen so many terms deep."""
    if a.op in ("const", "lin"):
        parts = [trailing_zeros(k) + (zeros_below(x, depth - 1) if depth else 0)
                 for k, x in zip(a.par, a.args, strict=False)]
        return min(32, trailing_zeros(a.par[-1]), *parts)
    if depth and a.op in ("asr", "srl"):
        return max(0, zeros_below(a.args[0], depth - 1) - a.par[0])
    return max(zeros_below(x, depth - 1) for x in a.args) if depth and a.op == "and" else 0


def span_of_bits(op: str, a: BitTerm, b: BitTerm) -> tuple[int, int]:
    """Of ``and``, ``or`` and ``xor``: as many bits as their arguments have."""
    if op == "and" and (a.lo >= 0 or b.lo >= 0):
        return 0, min(n.hi for n in (a, b) if n.lo >= 0)
    if a.lo >= 0 and b.lo >= 0:
        return 0, (1 << max(a.hi.bit_length(), b.hi.bit_length())) - 1
    end = 1 << max((x ^ (x >> 31)).bit_length() for n in (a, b) for x in (n.lo, n.hi))
    return -end, end - 1
