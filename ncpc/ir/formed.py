"""The table of every integer that the generated C forms for an op, in between and as a result, each with its C type.

One table, three readers: the range proof checks the interval of every node against its type, the semantics check the
numbers of every node that types alone do not settle, and the C target prints the same nodes. What C computes and what
is proved cannot differ, nor can a form that needs room be chosen without the proof asking for it.

An op that adds up (``segment_sum``, products with a matrix, windows) is a ``Sum``: what is added each time, in which
type, from where, and what becomes of the total. Sums are held to fit in whatever order their terms come: from the
start and all negative terms to the start and all positive ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ncpc.ir.cwords import (
    INT,
    INT32,
    INT64,
    UINT32,
    Function,
    Term,
    Word,
    alike,
    arg,
    choice,
    look,
    term,
    to,
    wrapping,
)
from ncpc.ir.program import Attr
from ncpc.ir.types import Fixed, Type

SIGNED = ("add", "sub", "mul", "neg", "shl")
"""Ops whose operands are signed: unsigned ones (dt) are converted first."""
PRODUCT = 30
"""The largest power of two by which 32 bits multiply at once."""
RECIP_BITS = 7
"""The reciprocal's seed table has 2**7 entries, indexed by the 7 bits below the leading one."""
MEAN_BITS = 24
"""Fraction bits of the reciprocal by which an integer mean multiplies its sum."""


@dataclass(frozen=True)
class Use:
    """An op where it stands: operands as terms, their types, the result's type."""

    args: tuple[Term, ...]
    types: tuple[Type, ...]
    out: Type
    attrs: Mapping[str, Attr]

    @property
    def k(self) -> int:
        return int(self.attrs["k"] or 0)


def word_of(kind: Type) -> Word:
    """The C type in which a value of a fixed-point type is computed with: 32 bits, signed if they hold it."""
    return UINT32 if isinstance(kind, Fixed) and kind.hi > INT32.hi else INT32


def formed(kind: str, types: Sequence[Type], out: Type, attrs: Mapping[str, Attr]) -> Term:
    """The expression of an elementwise op; its operands are the terms ``0``, ``1``, ...; a clamp's limits are the last.

    Raises ``KeyError`` for an op that has none: it is no integer op, or it is a sum, or it only moves numbers.
    """
    args = tuple(arg(str(i), word_of(kind)) for i, kind in enumerate(types))
    if kind in SIGNED:
        args = tuple(to(INT32, a) for a in args)
    return _ROWS[kind](Use(args, tuple(types), out, attrs))


def _shr(use: Use) -> Term:
    """floor(a / 2**k + 1/2): the half must fit on top."""
    a, k = use.args[0], use.k
    return to(word_of(use.out), (a + (1 << k >> 1)) >> k if k else a)


def _shr_full(use: Use) -> Term:
    """The same number of an ``a`` that has no room for the half: the last bit shifted out says whether to round up."""
    a, k = use.args[0], use.k
    return to(word_of(use.out), (a >> k) + ((a >> (k - 1)) & 1))


def _shl(use: Use) -> Term:
    """A product, as shifting a negative number left is undefined."""
    a, left = use.args[0], use.k
    while left > 0:
        a, left = a * (1 << min(left, PRODUCT)), left - PRODUCT
    return a


def _mulshr(use: Use) -> Term:
    """Of two signed numbers, or of an unsigned one (dt) and a signed one."""
    a, b = sorted(use.args, key=lambda e: e.word != UINT32)
    return (MULSHR_U if a.word == UINT32 else MULSHR)(a, b, term(use.k, INT))


def _mix(use: Use) -> Term:
    kind = use.types[2]
    assert isinstance(kind, Fixed)
    return MIX(*use.args, term(kind.frac, INT))


def _gt(use: Use) -> Term:
    """1 as the result's type has it."""
    assert isinstance(use.out, Fixed)
    return Term(">", INT32, alike(*use.args), number=1 << use.out.frac)


def _rounded(product: Term, k: Term) -> Term:
    """floor(product / 2**k + 1/2) in 64 bits, k >= 1."""
    return (product + (to(INT64, 1) << (k - 1))) >> k


_A, _B, _T, _K = arg("a"), arg("b"), arg("t"), arg("k", INT)
MULSHR = Function("mulshr", (_A, _B, _K), (), to(INT32, _rounded(to(INT64, _A) * _B, _K)))
_U = arg("a", UINT32)
MULSHR_U = Function("mulshr_u", (_U, _B, _K), (), to(INT32, _rounded(to(INT64, _U) * _B, _K)))
MIX = Function("mix", (_A, _B, _T, _K), (), to(INT32, _A + _rounded((to(INT64, _B) - _A) * _T, _K)))


