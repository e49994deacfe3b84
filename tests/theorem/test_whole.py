"""Whole products from 16-bit parts: what is found is what was meant, for all words; wrong rules are seen."""

from __future__ import annotations

import inspect
import random
import sys
from collections.abc import Callable, Iterable
from types import ModuleType

import numpy as np
import pytest

from ncpc.theorem import polynomial, whole
from ncpc.theorem.flash import Flash
from ncpc.theorem.polynomial import Polynomial
from ncpc.theorem.term import BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.values import MASK, signed

SAMPLES = 256
CORNERS = (0, 1, -1, 0x7FFF, 0x8000, 0xFFFF, 0x10000, -0x8000, -0x8001, -0x10000, -0x7FFF0001, -(1 << 31),
           (1 << 31) - 1)
Parts = Callable[[BitTerms, BitTerm, BitTerm, int], BitTerm]


class Checked(BitTerms):
    """Every sum and shift has the words of the operation, whatever was put in its place."""

    def lin(self, terms: Iterable[tuple[BitTerm, int]], c: int = 0) -> BitTerm:
        given = list(terms)
        found = super().lin(given, c)
        total = np.full(SAMPLES, c & MASK, np.uint32)
        for n, q in given:
            total = total + n.sample * np.uint32(q & MASK)
        assert (found.sample == total).all()
        return found

    def asr(self, a: BitTerm, k: int) -> BitTerm:
        found = super().asr(a, k)
        assert (signed(found.sample) == signed(a.sample) >> k).all()
        return found


def world(seed: int, spans: tuple[tuple[int, int], ...]) -> tuple[BitTerms, list[BitTerm]]:
    """Free numbers in their intervals, corners among the samples."""
    rng, terms = np.random.default_rng(seed), Checked(SAMPLES, Flash(()))
    found = []
    for n, (lo, hi) in enumerate(spans):
        drawn = np.where(rng.random(SAMPLES) < 0.5, rng.choice(np.clip(CORNERS, lo, hi), SAMPLES),
                         rng.integers(lo, hi + 1, SAMPLES))
        found.append(terms.var(f"n{n}", lo, hi, drawn))
    return terms, found


def low(terms: BitTerms, a: BitTerm) -> BitTerm:
    return terms.and_(a, terms.const(0xFFFF))


def by_four(terms: BitTerms, a: BitTerm, b: BitTerm, k: int) -> BitTerm:
    """floor(a*b / 2**k + 1/2) as ``mulshr`` of 16-bit parts forms it."""
    ah, bh, al, bl = terms.asr(a, 16), terms.asr(b, 16), low(terms, a), low(terms, b)
    lowest = terms.addc(terms.mul(al, bl), 1 << (k - 1) if k <= 16 else 0)
    middle = terms.lin([(terms.mul(al, bh), 1), (terms.srl(lowest, 16), 1)], 1 << (k - 17) if 16 < k <= 32 else 0)
    upper = terms.add(terms.mul(ah, bl), low(terms, middle))
    high = terms.lin([(terms.mul(ah, bh), 1), (terms.asr(middle, 16), 1), (terms.asr(upper, 16), 1)])
    if k > 32:
        return terms.asr(terms.addc(terms.asr(high, k - 33), 1), 1)
    if k == 32:
        return high
    if k > 16:
        return terms.add(terms.shl(high, 32 - k), terms.srl(low(terms, upper), k - 16))
    word = terms.or_(terms.shl(upper, 16), low(terms, lowest))
    return terms.add(terms.shl(high, 32 - k), terms.srl(word, k))


def by_two(terms: BitTerms, a: BitTerm, b: BitTerm, k: int) -> BitTerm:
    """The same for a b of 16 bits."""
    lowest, high = terms.mul(low(terms, a), b), terms.mul(terms.asr(a, 16), b)
    if k > 16:
        return terms.asr(terms.lin([(high, 1), (terms.asr(lowest, 16), 1)], 1 << (k - 17)), k - 16)
    return terms.add(terms.shl(high, 16 - k), terms.asr(terms.addc(lowest, 1 << (k - 1)), k))


def mixed(terms: BitTerms, a: BitTerm, b: BitTerm, k: int) -> BitTerm:
    """floor((b - a)*t / 2**k + 1/2) for another number t of 16 bits, drawn here."""
    t = next(n for n in terms.nodes if n.name == "n2")
    lowest = terms.mul(terms.sub(low(terms, b), low(terms, a)), t)
    high = terms.mul(terms.sub(terms.asr(b, 16), terms.asr(a, 16)), t)
    return terms.add(terms.shl(high, 16 - k), terms.asr(terms.addc(lowest, 1 << (k - 1)), k))


WORD, SHORT, WEIGHT = (-(1 << 31), (1 << 31) - 1), (-(1 << 15), (1 << 15) - 1), (0, 1 << 15)
HALF_WORD = (-(1 << 30), (1 << 30) - 1)


