"""What each kind of term means as a bit vector of 32 bits: written here once more, and nothing of it in the product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bitwuzla import Bitwuzla, Kind, Option, Options, Result, TermManager

from ncpc.theorem.term import BitTerm
from ncpc.theorem.terms import BitTerms

QUOTIENTS, PRODUCTS = ("div", "rem", "divu", "remu"), ("mul", "mulshr", "umulshr")
Bits = Any
"""A term of the solver's."""


class Vectors:
    """The solver's words: operations on them, and the meanings of terms."""

    def __init__(self, terms: BitTerms) -> None:
        self.terms, self.tm = terms, TermManager()
        self.word, self.double = self.tm.mk_bv_sort(32), self.tm.mk_bv_sort(64)
        self.known: dict[int, Bits] = {}
        self.products: dict[frozenset[int], dict[Kind, Bits]] = {}
        self.facts: list[Bits] = []
        self.opaque = False

    def op(self, kind: Kind, *args: Bits, index: Sequence[int] = ()) -> Bits:
        return self.tm.mk_term(kind, list(args), list(index))

    def number(self, value: int, bits: int = 32) -> Bits:
        return self.tm.mk_bv_value(self.word if bits == 32 else self.double, value & ((1 << bits) - 1))

    def free(self) -> Bits:
        return self.tm.mk_const(self.word)

    def bit(self, condition: Bits) -> Bits:
        return self.op(Kind.ITE, condition, self.number(1), self.number(0))

    def within(self, word: Bits, lo: int, hi: int) -> Bits:
        ends = self.op(Kind.BV_SGE, word, self.number(lo)), self.op(Kind.BV_SLE, word, self.number(hi))
        return self.op(Kind.AND, *ends)

    def equal(self, a: Bits, b: Bits) -> Bits:
        return self.op(Kind.EQUAL, a, b)

    def different(self, a: Bits, b: Bits) -> Bits:
        return self.op(Kind.DISTINCT, a, b)

    def product(self, extend: Kind, a: Bits, b: Bits, c: int, k: int) -> Bits:
        """The low word of (a*b + c) >> k in 64 bits, which are signed where a and b are."""
        total = self.op(Kind.BV_ADD, self.exact(extend, a, b), self.number(c, 64))
        shift = Kind.BV_ASHR if extend == Kind.BV_SIGN_EXTEND else Kind.BV_SHR
        return self.op(Kind.BV_EXTRACT, self.op(shift, total, self.number(k, 64)), index=[31, 0])

    def exact(self, extend: Kind, a: Bits, b: Bits) -> Bits:
        """The product in 64 bits. Where it is hard it may be any number, but the signed one and that of words differ as
        test_signed_products_and_those_of_words_differ_by_either_word_shifted proves."""
        if a.is_value() or b.is_value():
            return self.op(Kind.BV_MUL, *(self.op(extend, x, index=[32]) for x in (a, b)))
        key = frozenset((a.id(), b.id()))
        if key not in self.products:
            signed, unsigned = self.tm.mk_const(self.double), self.tm.mk_const(self.double)
            total = signed
            for x, y in ((a, b), (b, a)):
                high = self.op(Kind.BV_CONCAT, y, self.number(0))
                negative = self.op(Kind.BV_SLT, x, self.number(0))
                total = self.op(Kind.BV_ADD, total, self.op(Kind.ITE, negative, high, self.number(0, 64)))
            self.facts.append(self.equal(unsigned, total))
            self.products[key] = {Kind.BV_SIGN_EXTEND: signed, Kind.BV_ZERO_EXTEND: unsigned}
        return self.products[key][extend]

    def bound(self, terms: Sequence[BitTerm], a: Bits, b: Bits) -> None:
        """That a signed product lies between those of the ends of its factors, which
        test_products_lie_between_those_of_the_ends proves."""
        if not (a.is_value() or b.is_value()):
            corners = [x * y for x in (terms[0].lo, terms[0].hi) for y in (terms[1].lo, terms[1].hi)]
            product = self.exact(Kind.BV_SIGN_EXTEND, a, b)
            ends = self.number(min(corners), 64), self.number(max(corners), 64)
            self.facts += [self.op(Kind.BV_SGE, product, ends[0]), self.op(Kind.BV_SLE, product, ends[1])]

    def low_product(self, a: Bits, b: Bits) -> Bits:
        """The low word of a product."""
        if a.is_value() or b.is_value():
            return self.op(Kind.BV_MUL, a, b)
        return self.op(Kind.BV_EXTRACT, self.exact(Kind.BV_SIGN_EXTEND, a, b), index=[31, 0])

    def leading_zeros(self, a: Bits) -> Bits:
        count = self.number(32)
        for bit in range(32):
            is_set = self.op(Kind.DISTINCT, self.op(Kind.BV_AND, a, self.number(1 << bit)), self.number(0))
            count = self.op(Kind.ITE, is_set, self.number(31 - bit), count)
        return count

    def sum(self, args: Sequence[Bits], par: Sequence[int]) -> Bits:
        total = self.number(par[-1])
        for x, k in zip(args, par[:-1], strict=True):
            total = self.op(Kind.BV_ADD, total, self.op(Kind.BV_MUL, x, self.number(k)))
        return total

    def long_sum(self, args: Sequence[Bits], par: Sequence[int]) -> Bits:
        """The low word of a sum of multiples of signed numbers in 64 bits, shifted right."""
        total = self.number(par[-2], 64)
        for x, k in zip(args, par[:-2], strict=True):
            part = self.op(Kind.BV_MUL, self.op(Kind.BV_SIGN_EXTEND, x, index=[32]), self.number(k, 64))
            total = self.op(Kind.BV_ADD, total, part)
        return self.op(Kind.BV_EXTRACT, self.op(Kind.BV_ASHR, total, self.number(par[-1], 64)), index=[31, 0])

    def listed(self, index: Bits, first: int, numbers: Sequence[int]) -> Bits:
        """numbers[index - first]; anything else elsewhere."""
        word = self.free()
        for k, number in enumerate(numbers):
            at = self.op(Kind.EQUAL, index, self.number(first + k))
            word = self.op(Kind.ITE, at, self.number(number), word)
        return word

    def loaded(self, address: Bits, par: Sequence[int]) -> Bits:
        first, data = self.terms.flash.pieces[0]
        kind = np.dtype(f"<{'i' if par[1] else 'u'}{par[0]}")
        numbers = [int(np.frombuffer(data[k:].tobytes(), kind, 1)[0]) for k in range(len(data) - par[0] + 1)]
        return self.listed(address, first, numbers)

    def meaning(self, op: str, par: Sequence[int], args: Sequence[Bits]) -> Bits:
        if op == "tab":
            return self.listed(args[0], 0, [int(n) for n in self.terms.tables[par[0]]])
        return MEANINGS[op](self, args, par)

    def of(self, term: BitTerm) -> Bits:
        """The term over its variables; while ``opaque``, quotients are variables: no rule opens them."""
        if term.id not in self.known:
            free = term.op == "var" or (self.opaque and term.op in QUOTIENTS)
            self.known[term.id] = (self.number(term.par[0]) if term.op == "const" else self.free() if free
                                   else self.meaning(term.op, term.par, [self.of(a) for a in term.args]))
            if term.op in PRODUCTS:
                self.bound(term.args, *(self.of(a) for a in term.args))
        return self.known[term.id]

    def holds(self, formula: Bits, given: Sequence[Bits]) -> bool:
        """Whether ``formula`` follows. Fails where the solver finds no answer in its time."""
        options = Options()
        options.set(Option.TIME_LIMIT_PER, 20_000)
        solver = Bitwuzla(self.tm, options)
        for assumed in [*given, *self.facts, self.op(Kind.NOT, formula)]:
            solver.assert_formula(assumed)
        result = solver.check_sat()
        assert result != Result.UNKNOWN, "no answer"
        return bool(result == Result.UNSAT)


