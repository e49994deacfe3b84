"""Terms as bit vectors: whether two can differ is asked of bitwuzla (Niemetz and Preiner 2023).

What stands below is free: a term that is not opened may be any word in its interval. So an answer "they cannot" holds
for every term of that shape whose intervals lie within those that were assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ncpc.theorem.term import FULL, BitTerm
from ncpc.theorem.terms import BitTerms

LONGEST_TABLE = 512
"""Loads from no more addresses than these are spelled out; others may give anything."""

Spans = Mapping[BitTerm, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Question:
    """Whether ``a`` and ``b`` can differ. ``leaves`` are free, ``order`` is what is made of them, arguments first.

    ``spans`` are the intervals that are assumed, of everything in both.
    """

    a: BitTerm
    b: BitTerm
    leaves: Sequence[BitTerm]
    order: Sequence[BitTerm]
    spans: Spans


def never_differ(terms: BitTerms, question: Question, limit_ms: int) -> bool | None:
    """Whether the solver shows that they are always equal; None where its time is not enough."""
    from bitwuzla import Bitwuzla, Kind, Option, Options, Result, TermManager

    manager, options = TermManager(), Options()
    options.set(Option.TIME_LIMIT_PER, limit_ms)
    vectors = BitVectors(terms, question, Bitwuzla(manager, options), manager, Kind)
    a, b = vectors.of(question.a), vectors.of(question.b)
    if a is b:
        return True
    vectors.solver.assert_formula(vectors.apply(Kind.DISTINCT, a, b))
    return {Result.UNSAT: True, Result.SAT: False}.get(vectors.solver.check_sat())


@dataclass
class BitVectors:
    """The solver's terms for ours, made as they are asked for."""

    terms: BitTerms
    question: Question
    solver: Any
    manager: Any
    kind: Any
    made: dict[BitTerm, Any] = field(default_factory=dict)
    products: dict[tuple[int, int], Any] = field(default_factory=dict)
    totals: dict[tuple[int, ...], Any] = field(default_factory=dict)

    @cached_property
    def free(self) -> frozenset[BitTerm]:
        """What is not opened."""
        return frozenset(self.question.leaves)

    @cached_property
    def wide(self) -> frozenset[frozenset[BitTerm]]:
        """The products that the question needs in 64 bits."""
        return frozenset(frozenset(n.args) for n in self.question.order if n.op == "mulshr")

    @cached_property
    def sums(self) -> frozenset[tuple[object, ...]]:
        """The sums that the question needs in 64 bits."""
        return frozenset((n.args, n.par[:-2]) for n in self.question.order if n.op == "wide")

    def of(self, term: BitTerm) -> Any:
        """All before it in order are made first, so that nothing recurses deeply."""
        for one in (*self.question.leaves, *self.question.order):
            if one not in self.made:
                self.made[one] = self._make(one)
        return self.number(term.par[0]) if term.fixed else self.made[term]

    def _make(self, term: BitTerm) -> Any:
        if term in self.free or term.op not in MAKERS:
            return self.any_of(term)
        return MAKERS[term.op](self, term, [self._known(a) for a in term.args])

    def _known(self, term: BitTerm) -> Any:
        return self.number(term.par[0]) if term.fixed else self.made[term]

    def apply(self, kind: Any, *args: Any, indices: Sequence[int] = ()) -> Any:
        return self.manager.mk_term(kind, list(args), *([list(indices)] if indices else []))

    def number(self, value: int, bits: int = 32) -> Any:
        return self.manager.mk_bv_value(self.manager.mk_bv_sort(bits), value & ((1 << bits) - 1))

    def span(self, term: BitTerm) -> tuple[int, int]:
        return (term.lo, term.hi) if term.fixed else self.question.spans[term]

    def any_of(self, term: BitTerm) -> Any:
        """A word that may be anything in the interval assumed."""
        word = self.manager.mk_const(self.manager.mk_bv_sort(32), f"t{term.id}")
        self._require(word, self.span(term), 32)
        return word

    def _require(self, word: Any, span: tuple[int, int], bits: int) -> None:
        if span != FULL or bits > 32:
            for kind, end in ((self.kind.BV_SGE, span[0]), (self.kind.BV_SLE, span[1])):
                self.solver.assert_formula(self.apply(kind, word, self.number(end, bits)))

    def product(self, x: BitTerm, y: BitTerm) -> Any:
        """The exact product in 64 bits as a free number, the same one wherever the same product is meant."""
        key = (min(x.id, y.id), max(x.id, y.id))
        if key not in self.products:
            free = self.manager.mk_const(self.manager.mk_bv_sort(64), f"p{key[0]}_{key[1]}")
            corners = [i * j for i in self.span(x) for j in self.span(y)]
            self._require(free, (min(corners), max(corners)), 64)
            self.products[key] = free
        return self.products[key]

    def total(self, args: Sequence[BitTerm], par: Sequence[int]) -> Any:
        """The exact sum of multiples in 64 bits as a free number, the same one wherever the same sum is meant."""
        key = (*(x.id for x in args), *par)
        if key not in self.totals:
            free = self.manager.mk_const(self.manager.mk_bv_sort(64), f"s{len(self.totals)}")
            corners = [sorted(k * end for end in self.span(x)) for x, k in zip(args, par, strict=True)]
            self._require(free, (sum(lo for lo, _ in corners), sum(hi for _, hi in corners)), 64)
            self.totals[key] = free
        return self.totals[key]

    def low(self, long: Any) -> Any:
        return self.apply(self.kind.BV_EXTRACT, long, indices=(31, 0))

    def truth(self, condition: Any) -> Any:
        return self.apply(self.kind.ITE, condition, self.number(1), self.number(0))