@pytest.mark.parametrize(("parts", "spans", "shifts"), [
    (by_four, (WORD, WORD), (17, 29, 31, 32, 33, 40)), (by_two, (WORD, SHORT), (1, 14, 16, 17, 30)),
    (by_four, ((1000, 1 << 28), (-(1 << 30), 1 << 30)), (17, 29, 32)),
], ids=["four", "two", "narrow"])
def test_a_product_of_parts_is_one(parts: Parts, spans: tuple[tuple[int, int], ...], shifts: tuple[int, ...]) -> None:
    for k in shifts:
        terms, (a, b) = world(k, spans)
        found = parts(terms, a, b, k)
        assert found is terms.mulshr(a, b, 1 << (k - 1), k), k
        pairs = zip(signed(a.sample).tolist(), signed(b.sample).tolist(), strict=True)
        exact = [(x * y + (1 << (k - 1))) >> k for x, y in pairs]
        assert [int(n) for n in found.sample] == [n & MASK for n in exact], k


@pytest.mark.parametrize("k", [1, 14, 15])
def test_a_mix_of_parts_is_one(k: int) -> None:
    terms, (a, b, t) = world(k, (HALF_WORD, HALF_WORD, WEIGHT))
    assert mixed(terms, a, b, k) is terms.mulshr(terms.sub(b, a), t, 1 << (k - 1), k)


def slips(terms: BitTerms, a: BitTerm, b: BitTerm) -> list[BitTerm]:
    """High words of products with something wrong in each."""
    ah, bh, al, bl = terms.asr(a, 16), terms.asr(b, 16), low(terms, a), low(terms, b)
    carry = terms.srl(terms.mul(al, bl), 16)
    right = [(terms.mul(ah, bh), 1)]
    middle, twice = terms.lin([(terms.mul(al, bh), 1), (carry, 1)]), terms.lin([(terms.mul(al, bh), 1), (carry, 2)])
    upper, other = (terms.add(terms.mul(ah, x), low(terms, middle)) for x in (bl, al))
    more = terms.add(terms.mul(ah, bl), low(terms, twice))
    return [
        terms.lin([*right, (terms.asr(middle, 16), 1), (terms.asr(other, 16), 1)]),
        terms.lin([*right, (terms.asr(twice, 16), 1), (terms.asr(more, 16), 1)]),
        terms.lin([*right, (terms.asr(middle, 15), 1), (terms.asr(upper, 16), 1)]),
        terms.lin([*right, (terms.srl(middle, 16), 1), (terms.asr(upper, 16), 1)]),
        terms.lin([*right, (terms.asr(middle, 16), 1), (terms.asr(terms.addc(upper, 1), 16), 1)]),
        terms.lin([(terms.mul(ah, bl), 1), (terms.asr(middle, 16), 1), (terms.asr(upper, 16), 1)]),
    ]


def test_what_is_no_product_is_not_taken_for_one() -> None:
    terms, (a, b) = world(0, (WORD, WORD))
    exact = terms.mulshr(a, b, 0, 32)
    for n, wrong in enumerate(slips(terms, a, b)):
        assert wrong is not exact, n
        assert (wrong.sample != exact.sample).any(), n


# ---------------------------------------------------------------------- rules
def number(of: Polynomial, at: int) -> int:
    """A polynomial's value on a sample, in Python's integers."""
    total = 0
    for atoms, q in of.items():
        for atom in atoms:
            q *= int(signed(atom.sample)[at]) if isinstance(atom, BitTerm) else number(dict(atom.of), at) >> atom.k
        total += q
    return total


def drawn(terms: BitTerms, rng: random.Random, free: list[BitTerm]) -> list[BitTerm]:
    """Terms of halves, products, sums, masks and shifts, some of which wrap."""
    found = list(free)
    for _ in range(40):
        a, b = rng.choice(found), rng.choice(found)
        k = rng.choice([1, 3, 14, 15, 16, 17, 31])
        found.append(rng.choice([
            lambda a=a: low(terms, a), lambda a=a: terms.asr(a, 16), lambda a=a: terms.srl(a, 16),
            lambda a=a, b=b: terms.mul(a, b), lambda a=a, b=b: terms.mul(low(terms, a), b),
            lambda a=a, b=b: terms.mul(low(terms, a), low(terms, b)),
            lambda a=a, b=b: terms.lin([(a, rng.choice([1, -1, 4, 1 << 16])), (b, rng.choice([1, -1, 2]))],
                                       rng.choice(CORNERS)),
            lambda a=a, k=k: terms.asr(a, k), lambda a=a, k=k: terms.srl(a, k),
            lambda a=a, k=k: terms.and_(a, terms.const((1 << k) - 1)),
            lambda a=a, b=b: terms.mul(terms.asr(a, 16), b),
            lambda a=a, b=b: terms.sub(low(terms, a), low(terms, b)),
        ])())
    return found


