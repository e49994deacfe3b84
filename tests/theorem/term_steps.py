"""Random terms, made an operation at a time: what the rules of ``ncpc.theorem.terms`` are tried on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ncpc.theorem.flash import Flash
from ncpc.theorem.term import FULL, LEAST, MOST, BitTerm
from ncpc.theorem.terms import BitTerms

SPANS = (FULL, FULL, (0, MOST), (LEAST, -1), (0, 1), (-1, 0), (0, 255), (-128, 127), (-32768, 32767), (0, 65535),
         (1, 1), (1, MOST), (4, 7), (-9, -3), (100, 120), (-70, 3), (0, 31), (16, 31), (LEAST, LEAST + 5),
         (MOST - 3, MOST))
NUMBERS = (0, 1, -1, 2, 3, 31, 32, 255, 256, 65535, -256, 0xFF00, 0x7FFF0000, LEAST, MOST, 12345, -77, 7, 24, 65536, 6)
FLASH = Flash(((0, np.random.default_rng(3).integers(0, 256, 40).astype(np.uint8)),))
"""At address 0, so that small numbers are addresses."""


APPLY: dict[str, Callable[[BitTerms, Sequence[BitTerm], Sequence[int]], BitTerm]] = {
    "lin": lambda t, a, p: t.lin(zip(a, p[:-1], strict=True), p[-1]),
    "add": lambda t, a, p: t.add(*a), "sub": lambda t, a, p: t.sub(*a), "addc": lambda t, a, p: t.addc(*a, *p),
    "mul": lambda t, a, p: t.mul(*a),
    "mulshr": lambda t, a, p: t.mulshr(*a, *p), "umulshr": lambda t, a, p: t.mulshr(*a, *p, signed=False),
    "shl": lambda t, a, p: t.shl(*a, *p), "asr": lambda t, a, p: t.asr(*a, *p), "srl": lambda t, a, p: t.srl(*a, *p),
    "sllv": lambda t, a, p: t.shift("sllv", *a), "srlv": lambda t, a, p: t.shift("srlv", *a),
    "srav": lambda t, a, p: t.shift("srav", *a),
    "and": lambda t, a, p: t.and_(*a), "or": lambda t, a, p: t.or_(*a), "xor": lambda t, a, p: t.xor(*a),
    "slt": lambda t, a, p: t.slt(*a), "sltu": lambda t, a, p: t.sltu(*a), "eq": lambda t, a, p: t.eq(*a),
    "ite": lambda t, a, p: t.ite(*a), "smin": lambda t, a, p: t.smin(*a), "smax": lambda t, a, p: t.smax(*a),
    "clz": lambda t, a, p: t.clz(*a), "norm": lambda t, a, p: t.norm(*a),
    "tab": lambda t, a, p: t.tab(*p, *a), "load": lambda t, a, p: t.load(*a, p[0], bool(p[1])),
    **{name: lambda t, a, p, name=name: t.divided(name, *a) for name in ("div", "rem", "divu", "remu")},
}
"""Every operation of ``BitTerms`` on arguments and parameters."""
PAIRS = ("add", "sub", "mul", "and", "or", "xor", "slt", "slt", "sltu", "sltu", "eq", "eq", "smin", "smax",
         "div", "rem", "divu", "remu", "sllv", "srlv", "srav")


@dataclass(frozen=True)
class Made:
    """``term`` is what ``op`` of ``args`` with ``par`` became."""

    term: BitTerm
    op: str
    par: tuple[int, ...]
    args: tuple[BitTerm, ...]


class World:
    """``pool`` are the terms to go on with, ``made`` what was done since that was last emptied."""

    def __init__(self, rng: random.Random, kind: type[BitTerms]) -> None:
        self.rng, self.terms = rng, kind(2, FLASH)
        self.pool = [self.variable() for _ in range(4)]
        self.terms.table(np.array([5, -3, 70, 900, -1, 2, 2, 6]))
        self.made: list[Made] = []

    def do(self, op: str, *args: BitTerm, par: tuple[int, ...] = ()) -> BitTerm:
        term = APPLY[op](self.terms, args, par)
        self.made.append(Made(term, op, par, args))
        if not term.fixed and term not in self.pool:
            self.pool.append(term)
        return term

    def variable(self, *spans: tuple[int, int]) -> BitTerm:
        span = self.rng.choice(spans or SPANS)
        return self.terms.var("x", *span, np.array(span))

    def word(self) -> BitTerm:
        """Mostly what was made lately, so that rules meet what rules made."""
        if self.rng.random() < 0.15:
            return self.terms.const(self.number())
        if self.rng.random() < 0.15:
            return self.variable()
        return self.rng.choice(self.pool[-4:] if self.rng.random() < 0.7 else self.pool)

    def number(self) -> int:
        if self.rng.random() < 0.4:  # a mask
            return ((1 << self.rng.randrange(33)) - 1) << self.rng.choice((0, 0, self.amount()))
        return self.rng.choice(NUMBERS)

    def amount(self) -> int:
        return self.rng.choice((0, 1, 2, 8, 16, 24, 30, 31))


def pair(world: World) -> None:
    """Two words; or a word with itself, with itself and a number, with a number, or with one that is an end of it."""
    a = world.word()
    others = (world.word, world.word, lambda: a, lambda: world.do("addc", a, par=(world.number(),)),
              lambda: world.terms.const(world.number()),
              lambda: world.terms.const(world.rng.choice((a.lo, a.hi)) + world.rng.randrange(-1, 2)),
              lambda: world.variable((a.hi, MOST), (LEAST, a.lo)))
    b = world.rng.choice(others)()
    world.do(world.rng.choice(PAIRS), *((a, b) if world.rng.random() < 0.5 else (b, a)))


def numbers(world: World) -> None:
    """Two numbers, or one shifted."""
    a, b = (world.terms.const(world.number()) for _ in "ab")
    if world.rng.random() < 0.3:
        world.do(world.rng.choice(("shl", "asr", "srl")), a, par=(world.amount(),))
    else:
        world.do(world.rng.choice(PAIRS), a, b)


def shift(world: World) -> None:
    """Once or twice by numbers, or by a word."""
    a = world.word()
    op = world.rng.choice(("shl", "asr", "srl"))
    for _ in range(world.rng.randrange(1, 3)):
        a = world.do(op, a, par=(world.amount(),))
        op = world.rng.choice((op, "shl", "asr", "srl"))


def field(world: World) -> None:
    """Some bits of a word where they stand."""
    a = world.word()
    if world.rng.random() < 0.7:
        a = world.do(world.rng.choice(("asr", "srl")), a, par=(world.amount(),))
    low = ((1 << world.rng.randrange(1, 20)) - 1) << world.rng.randrange(12)
    mask = world.terms.const(world.rng.choice((low, low, low, -1 << world.rng.randrange(1, 20))))
    world.do("and", *((a, mask) if world.rng.random() < 0.8 else (mask, a)))


def extended(world: World) -> None:
    """The low bits of a word, with their sign or without, and shifted as an index is."""
    a, k = world.word(), world.rng.choice((16, 24))
    low = world.do("asr", world.do("shl", a, par=(k,)), par=(k,))
    if world.rng.random() < 0.5:
        low = world.do("and", a, world.terms.const((1 << k) - 1))
    world.do("shl", low, par=(world.rng.choice((k, k - 1, k - 1, 31 - k, 32 - k, 30)),))


def product(world: World) -> None:
    a, b, k = world.word(), world.word(), world.rng.choice((0, 1, 8, 24, 32, 32, 32))
    c = world.rng.choice((0, 0, 1, (1 << k) >> 1, (1 << k) - 1, 1 << k))
    b = world.rng.choice((b, world.terms.const(1 << k), world.variable(FULL, (LEAST, -1), (0, MOST)), b))
    world.do(world.rng.choice(("mulshr", "umulshr")), a, b, par=(c, k))


def rounded(world: World) -> None:
    """A product with a power of two, shifted back, with as much added as is lost or more."""
    k = world.rng.choice((0, 1, 8, 24))
    factors = world.word(), world.terms.const(1 << k)
    c = world.rng.choice((0, (1 << k) >> 1, (1 << k) - 1, 1 << k))
    world.do("mulshr", *(factors if world.rng.random() < 0.5 else factors[::-1]), par=(c, k))


def sign_product(world: World) -> None:
    """By what is 0 or -1, as an all-or-nothing mask."""
    a, b = world.variable((-1, 0)), world.word()
    world.do("mul", *((a, b) if world.rng.random() < 0.5 else (b, a)))


def limited_by_sign(world: World) -> None:
    """A word, or that shifted, where it is negative or where it is not, by its sign as a mask."""
    a = world.word()
    sign = world.do("asr", a, par=(31,))
    mask = world.do("xor", sign, world.terms.const(-1)) if world.rng.random() < 0.5 else sign
    other = world.do("asr", world.rng.choice((a, world.variable())), par=(world.rng.choice((1, 2, 8, 30)),))
    x = world.rng.choice((a, other, other))
    world.do("and", *((x, mask) if world.rng.random() < 0.5 else (mask, x)))


def halves(world: World) -> None:
    """Two numbers side by side, the lower of which may borrow or carry, and what stands above."""
    k = world.rng.choice((8, 16))
    low = world.variable((0, (1 << k) - 1), (0, 1 << k), (-1, 5), (3, 90))
    both = world.do("lin", world.word(), low, par=(1 << k, 1, world.rng.choice((0, 0, 1, -1, 1 << k))))
    world.do(world.rng.choice(("asr", "srl")), both, par=(k,))
    world.do("asr", world.variable((-300, 200), (-(1 << k), (1 << k) - 1), (0, 1 << k)), par=(k,))


def linear(world: World) -> None:
    args = tuple(world.word() for _ in range(world.rng.randrange(1, 4)))
    more = (world.number(),) if len(args) == 1 else ()  # sums of many multiples are hard for the solver
    world.do("lin", *args, par=(*(world.rng.choice((1, -1, 1 << world.amount(), *more)) for _ in args), world.number()))


def choice(world: World) -> None:
    a, b = world.word(), world.word()
    by = world.rng.choice(("slt", "slt", "eq", ""))
    c = world.do(by, *((a, b) if world.rng.random() < 0.5 else (b, a))) if by else world.word()
    world.do("ite", c, a, world.rng.choice((a, b, b, b, b)))


def truth(world: World) -> None:
    """Comparisons of words with 0, 1 and words whose sign is known, and their opposites."""
    a, number = world.variable(FULL, (LEAST, 3), (LEAST, -1)), world.terms.const(world.rng.choice((0, 1)))
    b = world.rng.choice((number, world.variable((0, MOST), (LEAST, -7))))
    t = world.do(world.rng.choice(("sltu", "sltu", "slt", "eq")), *((a, b) if world.rng.random() < 0.5 else (b, a)))
    world.do("xor", t, world.terms.const(world.rng.choice((1, -1, 0))))


def small_word(world: World) -> BitTerm:
    """A variable with no more than 8 bits and a sign."""
    return world.variable((-128, 127), (0, 255), (-255, 255), (-256, 3))


def conditions(world: World) -> None:
    """Several comparisons joined and negated; words that are 0 where all their parts are; bits put side by side."""
    a, b, number = world.word(), world.word(), world.terms.const(world.rng.choice((0, 1)))
    t, u = (world.do(world.rng.choice(("slt", "eq")), a, b) for _ in "tu")
    joined = world.do(world.rng.choice(("or", "and", "xor")), t, world.rng.choice((u, number, world.variable((0, 1)))))
    world.do(world.rng.choice(("or", "and")), joined, world.rng.choice((t, u, world.variable((0, 1)))))
    every = world.do("lin", world.variable((0, 1)), par=(-1, 0))
    world.do("and", *world.rng.sample([world.word(), every], 2))
    end = world.terms.const(world.rng.choice((a.lo, a.hi)))
    world.do("slt", *((a, end) if end.lo == a.hi else (end, a)))
    few = world.do("and", small_word(world), world.terms.const(255))
    none = world.do("eq", few, world.terms.const(0))
    world.do("ite", none, few, world.terms.const(world.rng.choice((0, 1, 8))))
    world.do("eq", world.do("lin", a, par=(world.rng.choice((-1, 3, -6)), 0)), world.terms.const(0))
    c = world.rng.choice((t, world.variable((0, 1))))
    world.do("ite", c, *world.rng.sample([a, world.do("addc", a, par=(world.rng.choice((1, 4, -7)),))], 2))
    differ = world.do("or", world.do("xor", a, b), world.do("xor", world.word(), world.word()))
    world.do("eq", world.do("shl", differ, par=(world.rng.choice((0, 8, 16)),)), world.terms.const(0))
    small = world.variable((-128, 127), (0, 255))
    world.do("eq", world.do("shl", small, par=(world.rng.choice((1, 8, 24, 25)),)), world.terms.const(0))
    k = world.rng.choice((1, 8, 16))
    world.do("or", *world.rng.sample([world.do("shl", world.word(), par=(k,)), world.variable((0, (1 << k) - 1))], 2))


def junctions(world: World) -> None:
    """Of words that are 0 or 1, whether some of them are, and what that says of a word."""
    a, b = (world.do(world.rng.choice(("slt", "sltu", "eq")), world.word(), world.word()) for _ in "ab")
    for _ in range(world.rng.randrange(1, 4)):
        b = world.rng.choice((b, world.variable((0, 1)), world.do("xor", b, world.terms.const(1))))
        a = world.do(world.rng.choice(("and", "or", "xor")), *((a, b) if world.rng.random() < 0.5 else (b, a)))
    world.do("eq", a, world.terms.const(world.rng.choice((0, 0, 1))))


def nothing(world: World) -> None:
    """Whether bits are all 0, as the way it is put differs."""
    a = world.do(world.rng.choice(("or", "xor", "and", "sub")), world.word(), world.word())
    for _ in range(world.rng.randrange(2)):
        a = world.do("shl", a, par=(world.amount(),))
    world.do("eq", a, world.terms.const(0))


def packed(world: World) -> None:
    """Two words in one: bits of one shifted past those of the other."""
    k = world.rng.choice((8, 16, 24, 31))
    high = world.do("shl", world.word(), par=(k,))
    low = world.do("srl", world.word(), par=(32 - k - world.rng.randrange(2),))
    halves = (high, low) if world.rng.random() < 0.5 else (low, high)
    both = world.do(world.rng.choice(("or", "or", "and", "xor")), *halves)
    world.do(world.rng.choice(("shl", "srl", "asr")), both, par=(world.rng.choice((k, 32 - k)),))


def close(world: World) -> None:
    """A word and one a little further on, which may have wrapped."""
    a = world.rng.choice((world.word(), world.variable(FULL)))
    b = world.do("addc", a, par=(world.rng.choice((1, -1, 5, 255, LEAST)),))
    world.do(world.rng.choice(("slt", "slt", "sltu", "smin", "eq")), *((a, b) if world.rng.random() < 0.5 else (b, a)))


def normal(world: World) -> None:
    a = world.rng.choice((world.variable((1, MOST), (3, 900)), world.word()))
    world.do("sllv", a, world.do("clz", a))
    world.do("norm", a)


def memory(world: World) -> None:
    """An entry of a table, or of flash."""
    if world.rng.random() < 0.5:
        size = world.rng.choice((1, 2, 4, 4))
        entry = world.do("load", world.variable((3, 9)), par=(size, world.rng.randrange(2)))
        for k in (15, 16, 23, 24):  # parts of it count
            world.do("shl", entry, par=(k,))
    else:
        index = world.rng.choice((world.variable((2, 5)), world.terms.const(world.rng.randrange(8)), world.word()))
        world.do("tab", index, par=(0,))


def number_of_bits(world: World) -> BitTerm:
    """A variable, or a sum of some with multiples."""
    a = world.variable(FULL, FULL, (-300, 200), (0, 255), (LEAST, -1), (0, MOST))
    if world.rng.random() < 0.5:
        return a
    factors = (world.rng.choice((1, -1, 2, 1 << world.amount())), world.rng.choice((1, -2, 4)))
    return world.do("lin", a, world.variable(FULL, (-9, 7)), par=(*factors, world.rng.choice((0, 0, 1, -5, 128))))


def high(world: World, a: BitTerm) -> BitTerm:
    return world.do("asr", a, par=(31,))


def carried(world: World) -> None:
    """Sums, or a difference, in two words, the carry from what it can be told by, in some order; shifted right."""
    a, b = number_of_bits(world), world.rng.choice((number_of_bits(world), world.terms.const(world.number())))
    if world.rng.random() < 0.15:  # more than 64 bits hold
        a, b = (world.do("lin", world.variable(FULL), world.variable(FULL), par=(LEAST, 1, 0)) for _ in "ab")
    sign = world.rng.choice((1, 1, -1))
    low = world.do("lin", a, b, par=(1, sign, 0))
    carry = world.do("sltu", low, world.rng.choice((a, b))) if sign == 1 else world.do("sltu", a, b)
    words = [(high(world, a), 1), (high(world, b), sign), (carry, sign)]
    world.rng.shuffle(words)
    total, factor = words[0]
    for word, k in words[1:]:
        total, factor = world.do("lin", total, word, par=(factor, k, 0)), 1
    if a.op == b.op == "var":  # a third word on top
        third = world.variable(FULL, (-300, 200))
        more = world.do("add", low, third)
        total = world.do("lin", total, high(world, third), world.do("sltu", more, third), par=(1, 1, 1, 0))
        low = more
    joined(world, low, total)


def joined(world: World, low: BitTerm, top: BitTerm) -> None:
    """A word of two words, and the upper one shifted right."""
    k = world.rng.choice((1, 8, 14, 24, 31))
    world.do("or", world.do("srl", low, par=(k,)), world.do("shl", top, par=(32 - k,)))
    world.do("asr", top, par=(k,))


def one_more(world: World) -> None:
    """1 added to two words, where the lower becomes 0."""
    a = number_of_bits(world)
    low = world.do("addc", a, par=(1,))
    top = world.do("add", high(world, a), world.do("eq", low, world.terms.const(0)))
    joined(world, low, top)


def rounded_product(world: World) -> None:
    """A product in two words, with something added, shifted right."""
    a = number_of_bits(world)
    number = world.terms.const(world.rng.choice((2, 8, -4, 1 << 20)))
    b = world.rng.choice((world.variable(FULL, (-9, -3), (0, 255)), number))
    low, top, c = world.do("mul", a, b), world.do("mulshr", a, b, par=(0, 32)), world.rng.choice((1, 8, 1 << 30, LEAST))
    total = world.do("addc", low, par=(c,))
    carry = world.do("sltu", total, world.terms.const(c))
    joined(world, total, world.do("add", top, carry))
    world.do("mulshr", a, b, par=(world.rng.choice((0, 1 << 30, 1 << 31, 1 << 33)), world.rng.choice((1, 20, 32, 40))))


def scaled_sum(world: World) -> None:
    """A sum times a number, whose multiples of one of its terms lie above the lower word."""
    a = world.do("lin", world.variable((-3, 2)), world.variable((-9, 7)), par=(1 << 16, 3, 5))
    number = world.terms.const(world.rng.choice(((1 << 16) + 1, (1 << 20) + 3, -(1 << 18) - 1)))
    world.do("mulshr", a, number, par=(world.rng.choice((0, 1 << 12, 1 << 31)), world.rng.choice((8, 20, 32))))


def product_and_more(world: World) -> None:
    """A product in two words and a number of one, added up in two."""
    a, b, more = world.variable(FULL, (-9, -3)), world.variable(FULL, (0, 255)), world.variable((-300, 200), FULL)
    low = world.do("mul", a, b)
    total = world.do("add", low, more)
    carry = world.do("sltu", total, world.rng.choice((low, more)))
    world.do("lin", world.do("mulshr", a, b, par=(0, 32)), high(world, more), carry, par=(1, 1, 1, 0))


def masked_sum(world: World) -> None:
    """The low bits of a word, and the word's upper ones above them."""
    k = world.rng.choice((1, 8, 24, 31))
    a = number_of_bits(world) if k < 31 else world.variable(FULL)
    low = world.do("and", a, world.terms.const((1 << k) - 1))
    world.do("lin", low, world.do("asr", a, par=(k,)), par=(1, 1 << k, 0))


