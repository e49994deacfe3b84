"""What Thumb instructions compute from words alone (Armv7-M Architecture Reference Manual, DDI 0403E, A2.2, A7.7)."""

from __future__ import annotations

from collections.abc import Callable

from ncpc.theorem.term import LEAST, MOST, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.values import MASK

Binary = Callable[[BitTerms, BitTerm, BitTerm], BitTerm]
Product = Callable[[BitTerms, BitTerm, BitTerm, BitTerm], BitTerm]
Words = tuple[BitTerm, BitTerm]
"""A number of 64 bits: its low word and its high word."""


# ---------------------------------------------------------------------- bits
def bit(terms: BitTerms, x: BitTerm, k: int) -> BitTerm:
    """Bit k as 0 or 1."""
    return terms.and_(terms.srl(x, k), terms.const(1))


def field(terms: BitTerms, x: BitTerm, low: int, width: int) -> BitTerm:
    """Bits from ``low``, unsigned."""
    return terms.and_(terms.srl(x, low), terms.const((1 << width) - 1))


def signed_field(terms: BitTerms, x: BitTerm, low: int, width: int) -> BitTerm:
    """Bits from ``low``, the highest of them the sign."""
    return terms.asr(terms.shl(x, 32 - low - width), 32 - width)


def cleared(terms: BitTerms, x: BitTerm, low: int, width: int) -> BitTerm:
    """``x`` with 0 in the bits from ``low``."""
    return terms.and_(x, terms.const(~(((1 << width) - 1) << low)))


def inserted(terms: BitTerms, x: BitTerm, part: BitTerm, low: int, width: int) -> BitTerm:
    """``x`` with the low bits of ``part`` from ``low``."""
    return terms.lin([(cleared(terms, x, low, width), 1), (field(terms, part, 0, width), 1 << low)])


def half(terms: BitTerms, x: BitTerm, top: int) -> BitTerm:
    """The low or the top half as a signed number."""
    return terms.asr(x, 16) if top else signed_field(terms, x, 0, 16)


def joined(terms: BitTerms, low: BitTerm, top: BitTerm) -> BitTerm:
    """The low halves of two words as one."""
    return terms.lin([(field(terms, low, 0, 16), 1), (top, 1 << 16)])


def turned(terms: BitTerms, x: BitTerm, k: int) -> BitTerm:
    """Rotated right by 0 to 31."""
    return terms.lin([(terms.srl(x, k), 1), (x, 1 << (32 - k))]) if k else x


def swapped(terms: BitTerms, x: BitTerm) -> BitTerm:
    """REV: the bytes in the opposite order."""
    return terms.lin([(field(terms, x, 24 - 8 * i, 8), 1 << 8 * i) for i in range(4)])


def swapped_halves(terms: BitTerms, x: BitTerm) -> BitTerm:
    """REV16: the bytes of each half exchanged."""
    return terms.lin([(field(terms, x, 8 * (i ^ 1), 8), 1 << 8 * i) for i in range(4)])


def swapped_signed(terms: BitTerms, x: BitTerm) -> BitTerm:
    """REVSH: the bytes of the low half exchanged, as a signed number."""
    return half(terms, swapped_halves(terms, x), 0)


def mirrored(terms: BitTerms, x: BitTerm) -> BitTerm:
    """RBIT: the bits in the opposite order, by exchanging neighbours of 1, 2, 4, 8 and 16 bits."""
    for k, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0F0F0F0F), (8, 0x00FF00FF), (16, 0x0000FFFF)):
        kept = terms.const(mask)
        x = terms.lin([(terms.and_(terms.srl(x, k), kept), 1), (terms.and_(x, kept), 1 << k)])
    return x


BITS: dict[str, Callable[[BitTerms, BitTerm], BitTerm]] = {
    "rev": swapped, "rev16": swapped_halves, "revsh": swapped_signed, "rbit": mirrored, "clz": BitTerms.clz,
    "sxth": lambda terms, x: signed_field(terms, x, 0, 16), "uxth": lambda terms, x: field(terms, x, 0, 16),
    "sxtb": lambda terms, x: signed_field(terms, x, 0, 8), "uxtb": lambda terms, x: field(terms, x, 0, 8),
    "sxtb16": lambda terms, x: joined(terms, signed_field(terms, x, 0, 8), signed_field(terms, x, 16, 8)),
    "uxtb16": lambda terms, x: joined(terms, field(terms, x, 0, 8), field(terms, x, 16, 8)),
}
"""Of one word."""


