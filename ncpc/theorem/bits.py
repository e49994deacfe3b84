"""Rules of the operations on bits: masks, and words bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.theorem.parts import keeps_zero, shl_keeps, sign_mask
from ncpc.theorem.spans import is_condition, ordered, span_of_bits
from ncpc.theorem.term import FULL, LEAST, MOST, BitTerm, trailing_zeros

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
    if (a.lo, a.hi) == (-1, 0):
        return terms.lin([(a, -m)])
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


def _limited_by(terms: BitTerms, x: BitTerm, mask: BitTerm) -> BitTerm | None:
    """x & mask, where the mask is the sign of x (or of what x is shifted from), or the opposite of it."""
    found = sign_mask(mask)
    whole = x.args[0] if x.op in ("asr", "srl") else x
    if found is None or terms.asr(whole, 31) is not found[0]:
        return None
    if found[1]:
        return terms.smax(terms.asr(whole, x.par[0]) if x.op == "srl" else x, terms.const(0))
    return terms.smin(x, terms.const(0)) if x.op != "srl" else None


def limited_again(terms: BitTerms, op: str, a: BitTerm, b: BitTerm) -> BitTerm | None:
    """``smin`` or ``smax`` of a number and a term that is limited already: the upper limit outside, either once."""
    for x, y in ((a, b), (b, a)):
        if not y.fixed or x.cut or x.op not in ("smin", "smax"):
            continue
        end, inner = x.args if x.args[0].fixed else x.args[::-1]
        if end.fixed and x.op == op:
            return terms.smin(inner, terms.smin(end, y)) if op == "smin" else terms.smax(inner, terms.smax(end, y))
        if end.fixed and op == "smax":  # y lies below the upper limit: otherwise it were all that is possible
            return terms.smin(terms.smax(inner, y), end)
    return None


def limited(terms: BitTerms, condition: BitTerm, a: BitTerm, b: BitTerm) -> BitTerm | None:
    """The larger or the smaller of a and b, where a condition on the sign of their difference chooses between them."""
    if condition.op != "lin" or condition.args[0].op != "asr" or condition.args[0].par != (31,):
        return None
    if condition.par == (1, 1):  # where the sign is not set
        a, b = b, a
    elif condition.par != (-1, 0):
        return None
    if min(a.lo, b.lo) - max(a.hi, b.hi) <= LEAST:
        return None
    for d, choose in ((terms.sub(b, a), terms.smax), (terms.sub(a, b), terms.smin)):
        if condition.args[0] in (terms.asr(d, 31), terms.asr(terms.addc(d, -1), 31)):
            return choose(a, b)
    return None


def is_within(terms: BitTerms, a: BitTerm, b: BitTerm) -> BitTerm | None:
    """a = b where one is the other limited by numbers: whether it lies within them."""
    for x, y in ((a, b), (b, a)):
        ends = {"smin": MOST, "smax": LEAST}
        for op in ends:
            end, inner = y.args if y.op == op and y.args[0].fixed else y.args[::-1] if y.op == op else (y, y)
            if y is not x and end.fixed:
                ends[op], y = end.par[0], inner
        if y is x and ends["smax"] <= ends["smin"]:
            beyond = terms.slt(terms.const(ends["smin"]), x), terms.slt(x, terms.const(ends["smax"]))
            return terms.both(*(terms.negated(one) for one in beyond))
    return None


def is_zero(terms: BitTerms, a: BitTerm) -> BitTerm:
    """1 where a is 0, else 0: of a | b where both are, of a ^ b where they are the same."""
    if is_condition(a):
        return terms.negated(a)
    alone = a.op == "lin" and len(a.args) == 1
    part = terms.divided_by(a, trailing_zeros(a.par[0])) if alone else None
    if part is not None and part is not a and shl_keeps(part, trailing_zeros(a.par[0])):
        return is_zero(terms, part)
    if alone and a.par[0] & 1 and a.par[1] == 0:
        return is_zero(terms, a.args[0])
    if a.op == "and" and a.args[1].fixed and keeps_zero(a.args[0], a.args[1].par[0]):
        return is_zero(terms, a.args[0])
    if a.op == "or":
        return terms.both(*(is_zero(terms, x) for x in a.args))
    if a.op == "xor":
        return terms.eq(*a.args)
    return terms.make("eq0", (a,), (), (0, 1))


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
        if op == "and" and (limited := _limited_by(terms, x, y)) is not None:
            return limited
    if a is b:
        return a
    a, b = ordered(a, b)
    return terms.make(op, (a, b), (), span_of_bits(op, a, b))
