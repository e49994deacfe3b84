"""32-bit words as terms: an expression of the same arguments is made once, with a signed interval and its values on
sample vectors. Making one applies rules that keep its meaning (``values``); each rule is proved by a solver in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ncpc.theorem.bits import bitwise, is_within, is_zero, limited, limited_again, masked
from ncpc.theorem.conditions import chosen, either
from ncpc.theorem.flash import Flash
from ncpc.theorem.parts import above, bytes_below, shl_keeps, unshifted, zeros_of, zeros_of_terms
from ncpc.theorem.spans import (
    ends,
    fitting,
    is_condition,
    less_as_words,
    low_bits_of,
    low_number,
    only_difference,
    ordered,
    zeros_below,
)
from ncpc.theorem.term import FULL, LEAST, BitTerm, signed_word, trailing_zeros
from ncpc.theorem.undecided import Undecided
from ncpc.theorem.values import MASK, VALUES, Words, signed, words
from ncpc.theorem.whole import WholeProducts
from ncpc.theorem.wide import WideSum, gathered, product_word, remember

Table = NDArray[np.int64]
Span = tuple[int, int]


@dataclass
class BitTerms:
    """All terms there are. ``on_new`` may give another that equals the one just made; ``lifts`` are the exact sums of
    which low words were made.
    """

    samples: int
    flash: Flash
    tables: list[Table] = field(default_factory=list)
    nodes: list[BitTerm] = field(default_factory=list)
    on_new: Callable[[BitTerm], BitTerm] | None = None
    lifts: dict[BitTerm, WideSum] = field(default_factory=dict)
    known: dict[tuple[str, tuple[int, ...], tuple[int, ...]], BitTerm] = field(default_factory=dict)
    whole: WholeProducts = field(default_factory=WholeProducts)

    def make(self, op: str, args: tuple[BitTerm, ...], par: tuple[int, ...] = (), span: Span = FULL) -> BitTerm:
        """The term, made once; of numbers alone it is a number. No other rule is applied."""
        if all(a.fixed for a in args):
            return self.const(int(self.evaluate(op, par, [a.sample[:1] for a in args])[0]))
        key = (op, tuple(a.id for a in args), par)
        term = self.known.get(key)
        if term is None:
            term = self._new(op, args, par, span, self.evaluate(op, par, [a.sample for a in args]))
            self.known[key] = term
            if self.on_new is not None:
                term = self.known[key] = self.on_new(term)
        return term

    def _new(self, op: str, args: tuple[BitTerm, ...], par: tuple[int, ...], span: Span, at: Words) -> BitTerm:
        term = BitTerm(op, args, par, *span, at, len(self.nodes))
        self.nodes.append(term)
        return term

    def const(self, c: int) -> BitTerm:
        """A number, modulo 2**32."""
        c = signed_word(c)
        key = ("const", (), (c,))
        if key not in self.known:
            self.known[key] = self._new("const", (), (c,), (c, c), np.full(self.samples, c & MASK, np.uint32))
        return self.known[key]

    def var(self, name: str, lo: int, hi: int, sample: NDArray[np.int64]) -> BitTerm:
        """Any number from lo to hi; ``sample`` (samples,) are some."""
        term = self._new("var", (), (len(self.nodes),), (lo, hi), words(sample))
        term.name = name
        return term

    def table(self, numbers: Table) -> int:
        """The number by which ``tab`` knows a table."""
        self.tables.append(numbers)
        return len(self.tables) - 1

    def lin(self, terms: Iterable[tuple[BitTerm, int]], c: int = 0) -> BitTerm:
        """sum coefficient*term + c modulo 2**32; sums in it are flattened but for those that are cut."""
        given, number = list(terms), c
        found, c = gathered(self, *self.flattened(given, c))
        items = sorted(((n, signed_word(k)) for n, k in found.items() if k), key=lambda item: item[0].id)
        if not items:
            return self.const(c)
        c = signed_word(c)
        if len(items) == 1 and items[0][1] == 1 and c == 0:
            return items[0][0]
        lo = c + sum(min(k * n.lo, k * n.hi) for n, k in items)
        hi = c + sum(max(k * n.lo, k * n.hi) for n, k in items)
        term = self.make("lin", tuple(n for n, _ in items), (*(k for _, k in items), c), fitting(lo, hi))
        if (term.lo, term.hi) == FULL:
            remember(self, term, given, number)
        return term

    def flattened(self, terms: Iterable[tuple[BitTerm, int]], c: int) -> tuple[dict[BitTerm, int], int]:
        """Coefficients by term; where a term counts with its low bits only, that from which they are taken."""
        found: dict[BitTerm, int] = {}
        todo = list(terms)
        while todo:
            term, k = todo.pop()
            k &= MASK
            if term.op == "const":
                c += k * term.par[0]
            elif term.op == "lin" and not term.cut:
                c += k * term.par[-1]
                todo += [(a, k * q) for a, q in zip(term.args, term.par[:-1], strict=True)]
            elif (whole := low_bits_of(term, trailing_zeros(k))) is not None:
                todo.append((whole, k))
            elif term.op in ("srl", "asr") and (less := self._demanded(term, trailing_zeros(k))) is not term:
                todo.append((less, k))
            elif term.op == "load" and (size := bytes_below(trailing_zeros(k))) < term.par[0]:
                todo.append((self.load(term.args[0], size, True), k))
            elif k:
                found[term] = (found.get(term, 0) + k) & MASK
        return found, c

    def _demanded(self, term: BitTerm, zeros: int) -> BitTerm:
        """Another shift with the same low 32 - zeros bits: compilers add powers of two to constants that are lost."""
        a, k = term.args[0], term.par[0]
        if zeros < k:
            return term
        if zeros > k and a.op == "lin" and not a.cut:
            par = tuple(low_number(q, 32 - zeros + k) for q in a.par)
            a = self.lin(zip(a.args, par[:-1], strict=True), par[-1])
        return self.asr(a, k)

    def add(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """a + b."""
        return self.lin([(a, 1), (b, 1)])

    def sub(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """a - b."""
        return self.lin([(a, 1), (b, -1)])

    def addc(self, a: BitTerm, c: int) -> BitTerm:
        """a + c."""
        return self.lin([(a, 1)], c)

    def mul(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """The low word of a*b."""
        for x, y in ((a, b), (b, a)):
            if y.fixed:
                return self.lin([(x, y.par[0])])
        for x, y in ((a, b), (b, a)):
            if (x.lo, x.hi) == (-1, 0):
                return self.lin([(self.and_(x, y), -1)])
        a, b = ordered(a, b)
        return self.make("mul", (a, b), (), fitting(*ends(a, b)))

    def mulshr(self, a: BitTerm, b: BitTerm, c: int, k: int, signed: bool = True) -> BitTerm:
        """The low word of (a*b + c) >> k in 64 bits; ``signed``: both arguments are."""
        if a.fixed and b.fixed:
            p, q = (n.par[0] if signed else n.par[0] & MASK for n in (a, b))
            return self.const((p * q + c) >> k)
        if not signed and a.lo >= 0 and b.lo >= 0:
            signed = True
        if signed and (found := product_word(self, a, b, c, k)) is not None:
            return found
        if not signed and (c, k) == (0, 32):
            high = self.mulshr(a, b, 0, 32)
            return self.lin([(high, 1), (self.and_(self.asr(a, 31), b), 1), (self.and_(self.asr(b, 31), a), 1)])
        a, b = ordered(a, b)
        low, high_end = ends(a, b)
        span = fitting((low + c) >> k, (high_end + c) >> k) if signed else FULL
        return self.make("mulshr" if signed else "umulshr", (a, b), (c, k), span)

    def divided(self, op: str, a: BitTerm, b: BitTerm) -> BitTerm:
        """``div``, ``rem`` (towards 0), ``divu`` or ``remu``. Raises Undecided where b may be 0, or a / b be 2**31."""
        if b.lo <= 0 <= b.hi or (op in ("div", "rem") and a.lo == LEAST and b.lo <= -1 <= b.hi):
            raise Undecided(f"{op} of {a} by {b}, which may be no number of 32 bits")
        if a.fixed and b.fixed:
            at = [np.array([n.par[0] & MASK], np.uint32) for n in (a, b)]
            return self.const(int(self.evaluate(op, (), at)[0]))
        return self.make(op, (a, b))

    def shl(self, a: BitTerm, k: int) -> BitTerm:
        """a << k, 0 <= k < 32."""
        return self.lin([(a, 1 << k)])

    def asr(self, a: BitTerm, k: int) -> BitTerm:
        """a >> k of the signed number, 0 <= k < 32."""
        if k == 0:
            return a
        if a.fixed:
            return self.const(a.par[0] >> k)
        if a.op == "asr" and not a.cut:
            return self.asr(a.args[0], min(31, a.par[0] + k))
        if (upper := above(a, k)) is not None:
            return self.asr(self.lin(*upper), k)
        k = 31 if shl_keeps(a, 31 - k) else k  # the sign alone
        if k == 31 and (whole := unshifted(a)) is not None:
            return self.asr(self.lin(*whole), 31)
        t = min(k, zeros_of_terms(a))
        if t and shl_keeps(part := self._floored(a, t), t):
            return self.asr(part, k - t)
        if a.op == "lin" and (zeros := min(31, zeros_below(a))) > k:
            return self.shl(self.asr(a, zeros), zeros - k)
        lo, hi = a.lo >> k, a.hi >> k
        return self.const(lo) if lo == hi else self.whole.shift(self, a, k) or self.make("asr", (a,), (k,), (lo, hi))

    def _floored(self, a: BitTerm, k: int) -> BitTerm:
        """floor(a / 2**k) of a sum of terms times multiples of 2**k and a number, where that sum is exact."""
        return self.lin([(n, q >> k) for n, q in zip(a.args, a.par[:-1], strict=True)], a.par[-1] >> k)

    def divided_by(self, a: BitTerm, k: int) -> BitTerm | None:
        """b with a = b << k, when a is a sum of multiples of 2**k."""
        return self._floored(a, k) if a.op == "lin" and not a.cut and zeros_of(a) >= k else None

    def srl(self, a: BitTerm, k: int) -> BitTerm:
        """a >> k of the word, 0 <= k < 32."""
        if k == 0:
            return a
        if a.op == "srl" and not a.cut:
            return self.srl(a.args[0], a.par[0] + k) if a.par[0] + k < 32 else self.const(0)
        if a.lo >= 0:
            return self.asr(a, k)
        if a.fixed:
            return self.const((a.par[0] & MASK) >> k)
        if (upper := above(a, k)) is not None:
            return self.srl(self.lin(*upper), k)
        part = self.divided_by(a, k)
        if part is not None:
            return self.and_(part, self.const((1 << (32 - k)) - 1))
        span = ((a.lo & MASK) >> k, (a.hi & MASK) >> k) if a.hi < 0 else (0, MASK >> k)
        return self.make("srl", (a,), (k,), span)

    def shift(self, op: str, a: BitTerm, b: BitTerm) -> BitTerm:
        """``sllv``, ``srlv`` or ``srav``: a shifted by b modulo 32."""
        if b.fixed:
            return {"sllv": self.shl, "srlv": self.srl, "srav": self.asr}[op](a, b.par[0] & 31)
        if op == "sllv" and b.op == "clz" and b.args[0] is a and a.lo >= 1:
            return self.norm(a)
        return self.make(op, (a, b))

    def clz(self, a: BitTerm) -> BitTerm:
        """Leading zeros of the word, 32 for 0; a term even where one number alone is possible: it tells ``norm``."""
        span = (32 - a.hi.bit_length(), 32 - a.lo.bit_length()) if a.lo >= 0 else (0, 32)
        return self.make("clz", (a,), (), span)

    def norm(self, a: BitTerm) -> BitTerm:
        """a << clz(a) for a >= 1: the highest bit is set. Raises Undecided where a may be less."""
        if a.lo < 1:
            raise Undecided(f"the divisor {a.name or a} may be {a.lo}")
        return self.make("norm", (a,), (), (LEAST, -1))

    def and_(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """a & b."""
        if a.fixed:
            a, b = b, a
        if is_condition(a) and is_condition(b):
            return self.both(a, b)
        return masked(self, a, b) if b.fixed else bitwise(self, "and", a, b)

    def or_(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """a | b: of conditions by De Morgan, of words without a common bit their sum."""
        if is_condition(a) and is_condition(b):
            return self.negated(self.both(self.negated(a), self.negated(b)))
        for x, y in ((a, b), (b, a)):
            if y.lo >= 0 and zeros_below(x) >= y.hi.bit_length():
                return self.add(x, y)
        found = either(self, a, b)
        return bitwise(self, "or", a, b) if found is None else found

    def xor(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """a ^ b."""
        if a is b:
            return self.const(0)
        for x, y in ((a, b), (b, a)):
            if y.fixed and y.par[0] == -1:
                return self.lin([(x, -1)], -1)
            if y.fixed and y.par[0] == 1 and x.lo >= 0 and x.hi <= 1:
                return self.lin([(x, -1)], 1)
        return bitwise(self, "xor", a, b)

    def slt(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """1 where a < b as signed numbers, else 0."""
        if a.hi < b.lo or a.lo >= b.hi:
            return self.const(int(a.hi < b.lo))
        if a.hi == b.lo and (a.fixed or b.fixed):
            return self.negated(self.eq(a, b))
        apart = only_difference(self.sub(a, b), a, b)
        return self.make("slt", (a, b), (), (0, 1)) if apart is None else self.const(int(apart < 0))

    def sltu(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """1 where a < b as words, else 0."""
        if a.lo >= 0 and b.lo >= 0:
            return self.slt(a, b)
        if (less := less_as_words(a, b)) is not None:
            return self.const(int(less))
        if a.fixed and a.par[0] == 0:
            return self.xor(self.eq(b, a), self.const(1))
        if b.fixed and b.par[0] == 1:
            return self.eq(a, self.const(0))
        return self.make("sltu", (a, b), (), (0, 1))

    def eq(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """1 where a is b, else 0."""
        d = self.sub(a, b)
        if d.fixed:
            return self.const(int(d.par[0] == 0))
        if (found := is_within(self, a, b)) is not None:
            return found
        return self.const(0) if a.hi < b.lo or b.hi < a.lo else is_zero(self, d)

    def both(self, *conditions: BitTerm) -> BitTerm:
        """1 where all of the conditions (0 or 1) are 1."""
        found: set[BitTerm] = set()
        for one in conditions:
            found.update(one.args if one.op == "all" else (one,))
        if self.const(0) in found:
            return self.const(0)
        left = tuple(sorted(found - {self.const(1)}, key=lambda n: n.id))
        return self.make("all", left, (), (0, 1)) if len(left) > 1 else left[0] if left else self.const(1)

    def negated(self, condition: BitTerm) -> BitTerm:
        """1 where a condition (0 or 1) is 0."""
        return self.lin([(condition, -1)], 1)

    def ite(self, c: BitTerm, a: BitTerm, b: BitTerm) -> BitTerm:
        """a where c is not 0, else b."""
        if a is b:
            return a
        if c.fixed:
            return a if c.par[0] else b
        if a.op in ("and", "or") and b.fixed and is_zero(self, a) is c:
            a = self.const(0)
        d = self.sub(b, a)
        if d.fixed and is_condition(c):
            return self.lin([(a, 1), (self.negated(c), d.par[0])])
        if c.op == "slt" and {a, b} == set(c.args):
            return self.smin(a, b) if a is c.args[0] else self.smax(a, b)
        found = limited(self, c, a, b) or (chosen(self, c, a, b) if is_condition(c) else None)
        if found is not None:
            return found
        return self.make("ite", (c, a, b), (), (min(a.lo, b.lo), max(a.hi, b.hi)))

    def smin(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """The smaller as signed numbers."""
        if a.hi <= b.lo or b.hi <= a.lo:
            return a if a.hi <= b.lo else b
        if (found := limited_again(self, "smin", a, b)) is not None:
            return found
        return self.make("smin", ordered(a, b), (), (min(a.lo, b.lo), min(a.hi, b.hi)))

    def smax(self, a: BitTerm, b: BitTerm) -> BitTerm:
        """The larger as signed numbers."""
        if a.lo >= b.hi or b.lo >= a.hi:
            return a if a.lo >= b.hi else b
        if (found := limited_again(self, "smax", a, b)) is not None:
            return found
        return self.make("smax", ordered(a, b), (), (max(a.lo, b.lo), max(a.hi, b.hi)))

    def tab(self, number: int, index: BitTerm) -> BitTerm:
        """A table's entry. Raises Undecided for an index that may lie outside."""
        table = self.tables[number]
        if index.lo < 0 or index.hi >= len(table):
            raise Undecided(f"index {index.name or index} may leave its table of {len(table)} entries")
        part = table[index.lo : index.hi + 1]
        if index.fixed:
            return self.const(int(part[0]))
        return self.make("tab", (index,), (number,), (int(part.min()), int(part.max())))

    def load(self, address: BitTerm, size: int, signed: bool) -> BitTerm:
        """1, 2 or 4 bytes of flash. Raises Undecided for an address that may lie outside it."""
        self.flash.require(address.lo, address.hi + size)
        half = 1 << (8 * size - 1)
        span = (-half, half - 1) if signed or size == 4 else (0, 2 * half - 1)
        return self.make("load", (address,), (size, int(signed)), span)

    def evaluate(self, op: str, par: tuple[int, ...], a: Sequence[Words]) -> Words:
        """The words of a term from those of its arguments."""
        if op == "tab":
            table = self.tables[par[0]]
            return words(table[np.clip(signed(a[0]), 0, len(table) - 1)])
        if op == "load":
            return self.flash.gather(a[0], par[0], bool(par[1]))
        return VALUES[op](a, par)