def shifted_sum(world: World) -> None:
    """The sign of a sum with something shifted in it; odd numbers added to even ones, shifted right."""
    a, b = world.variable((-300, 200), (-99999, 77777), FULL), world.variable((-300, 200), (-128, 127), FULL)
    part = world.do("asr", a, par=(world.rng.choice((1, 8)),))
    high(world, world.do("lin", b, part, par=(world.rng.choice((1, 2)), 1, world.rng.choice((0, 5)))))
    factor, odd = world.rng.choice((4, 8, 6)), world.rng.choice((1, 3, 4))
    even = world.do("lin", b, world.variable((-300, 200)), par=(4, factor, odd))
    world.do("asr", even, par=(world.rng.choice((1, 2, 3, 9)),))


def limited_twice(world: World) -> None:
    """A word within limits once more, and whether it is what it was."""
    a = b = world.variable(FULL, (-300, 200))
    for _ in range(world.rng.randrange(1, 4)):
        end = world.terms.const(world.rng.choice((-200, -128, 0, 100, 127)))
        b = world.do(world.rng.choice(("smin", "smax")), b, end)
    world.do("eq", *((a, b) if world.rng.random() < 0.5 else (b, a)))


def chosen_by_sign(world: World) -> None:
    """One of two words, by the sign of their difference or of one next to it."""
    a = world.variable((-300, 200), (-128, 127), (0, MOST), FULL)
    b = world.rng.choice((world.variable((-300, 200)), world.terms.const(world.rng.choice((-300, 0, 77, 200)))))
    d = world.do("sub", *world.rng.sample([a, b], 2))
    sign = high(world, world.do("addc", d, par=(world.rng.choice((0, 0, -1, 1)),)))
    by = world.do("lin", sign, par=world.rng.choice(((-1, 0), (-1, 0), (1, 1), (1, 1), (-2, 0), (1, 0))))
    world.do("ite", by, *world.rng.sample([a, b], 2))
    world.do("and", world.variable((-1, 0)), world.terms.const(world.number()))