# ---------------------------------------------------------------------- shifts
def shifted(terms: BitTerms, x: BitTerm, kind: str, k: int) -> BitTerm:
    """A7.4.2: by a number; ``rrx`` is not one of them."""
    if k == 0:
        return x
    if kind == "lsl":
        return terms.shl(x, k)
    if kind == "ror":
        return turned(terms, x, k)
    if kind == "lsr":
        return terms.srl(x, k) if k < 32 else terms.const(0)
    return terms.asr(x, min(k, 31))


def carried_place(kind: str, k: int) -> int:
    """Which bit of the operand is the carry, shifted or turned by 1 or more."""
    return 32 - k if kind == "lsl" else k - 1


def shifted_by(terms: BitTerms, kind: str, x: BitTerm, by: BitTerm) -> BitTerm:
    """By the low byte of a register; all bits leave from 32 on."""
    k = field(terms, by, 0, 8)
    if kind == "ror":
        back = terms.lin([(k, -1)])
        return terms.or_(terms.shift("srlv", x, k), terms.shift("sllv", x, back))
    if kind == "asr":
        return terms.shift("srav", x, terms.smin(k, terms.const(31)))
    found = terms.shift("sllv" if kind == "lsl" else "srlv", x, k)
    return terms.ite(terms.slt(k, terms.const(32)), found, terms.const(0))


# ---------------------------------------------------------------------- saturation
def limited(terms: BitTerms, x: BitTerm, width: int, signed: bool) -> BitTerm:
    """SSAT and USAT: the nearest number of so many bits."""
    least, most = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    return terms.smin(terms.smax(x, terms.const(least)), terms.const(most))


def limited_halves(terms: BitTerms, x: BitTerm, width: int, signed: bool) -> BitTerm:
    """SSAT16 and USAT16."""
    return joined(terms, *(limited(terms, half(terms, x, top), width, signed) for top in (0, 1)))


def full_sum(terms: BitTerms, a: BitTerm, b: BitTerm) -> BitTerm:
    """QADD: the nearest word to the signed a + b."""
    total = terms.add(a, b)
    if a.lo + b.lo >= LEAST and a.hi + b.hi <= MOST:
        return total
    return _full(terms, total, terms.and_(terms.xor(a, total), terms.xor(b, total)))


def full_difference(terms: BitTerms, a: BitTerm, b: BitTerm) -> BitTerm:
    """QSUB: the nearest word to the signed a - b."""
    total = terms.sub(a, b)
    if a.lo - b.hi >= LEAST and a.hi - b.lo <= MOST:
        return total
    return _full(terms, total, terms.and_(terms.xor(a, b), terms.xor(a, total)))


def _full(terms: BitTerms, total: BitTerm, signs: BitTerm) -> BitTerm:
    """The total, or where the sign bit of ``signs`` says that it overflowed the end that it passed."""
    end = terms.xor(terms.asr(total, 31), terms.const(LEAST))
    return terms.ite(terms.slt(signs, terms.const(0)), end, total)


FULL_SUMS: dict[str, Binary] = {
    "qadd": full_sum, "qsub": full_difference,
    "qdadd": lambda terms, a, b: full_sum(terms, a, full_sum(terms, b, b)),
    "qdsub": lambda terms, a, b: full_difference(terms, a, full_sum(terms, b, b)),
}
"""Of the second and the first operand as the word has them."""


# ---------------------------------------------------------------------- products
def _of_halves(x: int, y: int) -> Binary:
    return lambda terms, n, m: terms.mul(half(terms, n, x), half(terms, m, y))


def _of_word_and_half(y: int) -> Binary:
    return lambda terms, n, m: terms.mulshr(n, half(terms, m, y), 0, 16)


def _both(sign: int, crossed: int) -> Binary:
    """The product of the low halves plus or minus that of the top ones; crossed, m's halves are exchanged."""
    return lambda terms, n, m: terms.lin([(_of_halves(0, crossed)(terms, n, m), 1),
                                          (_of_halves(1, 1 - crossed)(terms, n, m), sign)])


def _high(rounded: int) -> Binary:
    return lambda terms, n, m: terms.mulshr(n, m, rounded << 31, 32)


def _high_difference(rounded: int) -> Product:
    """SMMLS: the high word of (a << 32) - n*m + r is a less that of n*m + 2**32 - 1 - r."""
    def product(terms: BitTerms, n: BitTerm, m: BitTerm, a: BitTerm) -> BitTerm:
        return terms.sub(a, terms.mulshr(n, m, MASK - (rounded << 31), 32))
    return product


