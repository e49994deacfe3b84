"""Words whose bits are conditions, as a status word has them: sums of conditions times powers of two, bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.theorem.spans import is_condition
from ncpc.theorem.term import MOST, BitTerm, trailing_zeros

if TYPE_CHECKING:
    from ncpc.theorem.terms import BitTerms

Bits = dict[int, BitTerm]
"""By their number, the bits of a word that are not always 0: each a term that is 0 or 1."""


def bits_of(terms: BitTerms, a: BitTerm) -> Bits | None:
    """The bits of a word that is such a sum; None for any other. 16 - 16*c has one bit, 4: 1 - c."""
    if a.fixed:
        items, rest = [], a.par[0]
    elif is_condition(a):
        items, rest = [(a, 1)], 0
    elif a.op == "lin" and not a.cut and all(map(is_condition, a.args)):
        items, rest = list(zip(a.args, a.par[:-1], strict=True)), a.par[-1]
    else:
        return None
    found: Bits = {}
    for n, q in items:
        bit = trailing_zeros(q)
        if abs(q) != 1 << bit or bit in found:
            return None
        found[bit] = n if q > 0 else terms.negated(n)
        rest += min(q, 0)
    if not 0 <= rest <= MOST or any(rest >> bit & 1 for bit in found):
        return None
    return found | {bit: terms.const(1) for bit in range(31) if rest >> bit & 1}


def of_bits(terms: BitTerms, bits: Bits) -> BitTerm:
    """The word."""
    return terms.lin([(n, 1 << bit) for bit, n in bits.items()])


def either(terms: BitTerms, a: BitTerm, b: BitTerm) -> BitTerm | None:
    """a | b of two such words."""
    first, second = bits_of(terms, a), bits_of(terms, b)
    if first is None or second is None:
        return None
    zero = terms.const(0)
    return of_bits(terms, {i: terms.or_(first.get(i, zero), second.get(i, zero)) for i in {*first, *second}})


def chosen(terms: BitTerms, condition: BitTerm, a: BitTerm, b: BitTerm) -> BitTerm | None:
    """a where a condition is 1, else b, of two such words that differ in bits one of which is always 0 or 1."""
    first, second = bits_of(terms, a), bits_of(terms, b)
    if first is None or second is None:
        return None
    zero, found = terms.const(0), Bits()
    for i in {*first, *second}:
        x, y = first.get(i, zero), second.get(i, zero)
        if x is not y and not (x.fixed or y.fixed):
            return None
        found[i] = x if x is y else _one(terms, condition, x, y)
    return of_bits(terms, found)


def _one(terms: BitTerms, condition: BitTerm, x: BitTerm, y: BitTerm) -> BitTerm:
    """x where the condition is 1, else y, of conditions one of which is a number."""
    if not x.fixed:
        return _one(terms, terms.negated(condition), y, x)
    return terms.or_(condition, y) if x.par[0] else terms.both(terms.negated(condition), y)