def _inverse_function() -> Function:
    """A seed and one Newton step for the leading 16 bits of a, then a shift."""
    zeros, m, seed = arg("zeros", INT), arg("m", UINT32), arg("seed", UINT32)
    residual, r = arg("residual"), arg("r")
    index = (m >> (15 - RECIP_BITS)) & term((1 << RECIP_BITS) - 1, UINT32)
    rest = to(INT32, wrapping(term(1 << 31, UINT32) - m * seed)) >> 8
    return Function("inverse", (_U, _K), (
        ("zeros", Term("zeros", INT, (_U,))),
        ("m", (_U << zeros) >> 16),
        ("seed", look("recip_seed", index, UINT32)),
        ("residual", rest),
        ("r", to(INT32, seed) + ((to(INT32, seed) * residual + (1 << 22)) >> 23)),
    ), to(INT32, to(UINT32, r) << (zeros - 1 + _K)))


INVERSE = _inverse_function()
FUNCTIONS = (MIX, MULSHR, MULSHR_U, INVERSE)


@dataclass(frozen=True)
class Interpolation:
    """A table read between its entries: ``inside`` of t, ``index`` of inside, ``result`` of value, step and inside."""

    inside: Term
    index: Term
    result: Term


def interpolation(entries: int, k: int) -> Interpolation:
    """How a table of ``entries`` values is read: between n and n + 1 by the low ``k`` bits; beyond it its end value."""
    inside = arg("inside")
    share = arg("step") * (inside & ((1 << k) - 1))
    return Interpolation(
        choice("clamp", arg("t"), term(0), term(((entries - 1) << k) - 1)), inside >> k,
        arg("value") + (((share + (1 << k >> 1)) >> k) if k else share),
    )


_ROWS: dict[str, Callable[[Use], Term]] = {
    "add": lambda use: use.args[0] + use.args[1],
    "sub": lambda use: use.args[0] - use.args[1],
    "mul": lambda use: use.args[0] * use.args[1],
    "neg": lambda use: -use.args[0],
    **dict.fromkeys(("copy", "start", "cast"), lambda use: to(word_of(use.out), use.args[0])),
    **{kind: lambda use, kind=kind: choice(kind, *use.args) for kind in ("min", "max", "clamp", "relu")},  # type: ignore[misc]
    "gt": _gt,
    "asr": lambda use: to(word_of(use.out), use.args[0] >> use.k if use.k else use.args[0]),
    "shr": _shr,
    "shr_full": _shr_full,
    "shl": _shl,
    "mulshr": _mulshr,
    "mix": _mix,
    "inverse": lambda use: INVERSE(use.args[0], term(use.k, INT)),
}

ELEMENTWISE = frozenset(_ROWS)
"""The ops that have an expression, and what loops add to them: ``copy``, ``start``."""


@dataclass(frozen=True)
class Sum:
    """``total = start; total += each, for all; after(total)``.

    ``word`` is the total's type. ``each`` is an expression of one element (``x``) or of a weight and an input
    (``w``, ``x``), ``after`` one of ``total``. ``start`` is the number a sum begins with; None: an argument, or 0.
    """

    word: Word
    each: Term
    start: int | None = None
    after: Term | None = None


_ELEMENT, _PRODUCT = arg("x"), arg("w") * arg("x")
TOTAL = "total"


def plain_sum() -> Sum:
    """What ``segment_sum`` adds up."""
    return Sum(INT32, _ELEMENT)


def product_sum() -> Sum:
    """A matrix' row times a vector."""
    return Sum(INT32, _PRODUCT)


def block_sum(k: int) -> Sum:
    """A block of products, which begins with half a unit of the shift, so that shifting it rounds."""
    return Sum(INT32, _PRODUCT, 1 << (k - 1), arg(TOTAL) >> k)


def window_sum(reach: float, narrow: bool) -> Sum:
    """A convolution's window; ``reach`` is the largest magnitude its sum can have, whatever the input.

    The total has 32 bits if they hold that, else 64. A weight or an input of 32 bits (not ``narrow``) needs 64 for
    each product then.
    """
    word = INT32 if reach < 2.0**31 else INT64
    wide = word == INT64 and not narrow
    each = to(INT64, arg("w")) * arg("x") if wide else _PRODUCT
    return Sum(word, each, after=arg(TOTAL, word) >> arg("shift"))


def mean_sum() -> Sum:
    """A pooling window's mean: its sum times the reciprocal ``factor`` of how many elements it has."""
    product = to(INT64, arg(TOTAL)) * arg("factor")
    return Sum(INT32, _ELEMENT, after=(product + (1 << MEAN_BITS >> 1)) >> MEAN_BITS)