HALVES = ("b", "t")
ALONE: dict[str, Binary] = {
    "mul": BitTerms.mul,
    **{f"smul{p}{q}": _of_halves(x, y) for x, p in enumerate(HALVES) for y, q in enumerate(HALVES)},
    **{f"smulw{q}": _of_word_and_half(y) for y, q in enumerate(HALVES)},
    "smuad": _both(1, 0), "smuadx": _both(1, 1), "smusd": _both(-1, 0), "smusdx": _both(-1, 1),
    "smmul": _high(0), "smmulr": _high(1),
    "sdiv": lambda terms, n, m: terms.divided("div", n, m), "udiv": lambda terms, n, m: terms.divided("divu", n, m),
}
"""Products and quotients of n and m; the flag Q that some set is never read."""


def _plus(product: Binary) -> Product:
    return lambda terms, n, m, a: terms.add(product(terms, n, m), a)


WITH_ADDEND: dict[str, Product] = {
    "mla": _plus(ALONE["mul"]),
    "mls": lambda terms, n, m, a: terms.sub(a, terms.mul(n, m)),
    **{name.replace("smul", "smla", 1): _plus(ALONE[name]) for name in ALONE if name.startswith("smul")},
    "smlad": _plus(ALONE["smuad"]), "smladx": _plus(ALONE["smuadx"]),
    "smlsd": _plus(ALONE["smusd"]), "smlsdx": _plus(ALONE["smusdx"]),
    "smmla": _plus(ALONE["smmul"]), "smmlar": _plus(ALONE["smmulr"]),
    "smmls": _high_difference(0), "smmlsr": _high_difference(1),
}
"""Of n, m and a."""


def long_sum(terms: BitTerms, a: Words, b: Words) -> Words:
    """a + b modulo 2**64."""
    low = terms.add(a[0], b[0])
    return low, terms.lin([(a[1], 1), (b[1], 1), (terms.sltu(low, b[0]), 1)])


def extended(terms: BitTerms, x: BitTerm) -> Words:
    """A signed word as 64 bits."""
    return x, terms.asr(x, 31)


def _long(terms: BitTerms, n: BitTerm, m: BitTerm, signed: bool) -> Words:
    return terms.mul(n, m), terms.mulshr(n, m, 0, 32, signed)


def signed_long_sum(terms: BitTerms, n: BitTerm, m: BitTerm, a: Words) -> Words:
    """SMLAL; a number as the low addend goes into the product's high word, where rounding is seen for what it is."""
    if not a[0].fixed:
        return long_sum(terms, _long(terms, n, m, True), a)
    return (terms.add(terms.mul(n, m), a[0]),
            terms.add(terms.mulshr(n, m, a[0].par[0] & MASK, 32), a[1]))


def _halves_added(*signed_pairs: tuple[int, int, int]) -> Callable[[BitTerms, BitTerm, BitTerm, Words], Words]:
    """Products of halves x of n and y of m, each with its sign, one after the other onto 64 bits."""
    def added(terms: BitTerms, n: BitTerm, m: BitTerm, a: Words) -> Words:
        for x, y, sign in signed_pairs:
            product = terms.lin([(_of_halves(x, y)(terms, n, m), sign)])
            a = long_sum(terms, a, extended(terms, product))
        return a
    return added


def _twice_added(terms: BitTerms, n: BitTerm, m: BitTerm, a: Words) -> Words:
    """UMAAL: n*m plus either word."""
    total = _long(terms, n, m, False)
    for word in a:
        total = long_sum(terms, total, (word, terms.const(0)))
    return total


LONG: dict[str, Callable[[BitTerms, BitTerm, BitTerm, Words], Words]] = {
    "smull": lambda terms, n, m, a: _long(terms, n, m, True),
    "umull": lambda terms, n, m, a: _long(terms, n, m, False),
    "smlal": signed_long_sum,
    "umlal": lambda terms, n, m, a: long_sum(terms, _long(terms, n, m, False), a),
    "umaal": _twice_added,
    **{f"smlal{p}{q}": _halves_added((x, y, 1)) for x, p in enumerate(HALVES) for y, q in enumerate(HALVES)},
    "smlald": _halves_added((0, 0, 1), (1, 1, 1)), "smlaldx": _halves_added((0, 1, 1), (1, 0, 1)),
    "smlsld": _halves_added((0, 0, 1), (1, 1, -1)), "smlsldx": _halves_added((0, 1, 1), (1, 0, -1)),
}
"""Of n, m and the 64 bits that the result replaces."""
