"""One statement's right side as a C expression: of integers, the nodes of ``ncpc.ir.formed``, printed.

Integers are computed in 32 bits: an element of a narrow array is widened by the other operand, or by a cast where both
are narrow, so that no result depends on the width of int.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ncpc.errors import Unsupported
from ncpc.ir.cwords import Function, Term, Word
from ncpc.ir.formed import formed
from ncpc.ir.program import Attr
from ncpc.ir.types import Fixed, Type
from ncpc.targets.c.layout import INDENT
from ncpc.targets.c.numbers import FLOAT, INT32, UINT32, CType, literal

ATOM, UNARY, PRODUCT, SUM, SHIFT, CHOICE = 0, 1, 2, 3, 4, 5
"""How loosely an expression binds."""
AND = CHOICE
"""A bitwise ``&`` binds more loosely than a comparison."""
SHORT = 1 << 15
"""Numbers below it are as narrow as int may be."""


@dataclass(frozen=True)
class Expr:
    """C text, its type, how loosely it binds, and the storage and scalars it reads."""

    text: str
    ctype: CType
    level: int = ATOM
    reads: frozenset[str] = frozenset()

    def within(self, level: int) -> str:
        """The text as an operand of an operator of ``level``: in parentheses if it binds more loosely."""
        return self.text if self.level <= level else f"({self.text})"


def cast(e: Expr, ctype: CType) -> Expr:
    """The same number as ``ctype``; itself if it is one."""
    return e if e.ctype == ctype else Expr(f"({ctype.name}){e.within(UNARY)}", ctype, UNARY, e.reads)


def apply(kind: str, args: Sequence[Expr], types: Sequence[Type], out: Type, attrs: Mapping[str, Attr]) -> Expr:
    """The expression for an elementwise op; ``types`` are the program's types of the operands, ``out`` the result's."""
    if isinstance(out, Fixed):
        try:
            return printed(formed(kind, types, out, attrs), {str(i): e for i, e in enumerate(args)})
        except KeyError:
            raise Unsupported(f"C target: op '{kind}' has no integer C form") from None
    if kind not in FLOATS:
        raise Unsupported(f"C target: op '{kind}' has no C form; supported: {', '.join(sorted(FLOATS))}")
    return FLOATS[kind](list(args))


def call(function: str, args: Sequence[Expr], ctype: CType) -> Expr:
    """A function's value."""
    reads = frozenset[str]().union(*(a.reads for a in args))
    return Expr(f"{function}({', '.join(a.text for a in args)})", ctype, ATOM, reads)