def _direct(kind: Kind) -> Callable[[Vectors, Sequence[Bits], Sequence[int]], Bits]:
    return lambda v, a, p: v.op(kind, *a, *(v.number(k) for k in p))


def _compared(kind: Kind) -> Callable[[Vectors, Sequence[Bits], Sequence[int]], Bits]:
    return lambda v, a, p: v.bit(v.op(kind, *a))


def _chosen(kind: Kind) -> Callable[[Vectors, Sequence[Bits], Sequence[int]], Bits]:
    return lambda v, a, p: v.op(Kind.ITE, v.op(kind, *a), *a)


def _shifted(kind: Kind) -> Callable[[Vectors, Sequence[Bits], Sequence[int]], Bits]:
    return lambda v, a, p: v.op(kind, a[0], v.op(Kind.BV_AND, a[1], v.number(31)))


MEANINGS: dict[str, Callable[[Vectors, Sequence[Bits], Sequence[int]], Bits]] = {
    "lin": lambda v, a, p: v.sum(a, p), "wide": lambda v, a, p: v.long_sum(a, p),
    "add": _direct(Kind.BV_ADD), "sub": _direct(Kind.BV_SUB), "addc": _direct(Kind.BV_ADD),
    "mul": lambda v, a, p: v.low_product(*a),
    "mulshr": lambda v, a, p: v.product(Kind.BV_SIGN_EXTEND, *a, *p),
    "umulshr": lambda v, a, p: v.product(Kind.BV_ZERO_EXTEND, *a, *p),
    "div": _direct(Kind.BV_SDIV), "rem": _direct(Kind.BV_SREM),
    "divu": _direct(Kind.BV_UDIV), "remu": _direct(Kind.BV_UREM),
    "shl": _direct(Kind.BV_SHL), "asr": _direct(Kind.BV_ASHR), "srl": _direct(Kind.BV_SHR),
    "sllv": _shifted(Kind.BV_SHL), "srav": _shifted(Kind.BV_ASHR), "srlv": _shifted(Kind.BV_SHR),
    "and": _direct(Kind.BV_AND), "or": _direct(Kind.BV_OR), "xor": _direct(Kind.BV_XOR),
    "slt": _compared(Kind.BV_SLT), "sltu": _compared(Kind.BV_ULT), "eq": _compared(Kind.EQUAL),
    "all": lambda v, a, p: v.op(Kind.BV_AND, *a),
    "eq0": lambda v, a, p: v.bit(v.op(Kind.EQUAL, a[0], v.number(0))),
    "ite": lambda v, a, p: v.op(Kind.ITE, v.different(a[0], v.number(0)), a[1], a[2]),
    "smin": _chosen(Kind.BV_SLT), "smax": _chosen(Kind.BV_SGT),
    "clz": lambda v, a, p: v.leading_zeros(a[0]),
    "norm": lambda v, a, p: v.op(Kind.BV_SHL, a[0], v.leading_zeros(a[0])),
    "load": lambda v, a, p: v.loaded(a[0], p),
}
"""By the kind of a term; ``add``, ``sub``, ``addc``, ``shl`` and ``eq`` are operations that become other kinds."""
