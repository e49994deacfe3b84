"""One statement's right side as a C expression.

Integers are computed in 32 bits: an element of a narrow array is widened by the other operand, or by a cast where both
are narrow, so that no result depends on the width of int.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ncpc.errors import Unsupported
from ncpc.ir.program import Attr
from ncpc.ir.types import Fixed, Type
from ncpc.targets.c.numbers import FLOAT, INT32, UINT32, CType, literal

ATOM, UNARY, PRODUCT, SUM, SHIFT, CHOICE = 0, 1, 2, 3, 4, 5
"""How loosely an expression binds."""


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


def wide(e: Expr) -> Expr:
    """The expression in 32 bits."""
    return cast(e, INT32) if e.ctype.narrow else e


def cast(e: Expr, ctype: CType) -> Expr:
    """The same number as ``ctype``; itself if it is one."""
    return e if e.ctype == ctype else Expr(f"({ctype.name}){e.within(UNARY)}", ctype, UNARY, e.reads)


def apply(kind: str, args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    """The expression for an op."""
    if kind not in OPS:
        raise Unsupported(f"C target: op '{kind}' has no C form; supported: {', '.join(sorted(OPS))}")
    return OPS[kind](args, attrs)


def call(function: str, args: list[Expr], ctype: CType) -> Expr:
    """A function's value."""
    reads = frozenset().union(*(a.reads for a in args))
    return Expr(f"{function}({', '.join(a.text for a in args)})", ctype, ATOM, reads)


def mix(args: list[Expr], share: Type) -> Expr:
    """``a + t*(b - a)``; ``share`` is the type of t."""
    if isinstance(share, Fixed):
        return call("mix", [*args, Expr(str(share.frac), INT32)], INT32)
    return call("mix_f", args, FLOAT)


def greater(args: list[Expr], result: Type) -> Expr:
    """1 where the first is larger, else 0; ``result`` says what 1 is."""
    a, b = args
    ctype = INT32 if isinstance(result, Fixed) else FLOAT
    one, zero = (literal(n, ctype) for n in ((1 << result.frac, 0) if isinstance(result, Fixed) else (1, 0)))
    return Expr(f"{a.within(SHIFT)} > {b.within(SHIFT)} ? {one} : {zero}", ctype, CHOICE, a.reads | b.reads)


def ctype_of(a: Expr, b: Expr) -> CType:
    """The type C gives an operation on both."""
    return next((t for t in (FLOAT, UINT32) if t in (a.ctype, b.ctype)), INT32)


def _infix(sign: str, level: int) -> Callable[[list[Expr], Mapping[str, Attr]], Expr]:
    def make(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
        a, b = args if any(not e.ctype.narrow for e in args) else [wide(args[0]), args[1]]
        # The right operand of an equal level needs parentheses: a - (b - c), and floats are not associative.
        right = b.within(level - 1)
        if sign == "+" and re.fullmatch(r"-[\d.e+]+f?", right):
            return Expr(f"{a.within(level)} - {right[1:]}", ctype_of(a, b), level, a.reads | b.reads)
        return Expr(f"{a.within(level)} {sign} {right}", ctype_of(a, b), level, a.reads | b.reads)

    return make


def _typed(name: str) -> Callable[[list[Expr], Mapping[str, Attr]], Expr]:
    """A function that exists for int32_t, uint32_t and float."""

    def make(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
        ctype = next((e.ctype for e in args if not e.ctype.narrow), INT32)
        return call(f"{name}{_SUFFIX[ctype]}", args, ctype)

    return make


_SUFFIX = {FLOAT: "_f", INT32: "_i", UINT32: "_u"}


def _function(name: str, ctype: CType) -> Callable[[list[Expr], Mapping[str, Attr]], Expr]:
    return lambda args, attrs: call(name, args, ctype)


def _neg(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    a = wide(args[0])
    return Expr(f"-{a.within(UNARY)}", a.ctype, UNARY, a.reads)


def _same(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    return args[0]


def _k(attrs: Mapping[str, Attr]) -> int:
    return int(attrs["k"] or 0)


def _asr(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    a, k = wide(args[0]), _k(attrs)
    return a if k == 0 else Expr(f"{a.within(UNARY)} >> {k}", INT32, SHIFT, a.reads)


def _shr(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    a, k = wide(args[0]), _k(attrs)
    return a if k == 0 else Expr(f"({a.within(SUM)} + {1 << (k - 1)}) >> {k}", INT32, SHIFT, a.reads)


def _shl(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    """A product, as shifting a negative number left is undefined; what fits 32 bits after k > 31 was 0."""
    a, k = wide(args[0]), _k(attrs)
    factor = "0" if k > 31 else f"{1 << 30} * 2" if k == 31 else f"{1 << k}"
    return a if k == 0 else Expr(f"{a.within(PRODUCT)} * {factor}", INT32, PRODUCT, a.reads)


def _mulshr(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    """Of two signed numbers, or of an unsigned one (dt) and a signed one."""
    a, b = sorted(args, key=lambda e: e.ctype != UINT32)
    return call("mulshr_u" if a.ctype == UINT32 else "mulshr", [a, b, Expr(str(_k(attrs)), INT32)], INT32)


def _with_k(name: str) -> Callable[[list[Expr], Mapping[str, Attr]], Expr]:
    return lambda args, attrs: call(name, [*args, Expr(str(_k(attrs)), INT32)], INT32)


def _inverse(args: list[Expr], attrs: Mapping[str, Attr]) -> Expr:
    return call("inverse", [cast(args[0], UINT32), Expr(str(_k(attrs)), INT32)], INT32)


OPS: dict[str, Callable[[list[Expr], Mapping[str, Attr]], Expr]] = {
    "add": _infix("+", SUM),
    "sub": _infix("-", SUM),
    "mul": _infix("*", PRODUCT),
    "div": _infix("/", PRODUCT),
    "neg": _neg,
    "copy": _same,
    "start": _same,
    "cast": _same,
    "min": _typed("min"),
    "max": _typed("max"),
    "clamp": _typed("clamp"),
    "relu": _typed("relu"),
    "exp": _function("exp_f", FLOAT),
    "sigmoid": _function("sigmoid_f", FLOAT),
    "tanh": _function("tanh_f", FLOAT),
    "guard": _function("finite_f", FLOAT),
    "asr": _asr,
    "shr": _shr,
    "shl": _shl,
    "mulshr": _mulshr,
    "inverse": _inverse,
}
