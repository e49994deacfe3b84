"""Integer expressions as C computes them: every node knows its C type, by C's own rules.

The table of what each op forms (``ncpc.ir.formed``) is written in them, ``ncpc.semantics.formed`` evaluates them on
numbers and on intervals, and the C target prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce


@dataclass(frozen=True)
class Word:
    """An integer type of C."""

    name: str
    bits: int
    signed: bool = True

    @property
    def lo(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1


INT = Word("int", 16)
"""Counts of bits: C promises 16 bits."""
INT32, UINT32, INT64 = Word("int32_t", 32), Word("uint32_t", 32, signed=False), Word("int64_t", 64)
RANKS = (INT, INT32, UINT32, INT64)
"""The wider operand decides; of two 32-bit ones the unsigned one."""


@dataclass(frozen=True, eq=False)
class Term:
    """A node: its operation, the C type of its value, its operands.

    ``kind`` is an operator (``+ - * << >> & > ~`` with ``~`` the sign change), ``as`` (a conversion), ``min``, ``max``,
    ``clamp``, ``relu``, ``zeros`` (leading ones of 32 bits), ``look`` (an element of the table ``name``), ``arg``
    (``name``), ``number``, or ``call``: the function ``name``, whose body with these arguments is ``inside``.
    A value outside of its type is an error, but where ``wraps``: there it is taken modulo 2**bits on purpose.
    """

    kind: str
    word: Word
    args: tuple[Term, ...] = ()
    name: str = ""
    number: int = 0
    inside: Term | None = None
    wraps: bool = False

    def __add__(self, other: Term | int) -> Term:
        return _both("+", self, other)

    def __sub__(self, other: Term | int) -> Term:
        return _both("-", self, other)

    def __mul__(self, other: Term | int) -> Term:
        return _both("*", self, other)

    def __and__(self, other: Term | int) -> Term:
        return _both("&", self, other)

    def __rshift__(self, count: Term | int) -> Term:
        return Term(">>", self.word, (self, term(count, INT)))

    def __lshift__(self, count: Term | int) -> Term:
        return Term("<<", self.word, (self, term(count, INT)))

    def __neg__(self) -> Term:
        return Term("~", self.word, (self,))


def _both(kind: str, a: Term, b: Term | int) -> Term:
    b = term(b, a.word)
    return Term(kind, common(a, b), (a, b))


def common(*args: Term) -> Word:
    """The type C gives an operation on them."""
    return max((a.word for a in args), key=RANKS.index)


def arg(name: str, word: Word = INT32) -> Term:
    """An operand."""
    return Term("arg", word, name=name)


def term(number: Term | int, word: Word = INT32) -> Term:
    """A number, of ``word``; what is a term already stays as it is."""
    return number if isinstance(number, Term) else Term("number", word, number=number)


def to(word: Word, a: Term | int) -> Term:
    """A value in another type, which must hold it."""
    a = term(a)
    return a if a.word == word else Term("as", word, (a,))


def wrapping(a: Term) -> Term:
    """An unsigned operation that is meant modulo 2**bits."""
    return replace(a, wraps=True)


def choice(kind: str, *args: Term) -> Term:
    """One of the operands or a limit: nothing is computed."""
    return Term(kind, common(*args), alike(*args))


def alike(*args: Term) -> tuple[Term, ...]:
    """Operands in one type."""
    return tuple(to(common(*args), a) for a in args)


def look(table: str, index: Term, word: Word) -> Term:
    """An element of a table."""
    return Term("look", word, (index,), name=table)


@dataclass(frozen=True, eq=False)
class Function:
    """A C function: parameters, named intermediate values in order, and the value returned."""

    name: str
    parameters: tuple[Term, ...]
    lets: tuple[tuple[str, Term], ...]
    result: Term

    def __call__(self, *args: Term) -> Term:
        """The call; its arguments are converted to the parameters' types."""
        given = tuple(to(p.word, a) for p, a in zip(self.parameters, args, strict=True))
        bound = {p.name: a for p, a in zip(self.parameters, given, strict=True)}
        known = reduce(lambda seen, let: {**seen, let[0]: substituted(let[1], seen)}, self.lets, bound)
        return Term("call", self.result.word, given, name=self.name, inside=substituted(self.result, known))


def substituted(a: Term, known: Mapping[str, Term]) -> Term:
    """The expression with operands replaced by name."""
    if a.kind == "arg":
        return known.get(a.name, a)
    return replace(a, args=tuple(substituted(part, known) for part in a.args)) if a.args else a
