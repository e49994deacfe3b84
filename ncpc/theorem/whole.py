"""Products of 32-bit numbers that code puts together from 16-bit parts.

With A = floor(a / 2**16), the halves of ``a`` are A and a - A*2**16, their products with those of another number are
polynomials of degree 2, and carries between them floors (``polynomial``). These are added up until of all the halves
nothing is left but a*b. What is left of a word is w - 2**32 * floor(w / 2**32), of a signed word w - 2**32 * floor((w +
2**31) / 2**32), unless intervals say that w fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ncpc.theorem.polynomial import Atom, Floor, Integer, Polynomial, TooLarge, added, less, multiplied, place, shifted
from ncpc.theorem.spans import ends
from ncpc.theorem.term import LEAST, MOST, BitTerm, signed_word
from ncpc.theorem.wide import LONG, WideSum, fits, multiples, word

if TYPE_CHECKING:
    from ncpc.theorem.terms import BitTerms

HALF = 16
LOW = (1 << HALF) - 1


@dataclass(frozen=True)
class Residue:
    """What a sum is modulo 2**16: terms with their coefficients, and a number."""

    items: tuple[tuple[BitTerm, int], ...]
    number: int


def residue(term: BitTerm, without: tuple[BitTerm, ...] = ()) -> Residue:
    """Of a term, or of a sum without some of its terms."""
    if term.op != "lin" or term.cut:
        return Residue(((term, 1),), 0)
    items = zip(term.args, term.par[:-1], strict=True)
    return Residue(tuple((n, q & LOW) for n, q in items if q & LOW and n not in without), term.par[-1] & LOW)


def _factor(a: Residue, b: Residue) -> int | None:
    """m where the terms in a are m times those in b, in the same order, modulo 2**16; None where there is none."""
    odd = next((i for i, (_, q) in enumerate(b.items) if q & 1), None)
    if odd is None:
        return None
    m = a.items[odd][1] * pow(b.items[odd][1], -1, 1 << HALF) & LOW
    return m if all((m * q - p) & LOW == 0 for (_, p), (_, q) in zip(a.items, b.items, strict=True)) else None


def _is_low(term: BitTerm) -> bool:
    return term.op == "and" and term.args[1].fixed and term.args[1].par[0] == LOW and not term.name


@dataclass
class WholeProducts:
    """Which terms hold products of parts (``held``), and what those are as integers.

    ``halved`` are the numbers whose high halves are known, among the terms ``read`` so far, by the terms in them and
    what they are modulo 2**16: compilers leave out of low halves what is lost. ``sums`` are low halves (0) and what is
    shifted right by less, by the terms in them; where both are of one number, that is ``longer`` and its part
    ``shorter``, and of what is a part times 2**zeros ``multiples`` are the whole. While ``busy``, what is made is left.
    """

    held: dict[BitTerm, bool] = field(default_factory=dict)
    integers: dict[BitTerm, Integer] = field(default_factory=dict)
    halved: dict[tuple[BitTerm, ...], dict[Residue, BitTerm]] = field(default_factory=dict)
    sums: dict[tuple[BitTerm, ...], dict[tuple[BitTerm, int], None]] = field(default_factory=dict)
    shorter: set[tuple[BitTerm, int]] = field(default_factory=set)
    longer: dict[BitTerm, tuple[BitTerm, int]] = field(default_factory=dict)
    multiples: dict[BitTerm, tuple[BitTerm, int]] = field(default_factory=dict)
    read: int = 0
    busy: bool = False
    terms: BitTerms = field(init=False)

    def sum(self, terms: BitTerms, items: Mapping[BitTerm, int], c: int) -> tuple[dict[BitTerm, int], int] | None:
        """A sum modulo 2**32 with whole products for their parts; None where that is no shorter, or a part is left."""
        if self.busy or not any(self.holds(n) for n in items):
            return None
        mine = [n for n in items if self._opened(n)]
        found = self._found(terms, lambda: added((self.integer(n).of, items[n]) for n in mine))
        if found is None or len(found[0]) >= len(mine):
            return None
        return terms.flattened([*found[0], *((n, q) for n, q in items.items() if n not in mine)], c + found[1])

    def shift(self, terms: BitTerms, a: BitTerm, k: int) -> BitTerm | None:
        """a >> k of the signed number as a word of a whole product; None where it is none."""
        if self.busy or not self.holds(a):
            return None
        found = self._found(terms, lambda: shifted(self.signed(a), k).of)
        return None if found is None or len(found[0]) > 1 else terms.lin(*found)

    def _found(self, terms: BitTerms, total: Callable[[], Polynomial]) -> tuple[list[tuple[BitTerm, int]], int] | None:
        """A sum of terms for a polynomial."""
        self.busy = True
        try:
            self._read(terms)
            return self._terms(terms, total())
        except TooLarge:
            return None
        finally:
            self.busy = False

    def _read(self, terms: BitTerms) -> None:
        before = len(self.halved), len(self.shorter)
        for n in terms.nodes[self.read :]:
            if n.op not in ("and", "asr", "srl"):
                continue
            a, k = n.args[0], n.par[0] if n.par else HALF
            names = tuple(x for x, _ in residue(a).items)
            if n.op != "and" and k == HALF:
                self.halved.setdefault(names, {}).setdefault(residue(a), a)
            elif a.op == "lin" and (_is_low(n) or (n.op == "asr" and k < HALF)):
                there = self.sums.setdefault(a.args, {})
                there[a, k if n.op == "asr" else 0] = None
                for low in (x for x, at in there if not at):
                    for part, at in ((x, at) for x, at in there if at):
                        self._join(low, part, HALF - at)
        self.terms, self.read = terms, len(terms.nodes)
        if before != (len(self.halved), len(self.shorter)):
            self.integers.clear()  # they may hold halves of what is new

    def _join(self, low: BitTerm, part: BitTerm, zeros: int) -> None:
        """Whether a sum is ``part`` times 2**zeros and a smaller number, modulo 2**16."""
        shifted = [signed_word(q << zeros) & LOW for q in part.par]
        if shifted[:-1] == [q & LOW for q in low.par[:-1]] and shifted[-1] == low.par[-1] & LOW & -(1 << zeros):
            self.shorter.add((part, HALF - zeros))
            self.longer[low] = (part, zeros)

    def _is_high(self, term: BitTerm) -> bool:
        """The high half of a number: of a multiple of 2**k a part of what is multiplied."""
        if term.op not in ("asr", "srl") or term.name:
            return False
        return term.par[0] == HALF or (term.args[0], term.par[0]) in self.shorter

    def _is_half(self, term: BitTerm) -> bool:
        """The low or the high half of a number, or a sum of such halves."""
        if term.op == "lin" and not term.cut and not term.name:
            return all(_is_low(n) or self._is_high(n) for n in term.args)
        return _is_low(term) or self._is_high(term)

    def holds(self, term: BitTerm) -> bool:
        """Whether a product of parts is in a term, as far as it is opened."""
        if term not in self.held:
            inner = term.op in OPENED and not term.name and not term.cut and any(self.holds(n) for n in term.args)
            self.held[term] = _is_low(term) or inner
        return self.held[term]

    def _opened(self, term: BitTerm) -> bool:
        return self.holds(term) or self._is_high(term) or (term.op == "mul" and any(map(self._is_half, term.args)))

    # ------------------------------------------------------------------ terms as integers
    def integer(self, term: BitTerm) -> Integer:
        """What a term is modulo 2**32."""
        if term not in self.integers:
            read = OPENED.get(term.op) if not term.fixed and self._opened(term) else None
            whole = Integer({(term,): 1}, term.lo, term.hi) if not term.fixed else Integer(
                {(): term.par[0]} if term.par[0] else {}, term.par[0], term.par[0])
            self.integers[term] = whole if read is None else read(self, term)
        return self.integers[term]

    def signed(self, term: BitTerm) -> Integer:
        """The signed number that a term is."""
        a = self.integer(term)
        if fits(a.lo, a.hi):
            return a
        over = shifted(Integer(added([(a.of, 1), ({(): -LEAST}, 1)]), a.lo - LEAST, a.hi - LEAST), 32)
        return less(a, over, 1 << 32, LEAST, MOST)

    def unsigned(self, term: BitTerm) -> Integer:
        """The number without a sign that a term is."""
        a = self.integer(term)
        if a.lo >= 0 and a.hi < 1 << 32:
            return a
        return less(a, shifted(a, 32), 1 << 32, 0, (1 << 32) - 1)

    def factor(self, term: BitTerm) -> Integer:
        """A factor, as the signed number that it is: of halves in what they are halves of, which is not opened."""
        whole = Integer({(term,): 1}, term.lo, term.hi)
        if term.fixed:
            return self.integer(term)
        if not self._is_half(term):
            return whole
        if term.op != "lin":
            return self._half(term)
        found = self._sum([(self._half(n), q) for n, q in zip(term.args, term.par[:-1], strict=True)], term.par[-1])
        return found if fits(found.lo, found.hi) else whole

    def _half(self, term: BitTerm) -> Integer:
        a = term.args[0]
        if term.op == "and":
            a = self.halved.get(tuple(x for x, _ in residue(a).items), {}).get(residue(a), a)
        whole = self._number(a) if term.op == "and" else Integer({(a,): 1}, a.lo, a.hi)
        if term.op == "and":
            return less(whole, shifted(whole, HALF), 1 << HALF, 0, LOW)
        if term.op == "srl" and a.lo < 0:
            whole = less(whole, shifted(whole, 32), 1 << 32, 0, (1 << 32) - 1)
        return shifted(whole, term.par[0])

    def _number(self, a: BitTerm) -> Integer:
        """A number that is not opened, or, modulo 2**16, what it is of a part that is known by its high bits."""
        if a not in self.longer:
            return Integer({(a,): 1}, a.lo, a.hi)
        part, zeros = self.longer[a]
        rest = a.par[-1] & ((1 << zeros) - 1)
        if not rest:
            self.multiples[part] = (self.terms.lin([(part, 1 << zeros)]), zeros)
        return self._sum([(Integer({(part,): 1}, part.lo, part.hi), 1 << zeros)], rest)

    def _sum(self, parts: Iterable[tuple[Integer, int]], c: int) -> Integer:
        kept = list(parts)
        corners = [sorted((q * a.lo, q * a.hi)) for a, q in kept]
        of = added([*((a.of, q) for a, q in kept), ({(): c}, 1)])
        return Integer(of, c + sum(lo for lo, _ in corners), c + sum(hi for _, hi in corners))

    def _lin(self, term: BitTerm) -> Integer:
        return self._sum([(self.integer(n), q) for n, q in zip(term.args, term.par[:-1], strict=True)], term.par[-1])

    def _wide(self, term: BitTerm) -> Integer:
        parts = [(self.signed(n), q) for n, q in zip(term.args, term.par[:-2], strict=True)]
        return shifted(self._sum(parts, term.par[-2]), term.par[-1])

    def _product(self, term: BitTerm) -> Integer:
        a, b = map(self.factor, term.args)
        corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
        c, k = term.par or (0, 0)
        of = added([(multiplied(a.of, b.of), 1), ({(): c}, 1)])
        return shifted(Integer(of, min(corners) + c, max(corners) + c), k)

    def _masked(self, term: BitTerm) -> Integer:
        mask = term.args[1].par[0] if term.args[1].fixed else -1
        if mask <= 0 or mask & (mask + 1):
            return Integer({(term,): 1}, term.lo, term.hi)
        k = mask.bit_length()
        a = self._modulo(term.args[0]) if k <= HALF else self.integer(term.args[0])
        return less(a, shifted(a, k), 1 << k, 0, mask)

    def _modulo(self, term: BitTerm) -> Integer:
        """What a term is modulo 2**16: a multiple of a number whose high half is known, if there is one, and a rest."""
        is_sum = term.op == "lin" and not term.cut and not term.name
        items = zip(term.args, term.par[:-1], strict=True) if is_sum else ()
        parts = [(self.integer(n), q) for n, q in items if self._opened(n)]
        left = residue(term, tuple(filter(self._opened, term.args)) if is_sum else ())
        for known, a in self.halved.get(tuple(x for x, _ in left.items), {}).items():
            if left.items and (factor := _factor(left, known)) is not None:
                whole = Integer({(a,): 1}, a.lo, a.hi)
                return self._sum([(whole, factor), *parts], left.number - factor * known.number)
        return self.integer(term)

    # ------------------------------------------------------------------ integers as terms
    def _terms(self, terms: BitTerms, total: Polynomial) -> tuple[list[tuple[BitTerm, int]], int] | None:
        """A sum of terms that is the polynomial modulo 2**32; None where a product of parts is left in it."""
        found = []
        for atoms, q in total.items():
            if not atoms or q % (1 << 32) == 0:
                continue
            factors = [n for n in atoms if isinstance(n, BitTerm)]
            if len(factors) < len(atoms) > 1:
                return None
            term = self._word(terms, atoms[0]) if len(atoms) == 1 else terms.mul(*factors)
            if term is None:
                return None
            found.append((term, signed_word(q)))
        return found, total.get((), 0)

    def _word(self, terms: BitTerms, atom: Atom) -> BitTerm | None:
        """A term; of a floor the word of a product, one of whose factors is a term, or of a sum."""
        if isinstance(atom, BitTerm):
            return atom
        of = {tuple(n for n in atoms if isinstance(n, BitTerm)): q for atoms, q in atom.of}
        if atom.k >= 64 or any(isinstance(n, Floor) for atoms, _ in atom.of for n in atoms):
            return None
        c = of.pop((), 0)
        common = set[BitTerm].intersection(*map(set[BitTerm], of))
        if not common and all(len(factors) == 1 for factors in of):
            return word(terms, WideSum({n: q for (n,), q in of.items()}, c), atom.k)
        products = (self._product_word(terms, b, of, c, atom.k) for b in sorted(common, key=place))
        return next((made for made in products if made is not None), None)

    def _product_word(
        self, terms: BitTerms, b: BitTerm, of: Mapping[tuple[BitTerm, ...], int], c: int, k: int
    ) -> BitTerm | None:
        """The low word of (a*b + c) >> k for what ``b`` is multiplied by, where 32 bits hold that."""
        alone = sum(q for factors, q in of.items() if len(factors) == 1)
        others = [(f[0] if f[1] is b else f[1], q) for f, q in of.items() if len(f) == 2]
        total = multiples(others, alone)
        a = terms.lin(total.items.items(), total.c)
        if not fits(*total.ends()):
            return None
        for n in (a, b) if a is not b else ():
            whole, zeros = self.multiples.get(n, (n, 0))
            a, b, c, k = (whole if a is n else a), (whole if b is n else b), c << zeros, k + zeros
        low, high = ends(a, b)
        if k >= 64 or low + c < -LONG or high + c >= LONG:
            return None
        made = terms.mulshr(a, b, c, k)
        self.held.setdefault(made, made.op == "mulshr" and not made.name)
        return made


OPENED: Mapping[str, Callable[[WholeProducts, BitTerm], Integer]] = {
    "lin": WholeProducts._lin,
    "wide": WholeProducts._wide,
    "mul": WholeProducts._product,
    "mulshr": WholeProducts._product,
    "and": WholeProducts._masked,
    "asr": lambda whole, term: shifted(whole.signed(term.args[0]), term.par[0]),
    "srl": lambda whole, term: shifted(whole.unsigned(term.args[0]), term.par[0]),
}
"""By the kind of a term."""