def reduced(terms: BitTerms, rng: random.Random, a: BitTerm, b: BitTerm) -> list[BitTerm]:
    """A sum's high half, or that of a part of it, and low halves of what is a multiple of it or nearly so."""
    p, q, c, m = rng.choice([1, 3, 5169]), rng.choice([2, -7, 40000]), rng.choice(CORNERS), rng.choice([1, 2, 5])
    near, more = rng.choice([0, 0, 256, 1 << 16]), rng.choice([0, 1, 2, 3, 1 << 16])
    part = terms.lin([(a, p), (b, q)], c)
    zeros = rng.choice([0, 0, 1, 2])
    other = terms.lin([(a, (m * p << zeros) + near), (b, m * q << zeros)], (m * c << zeros) + more)
    return [terms.asr(part, 16 - zeros), terms.mul(low(terms, other), a), low(terms, terms.add(other, low(terms, a)))]


def holds(module: ModuleType = whole, seeds: int = 25) -> None:
    """Every term that is read as an integer is it, with its interval; every term has the words of the operation."""
    for seed in range(seeds):
        rng = random.Random(seed)
        spans = tuple(rng.choice([WORD, SHORT, (0, 0xFFFF), (5, 90000), HALF_WORD]) for _ in range(3))
        terms, free = world(seed, spans)
        terms.whole = module.WholeProducts()
        for term in drawn(terms, rng, free) + reduced(terms, rng, *free[:2]) + reduced(terms, rng, *free[1:]):
            check(terms, term)
        for k in (14, 16, 30):
            parts = terms.lin([(free[0], 4)], 8), free[1]
            by_two(terms, *parts, k)


def check(terms: BitTerms, term: BitTerm) -> None:
    products = terms.whole
    products._read(terms)
    readings = [(products.integer, 1 << 32), (products.signed, 0), (products.unsigned, 0), (products.factor, 0)]
    for read, modulus in readings:
        try:
            made = read(term)
        except polynomial.TooLarge:
            continue
        for at in range(0, SAMPLES, 5):
            exact, got = int(signed(term.sample)[at]), number(made.of, at)
            exact = exact & MASK if read == products.unsigned else exact
            assert (got - exact) % modulus == 0 if modulus else got == exact, (term, read)
            assert made.lo <= got <= made.hi, (term, read)


def test_what_is_read_as_an_integer_is_one() -> None:
    holds()


PLANTED = {
    "what is left is rounded up": (polynomial, "number % (1 << k) >> zeros", "-(-number % (1 << k) >> zeros)"),
    "a floor in a floor is shifted by its own power alone": (polynomial, "floored(whole, k + inner[0].k)",
                                                             "floored(whole, inner[0].k)"),
    "a floor in a floor counts whatever stands before it": (polynomial, "isinstance(atoms[0], Floor) and q == 1",
                                                            "isinstance(atoms[0], Floor)"),
    "what is divided out is lost": (polynomial, "atoms and q % (1 << k) == 0", "atoms and q % 2 == 0"),
    "a whole number is as far from 0 as its part": (whole, "c << zeros, k + zeros", "c, k + zeros"),
    "a shift makes a number where it does not": (polynomial, "if lo and lo == hi else", "if lo == 0 else"),
    "a sum that wraps is exact": (whole, "a = self.integer(term)\n        if fits(a.lo, a.hi):",
                                  "a = self.integer(term)\n        if a:"),
    "a word has no sign": (whole, "if a.lo >= 0 and a.hi < 1 << 32:", "if a.lo >= 0:"),
    "a part is a multiple of what it is no part of": (whole, "shifted[-1] == low.par[-1]", "True or low.par[-1]"),
    "half of a word is negative": (whole, "a.hi - LEAST), 32)", "a.hi - LEAST), 31)"),
    "the low half is one of another number": (whole, "(m * q - p) & LOW == 0", "(m * q - p) & 255 == 0"),
}


@pytest.mark.parametrize(("module", "right", "wrong"), PLANTED.values(), ids=PLANTED)
def test_a_rule_that_is_wrong_is_found(
    module: ModuleType, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``whole`` is read again, on top of the polynomials that have the fault or with the fault itself."""
    for part in dict.fromkeys((module, whole)):
        source = inspect.getsource(part)
        assert part is not module or right in source
        made = ModuleType(part.__name__)
        made.__file__ = part.__file__
        monkeypatch.setitem(sys.modules, part.__name__, made)
        exec(compile(source.replace(right, wrong, 1), str(part.__file__), "exec"), vars(made))
    with pytest.raises((AssertionError, RecursionError)):
        holds(sys.modules[whole.__name__])
