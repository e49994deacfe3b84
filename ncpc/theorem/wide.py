"""Sums in 64 bits and the words of them that 32-bit code has.

``word`` is 32 bits of a sum that is exact, from bit k on. With H the word from bit 32, a carry is what three sums
differ by: a < b as words is H(A) - H(B) - H(A - B) for any sums A and B whose low words are a and b. And the low word a
shifted right by k is the word of A from bit k less H(A) << (32 - k). Sums of words that have such pieces are rewritten
where the pieces cancel: so a chain of additions with carries, in whatever order, becomes one word of one sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ncpc.theorem.spans import ends, fitting, ordered
from ncpc.theorem.term import LEAST, MOST, BitTerm, signed_word

if TYPE_CHECKING:
    from ncpc.theorem.terms import BitTerms

LONG = 1 << 63
Items = list[tuple[BitTerm, int]]
Piece = tuple[Items, Items]
"""What a piece of a wide sum is: lower words, and upper ones that are to cancel against what else there is."""


def fits(lo: int, hi: int) -> bool:
    """Whether 32 bits hold an interval."""
    return lo >= LEAST and hi <= MOST


def exponent(q: int) -> int:
    """How often 2 divides a number that is not 0."""
    return (q & -q).bit_length() - 1


@dataclass(frozen=True, eq=False)
class WideSum:
    """sum coefficient*term + c of the signed numbers that terms are, exactly."""

    items: Mapping[BitTerm, int]
    c: int

    def ends(self) -> tuple[int, int]:
        """The least and the most that it can be."""
        corners = [sorted((q * n.lo, q * n.hi)) for n, q in self.items.items()]
        return self.c + sum(lo for lo, _ in corners), self.c + sum(hi for _, hi in corners)

    def less(self, other: WideSum) -> WideSum:
        """This one without the other."""
        items = {n: self.items.get(n, 0) - other.items.get(n, 0) for n in (*self.items, *other.items)}
        return WideSum({n: q for n, q in items.items() if q}, self.c - other.c)


def sum_of(a: BitTerm) -> WideSum:
    """A sum whose low word is ``a``."""
    if a.op == "lin" and not a.cut:
        return WideSum(dict(zip(a.args, a.par[:-1], strict=True)), a.par[-1])
    return WideSum({}, a.par[0]) if a.fixed else WideSum({a: 1}, 0)


def remember(terms: BitTerms, term: BitTerm, given: Iterable[tuple[BitTerm, int]], c: int) -> None:
    """Keep of a low word the exact sum coefficient*term + c that it was made as, where 64 bits hold that.

    Of d * 325628668 with d = 3451*x + u the word has coefficients modulo 2**32 alone; the word above, which the code
    forms as well, is one of the exact sum.
    """
    parts = [(_meant(terms, n), q) for n, q in given]
    total = multiples(((m, p * q) for part, q in parts for m, p in part.items.items()),
                      c + sum(part.c * q for part, q in parts))
    lo, hi = total.ends()
    if lo >= -LONG and hi < LONG:
        terms.lifts.setdefault(term, total)


def _meant(terms: BitTerms, a: BitTerm) -> WideSum:
    """A sum whose low word is ``a``, if possible the one that it was made as."""
    return terms.lifts.get(a) or sum_of(a)


def multiples(terms: Iterable[tuple[BitTerm, int]], c: int) -> WideSum:
    """sum coefficient*term + c; a term may come twice, numbers among the terms count with ``c``."""
    items: dict[BitTerm, int] = {}
    for n, q in terms:
        if n.fixed:
            c += q * n.par[0]
        else:
            items[n] = items.get(n, 0) + q
    return WideSum({n: q for n, q in items.items() if q}, c)


def multiple(a: BitTerm, factor: int, c: int) -> WideSum:
    """a*factor + c for the signed number ``a``: of its terms where it is their exact sum."""
    part = sum_of(a)
    lo, hi = part.ends()
    if not fits(lo, hi):
        part = WideSum({a: 1}, 0)
    return multiples(((n, q * factor) for n, q in part.items.items()), part.c * factor + c)


def word(terms: BitTerms, total: WideSum, k: int) -> BitTerm | None:
    """The low word of floor(total / 2**k); None where 64 bits do not hold the total."""
    zeros = min((k, *(exponent(q) for q in total.items.values())))
    if zeros:
        return word(terms, WideSum({n: q >> zeros for n, q in total.items.items()}, total.c >> zeros), k - zeros)
    lo, hi = total.ends()
    if lo < -LONG or hi >= LONG:
        return None
    if lo >> k == hi >> k:
        return terms.const(lo >> k)
    if fits(lo, hi):
        return terms.asr(terms.lin(total.items.items(), total.c), min(k, 31))
    least = next(i for i in range(1, 33) if fits(lo >> i, hi >> i))
    if k > least:
        upper = word(terms, total, least)
        return None if upper is None else terms.asr(upper, min(k - least, 31))
    low = WideSum({n: r for n, q in total.items.items() if (r := signed_word(q))}, signed_word(total.c))
    if (low.items, low.c) != (total.items, total.c):  # multiples of 2**32 count by themselves
        part, rest = word(terms, low, k), total.less(low)
        more = [(n, q >> k) for n, q in rest.items.items()]
        return None if part is None else terms.lin([(part, 1), *more], rest.c >> k)
    return _made(terms, total, k, fitting(lo >> k, hi >> k))


def _made(terms: BitTerms, total: WideSum, k: int, span: tuple[int, int]) -> BitTerm:
    """A sum of one term is a product with a number."""
    items = sorted(total.items.items(), key=lambda item: item[0].id)
    if len(items) > 1:
        return terms.make("wide", tuple(n for n, _ in items), (*(q for _, q in items), total.c, k), span)
    n, q = items[0]
    return terms.make("mulshr", ordered(n, terms.const(q)), (total.c, k), span)


def product_word(terms: BitTerms, a: BitTerm, b: BitTerm, c: int, k: int) -> BitTerm | None:
    """The low word of (a*b + c) >> k of signed numbers, where it is a word of a sum; otherwise with a small ``c``."""
    for x, y in ((a, b), (b, a)):
        if y.fixed:
            return word(terms, multiple(x, y.par[0], c), k)
    lo, hi = ends(a, b)
    if fits(lo, hi) and fits(lo + c, hi + c):
        return terms.asr(terms.addc(terms.mul(a, b), c), min(k, 31))
    if k <= 32 and c != signed_word(c):
        return terms.addc(terms.mulshr(a, b, signed_word(c), k), (c - signed_word(c)) >> k)
    return None


# ---------------------------------------------------------------------- pieces
def gathered(terms: BitTerms, found: dict[BitTerm, int], c: int) -> tuple[dict[BitTerm, int], int]:
    """A sum modulo 2**32 in which carries, and words shifted right, are the words of wide sums that they differ by,
    wherever that leaves no more terms than there were.
    """
    tried: set[BitTerm] = set()
    while (piece := next((n for n in found if n.op in PIECES and n not in tried), None)) is not None:
        tried.add(piece)
        words = PIECES[piece.op](terms, piece)
        if words is not None:
            lower, upper = ([(n, q * found[piece]) for n, q in part] for part in words)
            kept = [(n, q) for n, q in found.items() if n is not piece]
            other, number = terms.flattened([*kept, *upper], c)
            if sum(q != 0 for q in other.values()) <= len(kept) + (-1 if lower else 1):
                found, c = terms.flattened([*other.items(), *lower], number)
    whole = terms.whole.sum(terms, found, c)
    return (found, c) if whole is None else gathered(terms, *whole)


def _high(terms: BitTerms, total: WideSum, product: BitTerm | None, k: int = 32) -> BitTerm | None:
    """A word of a sum; of the whole product that its only term is the low word of, where that is meant."""
    if product is not None and product in total.items:
        return terms.mulshr(product.args[0], product.args[1], total.c, k)
    return word(terms, total, k)


def _only_product(*sums: WideSum) -> BitTerm | None:
    """The product that is, once, all that any of the sums has beside numbers."""
    every = {item for total in sums for item in total.items.items()}
    return next((n for n, q in every if len(every) == 1 and n.op == "mul" and q == 1), None)


def _carry(terms: BitTerms, a: BitTerm, b: BitTerm) -> Piece | None:
    """a < b as words."""
    first, second = _meant(terms, a), _meant(terms, b)
    sums = (first, second, first.less(second))
    product = _only_product(*sums)
    words = [_high(terms, total, product) for total in sums]
    if None in words:
        return None
    return [], [(n, q) for n, q in zip(words, (1, -1, -1), strict=True) if n is not None]


def _shifted(terms: BitTerms, a: BitTerm, k: int) -> Piece | None:
    """a >> k of the word."""
    total = _meant(terms, a)
    product = _only_product(total)
    part, high = (_high(terms, total, product, at) for at in (k, 32))
    return None if part is None or high is None else ([(part, 1)], [(high, -(1 << (32 - k)))])


def _masked(terms: BitTerms, a: BitTerm, mask: BitTerm) -> Piece | None:
    """The low bits of a word."""
    k = mask.par[0].bit_length() if mask.fixed else 0
    above = word(terms, _meant(terms, a), k) if mask.par == ((1 << k) - 1,) else None
    return None if above is None else ([(a, 1)], [(above, -(1 << k))])


PIECES: Mapping[str, Callable[[BitTerms, BitTerm], Piece | None]] = {
    "sltu": lambda terms, n: _carry(terms, *n.args),
    "eq0": lambda terms, n: _carry(terms, n.args[0], terms.const(1)),
    "and": lambda terms, n: _masked(terms, *n.args),
    "srl": lambda terms, n: _shifted(terms, n.args[0], n.par[0]),
}
"""By the kind of a term: the words of sums that it differs from others by."""