def _linear(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    if (term.args, term.par[:-1]) in v.sums:
        return v.apply(v.kind.BV_ADD, v.low(v.total(term.args, term.par[:-1])), v.number(term.par[-1]))
    total = v.number(term.par[-1])
    for x, word, k in zip(term.args, args, term.par[:-1], strict=True):
        constant = v.terms.const(k)
        if frozenset((x, constant)) in v.wide:
            part = v.low(v.product(x, constant))
        elif k in (1, -1):
            part = word if k == 1 else v.apply(v.kind.BV_NEG, word)
        elif k > 0 and k & (k - 1) == 0:
            part = v.apply(v.kind.BV_SHL, word, v.number(k.bit_length() - 1))
        else:
            part = v.apply(v.kind.BV_MUL, word, v.number(k))
        total = v.apply(v.kind.BV_ADD, total, part)
    return total


def _multiplied(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    if frozenset(term.args) in v.wide:
        return v.low(v.product(*term.args))
    return v.apply(v.kind.BV_MUL, *args)


def _shifted_product(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    total = v.apply(v.kind.BV_ADD, v.product(*term.args), v.number(term.par[0], 64))
    return v.low(v.apply(v.kind.BV_ASHR, total, v.number(term.par[1], 64)))


def _wide_sum(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    total = v.apply(v.kind.BV_ADD, v.total(term.args, term.par[:-2]), v.number(term.par[-2], 64))
    return v.low(v.apply(v.kind.BV_ASHR, total, v.number(term.par[-1], 64)))


def _by_number(kind: str) -> Callable[[BitVectors, BitTerm, Sequence[Any]], Any]:
    return lambda v, term, args: v.apply(getattr(v.kind, kind), args[0], v.number(term.par[0]))


def _plain(kind: str) -> Callable[[BitVectors, BitTerm, Sequence[Any]], Any]:
    return lambda v, term, args: v.apply(getattr(v.kind, kind), *args)


def _compared(kind: str) -> Callable[[BitVectors, BitTerm, Sequence[Any]], Any]:
    return lambda v, term, args: v.truth(v.apply(getattr(v.kind, kind), *args))


def _by_amount(kind: str) -> Callable[[BitVectors, BitTerm, Sequence[Any]], Any]:
    return lambda v, term, args: v.apply(
        getattr(v.kind, kind), args[0], v.apply(v.kind.BV_AND, args[1], v.number(31)))


def _smaller(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    return v.apply(v.kind.ITE, v.apply(v.kind.BV_SLT, *args), *args)


def _larger(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    return v.apply(v.kind.ITE, v.apply(v.kind.BV_SLT, *args), *reversed(args))


def _chosen(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    return v.apply(v.kind.ITE, v.apply(v.kind.DISTINCT, args[0], v.number(0)), args[1], args[2])


def _leading_zeros(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    zeros, one = v.number(32), v.number(1, 1)
    for i in range(32):
        bit = v.apply(v.kind.BV_EXTRACT, args[0], indices=(i, i))
        zeros = v.apply(v.kind.ITE, v.apply(v.kind.EQUAL, bit, one), v.number(31 - i), zeros)
    return zeros


def _normal(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    return v.apply(v.kind.BV_SHL, args[0], _leading_zeros(v, term, args))


def _loaded(v: BitVectors, term: BitTerm, args: Sequence[Any]) -> Any:
    """Each address of those that are possible; the alignment is known, so that few are."""
    lo, hi = v.span(term.args[0])
    word = v.any_of(term)
    if hi - lo > LONGEST_TABLE:
        return word
    addresses = np.arange(lo, hi + 1, dtype=np.int64)
    for address in addresses:
        value = v.terms.flash.read(int(address), term.par[0])
        if value is not None:
            sign = 1 << (8 * term.par[0] - 1)
            number = (value ^ sign) - sign if term.par[1] else value
            here = v.apply(v.kind.EQUAL, args[0], v.number(int(address)))
            word = v.apply(v.kind.ITE, here, v.number(number), word)
    return word


MAKERS: dict[str, Callable[[BitVectors, BitTerm, Sequence[Any]], Any]] = {
    "lin": _linear,
    "wide": _wide_sum,
    "mul": _multiplied,
    "mulshr": _shifted_product,
    "asr": _by_number("BV_ASHR"),
    "srl": _by_number("BV_SHR"),
    "and": _plain("BV_AND"),
    "all": _plain("BV_AND"),
    "or": _plain("BV_OR"),
    "xor": _plain("BV_XOR"),
    "slt": _compared("BV_SLT"),
    "sltu": _compared("BV_ULT"),
    "eq0": lambda v, term, args: v.truth(v.apply(v.kind.EQUAL, args[0], v.number(0))),
    "ite": _chosen,
    "smin": _smaller,
    "smax": _larger,
    "sllv": _by_amount("BV_SHL"),
    "srlv": _by_amount("BV_SHR"),
    "srav": _by_amount("BV_ASHR"),
    "clz": _leading_zeros,
    "norm": _normal,
    "load": _loaded,
}
"""By the kind of a term: its bit vector; what is not here may be anything in its interval."""