def status(world: World) -> None:
    """Words whose bits are conditions, joined and chosen from."""
    a, b, c = (world.variable((0, 1)) for _ in "abc")
    first = world.do("lin", a, b, par=world.rng.choice(((16, 1, 0), (16, -2, 2), (16, 16, 0), (-1, 4, 0), (3, 4, 0))))
    second = world.rng.choice((world.do("or", first, world.terms.const(world.rng.choice((16, 1, 4)))), world.word(),
                               world.do("lin", b, c, par=(16, world.rng.choice((1, 4)), 0)), world.terms.const(16)))
    world.do("or", *world.rng.sample([first, second], 2))
    world.do("ite", world.rng.choice((a, c, c)), *world.rng.sample([first, second], 2))


KINDS: tuple[tuple[Callable[[World], None], int], ...] = (
    (pair, 12), (numbers, 4), (shift, 7), (field, 3), (extended, 5), (product, 4), (sign_product, 1), (rounded, 1),
    (linear, 2), (choice, 2), (limited_by_sign, 2), (halves, 3), (truth, 5), (conditions, 2), (junctions, 1),
    (nothing, 1), (packed, 1), (close, 2), (normal, 1), (memory, 2),
    (carried, 4), (one_more, 1), (rounded_product, 2), (masked_sum, 1), (shifted_sum, 1), (limited_twice, 3),
    (chosen_by_sign, 4), (status, 4))
"""And how often each is drawn."""
ALONE = (scaled_sum, product_and_more)
"""Drawn in worlds of their own."""