def ctype_of(word: Word) -> CType:
    """The C type that a word is."""
    return CType(word.name, word.bits // 8)


def printed(a: Term, known: Mapping[str, Expr]) -> Expr:
    """A term as C text; ``known`` are its operands, each of its term's type or narrower."""
    if a.kind == "arg":
        return known[a.name]
    if a.kind == "number":
        return _number(a)
    args = [printed(part, known) for part in a.args]
    ctype = ctype_of(a.word)
    if a.kind == "as":
        return args[0] if _widens(args[0], ctype) else cast(args[0], ctype)
    if a.kind in _OPERATORS:
        return replace(_OPERATORS[a.kind](a, _wide(a, args)), ctype=ctype)
    if a.kind == ">":
        one, zero = (literal(n, INT32) for n in (a.number, 0))
        text = f"{args[0].within(SHIFT)} > {args[1].within(SHIFT)} ? {one} : {zero}"
        return Expr(text, ctype, CHOICE, args[0].reads | args[1].reads)
    if a.kind == "look":
        return Expr(f"{a.name}[{args[0].text}]", ctype, ATOM, args[0].reads)
    return call(_name(a), args, ctype)


def limited(a: Term, known: Mapping[str, Expr]) -> str:
    """A clamp spelled out, for where a call would cost more than it says."""
    value, lo, hi = (printed(part, known).text for part in a.args)
    return f"{value} < {lo} ? {lo} : ({value} > {hi} ? {hi} : {value})"


def _name(a: Term) -> str:
    """The function behind a node that is no operator."""
    if a.kind == "call":
        return a.name
    return "leading_zeros" if a.kind == "zeros" else f"{a.kind}{_SUFFIX[ctype_of(a.word)]}"


def _number(a: Term) -> Expr:
    """A literal; one that int holds surely is as narrow as int may be."""
    narrow = a.word.signed and -SHORT <= a.number < SHORT
    if not a.word.signed and a.number >= SHORT << 16:
        return Expr(f"0x{a.number:X}u", UINT32)
    ctype = ctype_of(a.word)
    return Expr(literal(a.number, UINT32 if ctype == UINT32 else INT32), replace(ctype, bytes=2) if narrow else ctype)


def _widens(e: Expr, ctype: CType) -> bool:
    """Whether an operand of that type is one without a cast: C promotes it."""
    return e.ctype == ctype or (e.ctype.narrow and ctype == INT32)


def _wide(a: Term, args: list[Expr]) -> list[Expr]:
    """The operands of an operator, so that C computes it in the term's type: the first one cast where it would not."""
    ctype = ctype_of(a.word)
    deciding = args[:1] if a.kind in ("<<", ">>") else args
    if ctype.narrow or any(not e.ctype.narrow for e in deciding):
        return args
    return [cast(args[0], ctype), *args[1:]]


def _infix(sign: str, level: int, left: int, right: int) -> Callable[[Term, list[Expr]], Expr]:
    def make(a: Term, args: list[Expr]) -> Expr:
        return _between(args[0].within(left), sign, args[1].within(right), level, args)

    return make


def _between(left: str, sign: str, right: str, level: int, args: Sequence[Expr]) -> Expr:
    """Two operands; a negative number that is added is subtracted."""
    if sign == "+" and re.fullmatch(r"-[\d.e+]+f?", right):
        sign, right = "-", right[1:]
    return Expr(f"{left} {sign} {right}", args[0].ctype, level, args[0].reads | args[1].reads)


def _minus(a: Term, args: list[Expr]) -> Expr:
    return Expr(f"-{args[0].within(UNARY)}", args[0].ctype, UNARY, args[0].reads)


_OPERATORS: dict[str, Callable[[Term, list[Expr]], Expr]] = {
    # The right operand of an equal level needs parentheses: a - (b - c).
    "+": _infix("+", SUM, SUM, PRODUCT),
    "-": _infix("-", SUM, SUM, PRODUCT),
    "*": _infix("*", PRODUCT, PRODUCT, UNARY),
    # Beside shifts and & compilers ask for parentheses.
    ">>": _infix(">>", SHIFT, UNARY, ATOM),
    "<<": _infix("<<", SHIFT, UNARY, ATOM),
    "&": _infix("&", AND, UNARY, ATOM),
    "~": _minus,
}
_SUFFIX = {FLOAT: "_f", INT32: "_i", UINT32: "_u"}


def definition(function: Function) -> str:
    """A function of the table as C text."""
    known = {p.name: Expr(p.name, ctype_of(p.word)) for p in function.parameters}
    listed = ", ".join(f"{p.word.name} {p.name}" for p in function.parameters)
    lines = [f"static {function.result.word.name} {function.name}({listed})", "{"]
    for name, part in function.lets:
        lines.append(f"{INDENT}const {part.word.name} {name} = {printed(part, known).text};")
        known[name] = Expr(name, ctype_of(part.word))
    return "\n".join([*lines, f"{INDENT}return {printed(function.result, known).text};", "}"])


def _float(sign: str, level: int) -> Callable[[list[Expr]], Expr]:
    def make(args: list[Expr]) -> Expr:
        # Floats are not associative: an equal level on the right needs parentheses.
        return _between(args[0].within(level), sign, args[1].within(level - 1), level, args)

    return make


def _greater(args: list[Expr]) -> Expr:
    a, b = args
    return Expr(f"{a.within(SHIFT)} > {b.within(SHIFT)} ? 1.0f : 0.0f", FLOAT, CHOICE, a.reads | b.reads)


def _function(name: str) -> Callable[[list[Expr]], Expr]:
    return lambda args: call(name, args, FLOAT)


FLOATS: dict[str, Callable[[list[Expr]], Expr]] = {
    "add": _float("+", SUM),
    "sub": _float("-", SUM),
    "mul": _float("*", PRODUCT),
    "div": _float("/", PRODUCT),
    "neg": lambda args: Expr(f"-{args[0].within(UNARY)}", FLOAT, UNARY, args[0].reads),
    **{kind: lambda args: args[0] for kind in ("copy", "start", "cast")},
    **{kind: _function(f"{kind}_f")
       for kind in ("min", "max", "clamp", "relu", "exp", "sigmoid", "tanh", "sqrt", "mix")},
    "guard": _function("finite_f"),
    "gt": _greater,
}
