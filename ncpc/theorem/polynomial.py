"""Integers that terms are, as polynomials over *atoms*: terms that are not opened, and floors of polynomials.

For all integers X and Y

    floor((2**k * X + Y) / 2**k) = X + floor(Y / 2**k)
    floor((X + floor(Y / 2**j)) / 2**k) = floor((2**j * X + Y) / 2**(j + k))
    floor((2**j * X + c) / 2**k) = floor((X + floor(c / 2**j)) / 2**(k - j)), j <= k

so that floors of sums of floors become few.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ncpc.theorem.term import BitTerm
from ncpc.theorem.wide import exponent

LARGEST = 40
"""Monomials of a polynomial that is looked at."""


@dataclass(frozen=True)
class Floor:
    """floor(of / 2**k)."""

    of: frozenset[tuple[Monomial, int]]
    k: int

    @cached_property
    def number(self) -> int:
        """Its place among atoms."""
        return hash(self)


Atom = BitTerm | Floor
Monomial = tuple[Atom, ...]
Polynomial = dict[Monomial, int]
"""Coefficients by up to two atoms, in order; of none, the number in it."""


@dataclass(frozen=True, eq=False)
class Integer:
    """What a term is modulo 2**32, and an interval of that."""

    of: Polynomial
    lo: int
    hi: int


class TooLarge(Exception):
    """A polynomial that is not looked at: of degree 3, or of too many monomials."""


def place(atom: Atom) -> tuple[int, int]:
    """What atoms are ordered by."""
    return (0, atom.id) if isinstance(atom, BitTerm) else (1, atom.number)


def added(parts: Iterable[tuple[Polynomial, int]]) -> Polynomial:
    """sum factor*polynomial."""
    total: Polynomial = {}
    for part, factor in parts:
        for atoms, q in part.items():
            total[atoms] = total.get(atoms, 0) + q * factor
    if len(total) > LARGEST:
        raise TooLarge
    return {atoms: q for atoms, q in total.items() if q}


def multiplied(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product of two of degree 1."""
    if any(len(x) + len(y) > 2 for x in a for y in b):
        raise TooLarge
    return added(({tuple(sorted((*x, *y), key=place)): p * q}, 1) for x, p in a.items() for y, q in b.items())


def floored(a: Polynomial, k: int) -> Polynomial:
    """floor(a / 2**k): multiples of 2**k in front of it, and one floor in it that counts once as part of it."""
    front = {atoms: q >> k for atoms, q in a.items() if atoms and q % (1 << k) == 0}
    rest = {atoms: q for atoms, q in a.items() if atoms and atoms not in front}
    number = a.get((), 0)
    if not rest:
        return added([(front, 1), ({(): number >> k}, 1)])
    inner = [atoms[0] for atoms, q in rest.items() if len(atoms) == 1 and isinstance(atoms[0], Floor) and q == 1]
    if len(inner) == 1 and isinstance(inner[0], Floor):
        del rest[(inner[0],)]
        whole = added([({**rest, (): number}, 1 << inner[0].k), (dict(inner[0].of), 1)])
        return added([(front, 1), (floored(whole, k + inner[0].k), 1)])
    front[()] = number >> k
    zeros = min(exponent(q) for q in rest.values())  # below them lies a number alone
    rest = {atoms: q >> zeros for atoms, q in rest.items()}
    rest[()] = number % (1 << k) >> zeros
    made = Floor(frozenset((atoms, q) for atoms, q in rest.items() if q), k - zeros)
    return added([(front, 1), ({(made,): 1}, 1)])


def shifted(a: Integer, k: int) -> Integer:
    """a >> k; of one that stays between two multiples of 2**k, a number."""
    lo, hi = a.lo >> k, a.hi >> k
    return Integer({(): lo} if lo and lo == hi else {} if lo == hi else floored(a.of, k), lo, hi)


def less(a: Integer, b: Integer, factor: int, lo: int, hi: int) -> Integer:
    """a - factor*b, which lies in an interval."""
    return Integer(added([(a.of, 1), (b.of, -factor)]), lo, hi)
