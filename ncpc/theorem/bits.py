"""Rules of the operations on bits: masks, and words bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.theorem.parts import sign_of
from ncpc.theorem.spans import is_condition, ordered, span_of_bits
from ncpc.theorem.term import FULL, BitTerm, trailing_zeros

if TYPE_CHECKING:
    from ncpc.theorem.terms import BitTerms


def masked(terms: BitTerms, a: BitTerm, b: BitTerm) -> BitTerm:
    """a & b for a number b."""
    m = b.par[0]
    if a.fixed:
        return terms.const(a.par[0] & m)
    if m == 0 or m == -1:
        return a if m else b
    if m > 0 and m & (m + 1) == 0 and a.lo >= 0 and a.hi <= m:
        return a
    t = trailing_zeros(m)
    if m == -(1 << t):
        return terms.shl(terms.asr(a, t), t)
    if t and m > 0 and a.op in ("srl", "asr") and a.par[0] + t < 32:
        inner = (terms.srl if a.op == "srl" else terms.asr)(a.args[0], a.par[0] + t)
        return terms.shl(terms.and_(inner, terms.const(m >> t)), t)
    if t and m > 0 and a.lo >= 0 and (m >> t) & ((m >> t) + 1) == 0 and a.hi <= m | ((1 << t) - 1):
        return terms.shl(terms.asr(a, t), t)
    span = (0, min(m, a.hi) if a.lo >= 0 else m) if m >= 0 else ((0, a.hi) if a.lo >= 0 else FULL)
    return terms.make("and", (a, b), (), span)


def bitwise(terms: BitTerms, op: str, a: BitTerm, b: BitTerm) -> BitTerm:
    """``and``, ``or`` or ``xor`` of words."""
    if a.fixed and b.fixed:
        p, q = a.par[0], b.par[0]
        return terms.const({"and": p & q, "or": p | q, "xor": p ^ q}[op])
    for x, y in ((a, b), (b, a)):
        if op != "and" and y.fixed and y.par[0] == 0:
            return x
        if op == "and" and y.op == "lin" and y.par == (-1, 0) and is_condition(y.args[0]):  # all bits or none
            return terms.ite(y.args[0], x, terms.const(0))
        if op == "and" and (opposite := sign_of(x, y)) is not None:
            return terms.smax(x, terms.const(0)) if opposite else terms.smin(x, terms.const(0))
    if a is b:
        return a
    a, b = ordered(a, b)
    return terms.make(op, (a, b), (), span_of_bits(op, a, b))
