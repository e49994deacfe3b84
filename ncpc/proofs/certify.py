#!/usr/bin/env python3
"""Check, with Python alone, that the integer C beside this file can never overflow: for every input, for all time.

    python3 certify.py [FOLDER]        FOLDER holds certificate.json, NAME.c and NAME.h (default: where this file is)

Exit code 0: certified. 1: not certified, and why. 2: the folder cannot be read.

WHAT IS PROVED. Every state lies in its box [L, H] of the certificate, always: ``init``, ``reset`` and ``restore`` lead
into the boxes, and a ``step`` from any state in them, with any input and any dt that the C types hold, leads back. And
no operation on the way overflows its C type, divides by zero, shifts by too much or reaches beyond an array.

FROM WHAT. From the text of NAME.c and NAME.h, and the boxes. All else in the certificate is found again and compared.

IN WHICH ORDER TO READ.
1. NUMBERS: an unknown number is an interval with a C type; what C's operators do to intervals.
2. LEMMAS: what intervals cannot see, each proved beside its code; that a neuron's state stays in its box (``Boxes``) is
   the heart of it. Lemmas look at the *operations* that made a number. Only what stands in KNOWN is known by its text.
3. THE C: ``CProgram`` reads the small part of C that is generated, by recursive descent, and makes of each statement a
   Python function that carries it out on intervals. Loops have known bounds: they run. ``CProgram.form`` checks each
   result against its type. Anything that is not known is refused by its line.
4. THE CLAIM, as above, and the command line.

Section 3 is tested as it runs: the self test in NAME.c is carried out too, in exact numbers, and must find the numbers
that it expects. Taken for granted: two's complement, int of 32 bits, right shifts that round down (the C refuses to
compile where they do not), x and y that do not overlap, and a C compiler that is right.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import Any

CERTIFICATE = "certificate.json"
MOST_OPERATIONS = 650_000
"""Operations of a step beyond which a program is called too large for this checker: some seconds."""


class Refused(Exception):
    """Why the program is not certified."""


# 1. Numbers ---------------------------------------------------------------------------------------------------------

INT, WORD, LONG = "int32_t", "uint32_t", "int64_t"
BITS = {"int8_t": 8, "uint8_t": 8, "int16_t": 16, "uint16_t": 16, INT: 32, WORD: 32, LONG: 64}
RANGE = {name: (0, (1 << n) - 1) if name[0] == "u" else (-1 << n - 1, (1 << n - 1) - 1) for name, n in BITS.items()}


class CNumber:
    """A number somewhere in [lo, hi]. ``rule`` says why, ``how`` what it was made of: (operator, operands).

    Lemmas read ``how``. ("as", v) is the number v in another type, or where more is known of it.
    """

    __slots__ = ("hi", "how", "known", "lo", "rule", "type")

    def __init__(self, lo: int, hi: int, type_: str = INT, rule: str = "constant", how: Any = ("",)) -> None:
        self.lo, self.hi, self.type, self.rule, self.how, self.known = lo, hi, type_, rule, how, lo == hi


def exactly(n: int, type_: str = INT) -> CNumber:
    """A constant."""
    return CNumber(n, n, type_)


ZERO, ONE = exactly(0), exactly(1)


def root(v: CNumber) -> CNumber:
    """The value before its conversions. Two values with one root are the same number whenever they are formed."""
    while v.how[0] == "as":
        v = v.how[1]
    return v


def common(a: CNumber, b: CNumber) -> str:
    """The type that C computes a and b in; a negative number is not taken as an unsigned one."""
    if LONG in (a.type, b.type):
        return LONG
    if WORD in (a.type, b.type) and min(a.lo, b.lo) < 0:
        raise Refused("a negative number meets an unsigned one")
    return WORD if WORD in (a.type, b.type) else INT


def products(a: CNumber, b: CNumber) -> tuple[int, int]:
    """The bounds of a * b."""
    if a.known:
        return (a.lo * b.lo, a.lo * b.hi) if a.lo >= 0 else (a.lo * b.hi, a.lo * b.lo)
    ends = (a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi)
    return min(ends), max(ends)


def quotients(a: CNumber, b: CNumber) -> tuple[int, int]:
    """a / b for known numbers, rounded towards zero."""
    if not (a.known and b.known and b.lo > 0):
        raise Refused("a division of numbers that are not known, or not by a positive one")
    n = abs(a.lo) // b.lo * (1 if a.lo >= 0 else -1)
    return n, n


def shifts(apply: Callable[[int, int], int], a: CNumber, k: CNumber) -> tuple[int, int]:
    """The bounds of a >> k = floor(a / 2^k), or of a << k, for a known k."""
    type_ = common(a, ZERO)
    if not k.known or not 0 <= k.lo < BITS[type_] or (apply is operator.lshift and a.lo < 0):
        raise Refused(f"{type_} is shifted by {k.lo} .. {k.hi}")
    return apply(a.lo, k.lo), apply(a.hi, k.lo)


def bits(apply: Callable[[int, int], int], a: CNumber, b: CNumber) -> tuple[int, int]:
    """The bounds of a & b, a | b, a ^ b."""
    if a.known and b.known:
        return apply(a.lo, b.lo), apply(a.lo, b.lo)
    if apply is operator.and_ and b.known and not (a.lo ^ a.hi) & ~b.lo and not b.lo & b.lo + 1:
        return a.lo & b.lo, a.hi & b.lo  # the lowest bits, while the others stay the same
    most = (1 << max((n if n >= 0 else -n - 1).bit_length() for n in (a.lo, a.hi, b.lo, b.hi))) - 1
    return (0 if min(a.lo, b.lo) >= 0 else -most - 1), most


def compared(sign: str, a: CNumber, b: CNumber) -> tuple[int, int]:
    """1 or 0, or both where the intervals do not decide."""
    common(a, b)
    if sign in ("&&", "||"):
        yes, no = [v.lo > 0 or v.hi < 0 for v in (a, b)], [v.lo == v.hi == 0 for v in (a, b)]
        true, false = (all(yes), any(no)) if sign == "&&" else (any(yes), all(no))
    elif sign in ("==", "!="):
        same, apart = a.known and b.known and a.lo == b.lo, a.hi < b.lo or b.hi < a.lo
        true, false = (same, apart) if sign == "==" else (apart, same)
    else:
        low, high = (a, b) if sign == "<" else (b, a)
        true, false = low.hi < high.lo, low.lo >= high.hi
    return int(true), int(not false)


OPERATORS: dict[str, tuple[str, Callable[[CNumber, CNumber], tuple[int, int]]]] = {
    "+": ("sum", lambda a, b: (a.lo + b.lo, a.hi + b.hi)), "-": ("difference", lambda a, b: (a.lo - b.hi, a.hi - b.lo)),
    "*": ("product", products), "/": ("quotient", quotients),
    ">>": ("shift", partial(shifts, operator.rshift)), "<<": ("shift", partial(shifts, operator.lshift)),
    "&": ("bits", partial(bits, operator.and_)), "|": ("bits", partial(bits, operator.or_)),
    "^": ("bits", partial(bits, operator.xor))}
"""Operator -> rule, and bounds of the result."""
LEVELS = (("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", ">"), ("<<", ">>"), ("+", "-"), ("*", "/"))
BINDS = {sign: level for level, signs in enumerate(LEVELS, 1) for sign in signs}
"""How tightly each operator binds."""


def refined(a: CNumber, b: CNumber, less: bool) -> tuple[CNumber, CNumber]:
    """a and b where a < b is known to hold, or known not to."""
    ends = (a.lo, min(a.hi, b.hi - 1), max(b.lo, a.lo + 1), b.hi) if less else (
        max(a.lo, b.lo), a.hi, b.lo, min(b.hi, a.hi))
    return CNumber(*ends[:2], a.type, a.rule, ("as", a)), CNumber(*ends[2:], b.type, b.rule, ("as", b))


# 2. Lemmas ----------------------------------------------------------------------------------------------------------


def rounded(x: CNumber) -> tuple[CNumber, CNumber, int] | None:
    """(a, b, k) where x = (a * b + 2^(k-1)) >> k = floor(a*b / 2^k + 1/2)."""
    x = root(x)
    if x.how[0] != ">>" or root(x.how[1]).how[0] != "+":
        return None
    product, half = root(x.how[1]).how[1:]
    k = x.how[2].lo
    if root(product).how[0] != "*" or not half.known or k < 1 or half.lo != 1 << k - 1:
        return None
    return (*root(product).how[1:], k)


Lemma = tuple[tuple[int, int], str, Any]
"""Bounds of a sum, by which rule, and what it is (``CNumber.how``)."""


def mixed(a: CNumber, x: CNumber) -> Lemma | None:
    """a + floor((b - a)*t / 2^k + 1/2) lies between a and b for 0 <= t <= 2^k, as b - a is a whole number."""
    found = rounded(x)
    apart = root(found[0]) if found else ZERO
    if found is None or apart.how[0] != "-" or root(apart.how[2]) is not root(a):
        return None
    b, (_, t, k) = apart.how[1], found
    return ((min(a.lo, b.lo), max(a.hi, b.hi)), "between two", ("",)) if t.lo >= 0 and t.hi <= 1 << k else None


class Boxes:
    """The update of a neuron's state v, a number in the box [L, H], is, in C,

        v' = v + rounded(N - rounded(G * v, m) * inverse(d, q), k)        rounded(a, k) = floor(a / 2^k + 1/2)

    N = leak + sum_j floor(e_j*s_j / 2^p), G = gleak + sum_j floor(w_j*s_j / 2^p), d = c + G or c + ((G + h) >> r).
    s_j is what the sigmoid's table gives for synapse j, the same number in N and in G. Let

        gain = (1 + e) * 2^(46+q-k-m) * max G/d      unit = (1 + e) * 2^(46+q-k) / min d          (e: ``Reciprocal``)
        o = ceil(max(gain - 1, 0) * (H - L) + unit + 1/2)                  H' = H - o

    THE INEQUALITY:  for all s,  N * 2^m - G * H' <= 2^(m-1).

    Then v' <= H for every v in [L, H]. Write D = N - floor(G*v / 2^m + 1/2); G >= 0 and d >= 1 are checked.
    * v >= H': G*v >= G*H' >= N*2^m - 2^(m-1), so floor(G*v/2^m + 1/2) >= N: D <= 0, and v' <= v <= H.
    * v < H': N <= G*H'/2^m + 1/2 and floor(y + 1/2) > y - 1/2 give D < G*(H'-v)/2^m + 1. The change is at most
      D * inverse / 2^k + 1/2 <= gain*(H'-v) + unit + 1/2 (or 1/2 where D <= 0), so
      v' <= H' + (gain-1)*(H'-v) + unit + 1/2 <= H' + o = H.
    The mirror image, with L' = L + o and  G * L' - N * 2^m < 2^(m-1),  gives v' >= L. None of it depends on dt.

    The largest value over all s is the sum of each synapse's own largest (``worst``): exact whole numbers.
    """

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], dict[str, Any]] = {}
        self._worst: dict[tuple[int, ...], int] = {}

    def change(self, x: CNumber, reciprocal: Reciprocal | None) -> tuple[CNumber, int, int] | None:
        """(v, L, H) if x is the change in an update for which the inequality holds; """
        outer = rounded(x)
        drive, inverse = (root(outer[0]), root(outer[1])) if outer else (ZERO, ZERO)
        inner = rounded(drive.how[2]) if drive.how[0] == "-" and inverse.how[0] == "inverse" else None
        if outer is None or inner is None or reciprocal is None or root(inner[1]).how[0] != "state":
            return None
        n, (g, v, m), (d, q), k = drive.how[1], inner, inverse.how[1:], outer[2]
        v, shares = root(v), shares_of(n, g)
        name, lo, hi, over = v.how[1], v.lo, v.hi, overshoot(g, d, v.hi - v.lo, (46 + q - k, m), reciprocal.factor)
        if over is None or shares is None or g.lo < 0:
            return None
        leak, gleak, synapses = shares
        half = 1 << m - 1
        for side, sign, level, most in (("upper", 1, hi - over, half), ("lower", -1, lo + over, half - 1)):
            constant = sign * ((leak << m) - gleak * level)
            worst = [self.worst(e, p, w, r, s.lo, s.hi, m, level, sign) for e, p, w, r, s in synapses]
            total = constant + sum(worst)
            self.found[name, side] = {
                "state": name, "side": side, "box": [lo, hi], "overshoot": over, "level": level, "m": m,
                "constant": constant, "synapses": worst, "sum": total, "most": most}
            if total > most:
                raise Refused(f"{name}: its {side} bound {hi if sign > 0 else lo} is not invariant, {total} > {most}")
        return v, lo, hi

    def sum(self, v: CNumber, x: CNumber) -> Lemma | None:
        """v + x for the change x of v: a number of the box again."""
        same = x.how[0] == "change" and x.how[1] is root(v)
        return (x.how[2:], "box inequality", root(v).how) if same else None

    def worst(self, e: int, p: int, w: int, r: int, lo: int, hi: int, m: int, level: int, sign: int) -> int:
        """The largest sign * (floor(e*s/2^p)*2^m - floor(w*s/2^r)*level) for lo <= s <= hi.

        Along s = a, a + 2^b, a + 2*2^b, ..., b the larger of p and r, both floors change by fixed amounts, so the
        expression is linear and largest at one end. It is enough to look at the first and the last 2^b numbers.
        """
        key = (e, p, w, r, lo, hi, m, level, sign)
        if key not in self._worst:
            period = min(1 << max(p, r), hi - lo + 1)
            candidates = {*range(lo, lo + period), *range(hi - period + 1, hi + 1)}
            self._worst[key] = max(sign * (((e * s >> p) << m) - (w * s >> r) * level) for s in candidates)
        return self._worst[key]


def overshoot(g: CNumber, d: CNumber, width: int, scale: tuple[int, int], factor: Fraction) -> int | None:
    """o of the inequality; G/d is monotonic in G, so that its ends decide."""
    ends = [(end, least_divisor(root(d), root(g), end)) for end in (g.lo, g.hi)]
    if any(least < 1 for _, least in ends):
        return None
    unit: Fraction = factor * Fraction(2) ** scale[0]
    gain = unit / Fraction(2) ** scale[1] * max(end / least for end, least in ends)
    return ceil(max(gain - 1, Fraction(0)) * width + unit / min(least for _, least in ends) + Fraction(1, 2))


def least_divisor(d: CNumber, g: CNumber, end: int) -> Fraction:
    """The least d where G is ``end``: d = c + G, c + (G >> r), c + ((G + h) >> r); its own bound where it is none."""
    for c, x in ((d.how[1], root(d.how[2])), (d.how[2], root(d.how[1]))) if d.how[0] == "+" else ():
        if x is g:
            return Fraction(c.lo + end)
        if x.how[0] == ">>":
            inner, r = root(x.how[1]), x.how[2].lo
            h = inner.how[2].lo if inner.how[0] == "+" and root(inner.how[1]) is g and inner.how[2].known else 0
            if inner is g or h:
                return Fraction(end + h - (1 << r) + 1, 1 << r) + int(c.lo)
    return Fraction(d.lo)


def shares_of(n: CNumber, g: CNumber) -> tuple[int, int, list[tuple[int, int, int, int, CNumber]]] | None:
    """leak, gleak and for each synapse (e, p, w, r, s): its share of N is floor(e*s/2^p), that of G floor(w*s/2^r)."""
    left, right = terms_of(n), terms_of(g)
    if left is None or right is None:
        return None
    shared = {id(s): (w, r, s) for w, r, s in right[1]}
    if len(shared) < len(right[1]):
        return None
    found = []
    for e, p, s in left[1]:
        w, r, _ = shared.pop(id(s), (0, 0, s))
        found.append((e, p, w, r, s))
    return left[0], right[0], [*found, *((0, 0, w, r, s) for w, r, s in shared.values())]


def terms_of(v: CNumber) -> tuple[int, list[tuple[int, int, CNumber]]] | None:
    """v as a constant and terms (weight, shift, s), each floor(weight * s / 2^shift) for some number s."""
    terms = []
    while not (v := root(v)).known:
        x = root(v.how[2]) if v.how[0] == "+" else ZERO
        shift, x = (x.how[2].lo, root(x.how[1])) if x.how[0] == ">>" else (0, x)
        sides = [(w, root(s)) for w, s in (x.how[1:], x.how[:0:-1])] if x.how[0] == "*" else []
        term = next(((w.lo, shift, s) for w, s in sides if w.known), None)
        if term is None:
            return None
        terms.append(term)
        v = v.how[1]
    return v.lo, terms[::-1]


class LookupTable:
    """A function of C that looks up ``t >> k`` in a table of the range 0 .. ``last`` and interpolates.

    Intervals see little of it as a whole and all of it between two entries, where it rises or falls: so a range of t is
    cut there, and the C function is carried out on each piece, by ``run``. Wherever one cuts, that is right.
    """

    def __init__(self, run: Callable[[int, int], tuple[int, int]], k: int, last: int) -> None:
        if last >> k >= 1 << 16:
            raise Refused(f"a table of {(last >> k) + 1:,} entries is too large for this checker")
        self.run, self.k, self.last = cache(run), k, last
        self.least, self.most = zip(*(run(t, t + (1 << k) - 1) for t in range(0, last + 1, 1 << k)), strict=True)

    def bounds(self, lo: int, hi: int) -> tuple[int, int]:
        """The bounds over lo .. hi."""
        least, most = max(lo, 0), min(hi, self.last)
        first, final = least >> self.k, max(most, 0) >> self.k
        pieces = [(lo, min(hi, -1)), (max(lo, self.last + 1), hi), (least, min(most, (first + 1 << self.k) - 1))]
        pieces += [(final << self.k, most)] if first < final else []
        found = [self.run(*piece) for piece in pieces if piece[0] <= piece[1]]
        return (min([*(n for n, _ in found), *self.least[first + 1 : final]]),
                max([*(n for _, n in found), *self.most[first + 1 : final]]))


class Reciprocal:
    """``inverse(a, k)``, close to 2^(46+k) / a, for every normalized divisor m in [2^15, 2^16).

    With z zeros before a's highest one, m = a * 2^z >> 16, so that a * 2^z < (m + 1) * 2^16; r stands for 2^31 / m.
    inverse = r * 2^(z-1+k), hence inverse * a < r * (m+1) * 2^(15+k): with r * (m+1) <= (1 + e) * 2^31 for all m,
    inverse(a, k) <= (1 + e) * 2^(46+k) / a.
    """

    def __init__(self, seeds: tuple[int, ...]) -> None:
        if len(seeds) != 128:
            raise Refused("recip_seed must have 128 entries")
        self.r = [self._newton(m, seeds[m >> 8 & 127]) for m in range(1 << 15, 1 << 16)]
        self.factor = Fraction(max(r * (m + 1) for m, r in enumerate(self.r, 1 << 15)), 1 << 31)
        """1 + e."""

    def _newton(self, m: int, seed: int) -> int:
        product = m * seed
        residual = (1 << 31) - product >> 8
        correction = seed * residual
        r = seed + (correction + 4194304 >> 23)
        fits = product < 1 << 32 and abs((1 << 31) - product) < 1 << 31 and abs(correction) + 4194304 < 1 << 31
        if not fits or not 0 <= r < 1 << 31:
            raise Refused(f"inverse: a step overflows, or is negative, for the normalized divisor {m}")
        return r

    def bounds(self, lo: int, hi: int, k: int) -> tuple[int, int, int, int]:
        """Lowest and highest result, and lowest and highest shift, over lo .. hi: one span for each number of zeros."""
        found, shifts = [], []
        for length in range(lo.bit_length(), hi.bit_length() + 1):
            first, last = (n << 32 - length >> 16 for n in (max(lo, 1 << length - 1), min(hi, (1 << length) - 1)))
            part, shift = self.r[first - (1 << 15) : last + 1 - (1 << 15)], 31 - length + k
            shifts.append(shift)
            found += [min(part) << max(shift, 0), max(part) << max(shift, 0)]
        return min(found), max(found), min(shifts), max(shifts)


reciprocal = cache(Reciprocal)

KNOWN = r"""
#define PAIR(low, high) (((uint32_t)(low) & 0xFFFFu) | (uint32_t)(high) << 16)

#define LO16(word) ((int32_t)(int16_t)(word))

#define HI16(word) ((int32_t)(word) >> 16)

#define ULO16(word) ((int32_t)((word) & 0xFFFFu))

#define UHI16(word) ((int32_t)((word) >> 16))

#define BYTES(a, b, c, d) \
    (((uint32_t)(a) & 255u) | ((uint32_t)(b) & 255u) << 8 | ((uint32_t)(c) & 255u) << 16 | (uint32_t)(d) << 24)

#define BYTE{i}(word) ((int32_t)(int8_t)((word) >> {8i}))

#define UBYTE{i}(word) ((int32_t)((word) >> {8i} & 255u))

#define NIBBLES(low, high) (((uint32_t)(low) & 15u) | ((uint32_t)(high) & 15u) << 4)

#define NIBBLE{i}(word) ((int32_t)((uint32_t)(word) << {28-4i}) >> 28)

#if defined(__ARM_FEATURE_DSP)
#define FITS_16(number) ((int16_t)(number))
#else
#define FITS_16(number) (number)
#endif

#if defined(__GNUC__)
#define AT_WORD __attribute__((aligned(4)))
#else
#define AT_WORD
#endif

#if defined(__clang__)
#define NOT_UNROLLED _Pragma("clang loop unroll(disable)")
#else
#define NOT_UNROLLED
#endif

#ifdef {MACRO}_PROFILE
#define PROFILE_LABEL(name) __asm__ volatile(#name "_%=:" : :)
#else
#define PROFILE_LABEL(name) (void)0
#endif

#define WIDE(value, step) {value, step}

#if defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#include <arm_acle.h>
static inline int16x2_t pair_at(const int16_t *a)
{ int16x2_t pair; __builtin_memcpy(&pair, __builtin_assume_aligned(a, 4), sizeof pair); return pair; }
static inline int32_t dot(const int16_t *a, const int16_t *b, int n, int32_t sum)
{ for (int i = 0; i < n; i += 2) { sum = __smlad(pair_at(a + i), pair_at(b + i), sum); } return sum; }
#else
static inline int32_t dot(const int16_t *a, const int16_t *b, int n, int32_t sum)
{ for (int i = 0; i < n; i++) { sum += (int32_t)a[i] * b[i]; } return sum; }
#endif

static inline int32_t nibble(const uint8_t *a, int i)
{ return (int32_t)((uint32_t)a[i >> 1] << (28 - 4 * (i & 1))) >> 28; }

static inline int32_t dot_4(const uint8_t *a, const int16_t *b, int n, int32_t sum)
{ for (int i = 0; i + 1 < n; i += 2) { const int32_t low = NIBBLE0(a[i >> 1]); const int32_t high = NIBBLE1(a[i >> 1]);
  sum += low * b[i]; sum += high * b[i + 1]; }
if ((n & 1) != 0) { const int32_t last = NIBBLE0(a[n >> 1]); sum += last * b[n - 1]; } return sum; }

static int leading_zeros(uint32_t a)
{
#if defined(__GNUC__) && UINT_MAX == 0xFFFFFFFFu && (!defined(__arm__) || defined(__ARM_FEATURE_CLZ))
    return __builtin_clz(a);
#else
    int zeros = 0;
    for (int n = 16; n > 0; n >>= 1) { if (a >> (32 - n) == 0u) { zeros += n; a <<= n; } }
    return zeros;
#endif
}

static int32_t inverse(uint32_t a, int k)
{
    const int zeros = leading_zeros(a);
    const uint32_t m = (a << zeros) >> 16;
    const uint32_t seed = recip_seed[(m >> 8) & 127u];
    const int32_t residual = (int32_t)(0x80000000u - m * seed) >> 8;
    const int32_t r = (int32_t)seed + (((int32_t)seed * residual + 4194304) >> 23);
    return (int32_t)((uint32_t)r << (zeros - 1 + k));
}

static int32_t mulshr(int32_t a, int32_t b, int k)
{
    const int32_t a_high = a >> 16;
    const int32_t a_low = (int32_t)(a & 65535);
    const int32_t b_high = b >> 16;
    const int32_t b_low = b & 65535;
    const uint32_t low = (uint32_t)a_low * (uint32_t)b_low + (k <= 16 ? (uint32_t)1 << (k - 1) : 0u);
    const int32_t middle = a_low * b_high + (int32_t)(low >> 16) + (k > 16 && k <= 32 ? (int32_t)1 << (k - 17) : 0);
    const int32_t upper = a_high * b_low + (middle & 65535);
    const int32_t high = a_high * b_high + (middle >> 16) + (upper >> 16);
    if (k > 32) {
        return ((high >> (k - 33)) + 1) >> 1;
    }
    if (k == 32) {
        return high;
    }
    if (k > 16) {
        return (int32_t)(((uint32_t)high << (32 - k)) + (((uint32_t)upper & 65535u) >> (k - 16)));
    }
    return (int32_t)(((uint32_t)high << (32 - k)) + (((uint32_t)upper << 16 | (low & 65535u)) >> k));
}

static int32_t mulshr_u(uint32_t a, int32_t b, int k)
{
    const uint32_t a_high = a >> 16;
    const int32_t a_low = (int32_t)(a & 65535u);
    const int32_t b_high = b >> 16;
    const int32_t b_low = b & 65535;
    const uint32_t low = (uint32_t)a_low * (uint32_t)b_low + (k <= 16 ? (uint32_t)1 << (k - 1) : 0u);
    const int32_t middle = a_low * b_high + (int32_t)(low >> 16) + (k > 16 && k <= 32 ? (int32_t)1 << (k - 17) : 0);
    const uint32_t upper = a_high * (uint32_t)b_low + ((uint32_t)middle & 65535u);
    const int32_t high = (int32_t)a_high * b_high + (middle >> 16) + (int32_t)(upper >> 16);
    if (k > 32) {
        return ((high >> (k - 33)) + 1) >> 1;
    }
    if (k == 32) {
        return high;
    }
    if (k > 16) {
        return (int32_t)(((uint32_t)high << (32 - k)) + (((uint32_t)upper & 65535u) >> (k - 16)));
    }
    return (int32_t)(((uint32_t)high << (32 - k)) + (((uint32_t)upper << 16 | (low & 65535u)) >> k));
}

static int32_t mulshr_16(int32_t a, int32_t b, int k)
{
    const int32_t low = (a & 65535) * b;
    const int32_t high = (a >> 16) * b;
    if (k > 16) {
        return (high + (low >> 16) + ((int32_t)1 << (k - 17))) >> (k - 16);
    }
    return (int32_t)(((uint32_t)high << (16 - k)) + (uint32_t)((low + ((int32_t)1 << (k - 1))) >> k));
}

static int32_t mix_16(int32_t a, int32_t b, int32_t t, int k)
{
    const int32_t low = ((b & 65535) - (a & 65535)) * t;
    const int32_t high = ((b >> 16) - (a >> 16)) * t;
    const uint32_t rounded = (uint32_t)((low + ((int32_t)1 << (k - 1))) >> k);
    return (int32_t)((uint32_t)a + ((uint32_t)high << (16 - k)) + rounded);
}
"""
"""What is not read as C but known: macros on constants, hints to compilers, and what ``CProgram`` has in Python."""


def signed(word: int, width: int) -> int:
    """The lowest bits as a two's complement number."""
    return (word + (1 << width - 1) & (1 << width) - 1) - (1 << width - 1)


def byte(i: int, width: int, word: int) -> int:
    """Byte i of a word; with a width of 9 bits as a number that is never negative."""
    return signed(word >> 8 * i & 255, width)


def nibble(i: int, word: int) -> int:
    """The four bits from 4*i on as a number."""
    return signed(word >> 4 * i & 15, 4)


UNPACKING: dict[str, Callable[[int], int]] = {
    "LO16": lambda word: signed(word, 16), "HI16": lambda word: signed(word >> 16, 16),
    "ULO16": lambda word: word & 0xFFFF, "UHI16": lambda word: word >> 16,
    **{f"BYTE{i}": partial(byte, i, 8) for i in range(4)}, **{f"UBYTE{i}": partial(byte, i, 9) for i in range(4)},
    **{f"NIBBLE{i}": partial(nibble, i) for i in range(4)}}
PACKING = {"PAIR": (2, 16), "BYTES": (4, 8), "NIBBLES": (2, 4)}
"""How many numbers, of how many bits each."""


def macro(name: str, values: list[CNumber]) -> CNumber:
    """A macro of KNOWN, applied to constants; what is packed has to fit its part of the word."""
    n, (count, width) = [v.lo for v in values], PACKING.get(name, (1, 32))
    fits = len(n) == count and all(v.known and -(1 << width - 1) <= v.lo < 1 << width for v in values)
    if not fits or (name in UNPACKING and values[0].type not in (WORD, "uint16_t", "uint8_t")):
        raise Refused(f"{name} of numbers that are not known, or do not fit")
    if name in UNPACKING:
        return exactly(UNPACKING[name](n[0]))
    return exactly(sum((v & (1 << width) - 1) << width * i for i, v in enumerate(n)), WORD)


# 3. The C -----------------------------------------------------------------------------------------------------------

TOKEN = re.compile(r"\s*([A-Za-z_]\w*|\d+u?\b|->|\+\+|<<|>>|==|!=|&&|\|\||[+|]=|[-+*/<>=&|^?:;,.(){}\[\]])")
Site = tuple[int, str]
"""Where an operation stands: its line and its text."""
Do = Callable[[], Any]
"""An expression or a statement, to be carried out."""


class Array:
    """Numbers of a type, pointers, rows (Arrays) or structs (an Array per field); None where nothing was written yet.

    ``single``: a variable. ``word``: it begins at a multiple of four bytes. ``fixed``: constant. ``first``: the number
    of its first element, for a field of one struct of many. ``shared``: other arrays in the same memory, each with the
    byte at which this one begins in it.
    """

    def __init__(self, type_: str, cells: list[Any], name: str, *, single: bool = False, word: bool = False,
                 fixed: bool = False, first: int = 0) -> None:
        self.type, self.cells, self.name, self.first = type_, cells, name, first
        self.single, self.word, self.fixed = single, word, fixed
        self.shared: list[tuple[Array, int]] = []

    def held(self, at: int) -> Any:
        """What an element holds."""
        if at >= len(self.cells) or self.cells[at] is None:
            raise Refused(f"{self.name}[{self.first + at}] is read before it is written, or beyond the array")
        return self.cells[at]


class Pointer:
    """To an element of an Array, or behind its last one."""

    def __init__(self, to: Any, at: int = 0) -> None:
        if not isinstance(to, Array) or not 0 <= at <= len(to.cells):
            raise Refused("what is no array is pointed into, or beyond its end")
        self.to, self.at = to, at


def pointer(v: Any, type_: str = "") -> Pointer:
    """A pointer, or an array where a pointer is wanted; to elements of the type."""
    made = v if isinstance(v, Pointer) else Pointer(v)
    if made.to.type != (type_ or made.to.type):
        raise Refused(f"a pointer to {type_} is expected")
    return made


class Place:
    """An expression that can be written to; ``find``: its array and position, None for an array as a whole."""

    def __init__(self, find: Callable[[], tuple[Array, int | None]]) -> None:
        self.find = find

    def __call__(self) -> Any:
        array, at = self.find()
        return array if at is None else array.held(at)

    def one(self) -> tuple[Array, int]:
        """Array and position of a single number."""
        array, at = self.find()
        if at is None or at >= len(array.cells):
            raise Refused(f"{array.name} is written as a whole, or beyond its end")
        return array, at


class CProgram:
    """NAME.c and NAME.h, read and ready to be carried out: ``call``."""

    def __init__(self, c: str, h: str) -> None:
        self.boxes, self.tables = Boxes(), dict[str, LookupTable]()
        self.reciprocal: Reciprocal | None = None
        self.known, self.structs = set[str](), {"wide_entry_t": [(INT, "value"), (INT, "step")]}
        self.globals: dict[str, Any] = {}
        self.functions: dict[str, tuple[str, list[tuple[str, str]], Do]] = {}
        """Type, parameters, body."""
        self.env: dict[str, Any] = {}
        """The variables of the function that runs; ``hidden``: names declared in it, and what each stood for before."""
        self.hidden: list[tuple[str, Any]] = []
        self.recording, self.operations, self.line, self.caller = False, 0, 0, (0, "")
        self.seen: dict[Any, list[Any]] = {}
        """(Call, operation) -> type, rule, lowest, highest."""
        self.stored: dict[Any, list[Any]] = {}
        """(Variable, element) -> type, rule, lowest, highest."""
        self.journal: dict[tuple[int, int], tuple[list[Any], int, Any]] | None = None
        """What a branch that may or may not be taken has overwritten: cells, position, what is there if it is not."""
        self.tokens, self.lines, self.at, self.function = list[str](), list[int](), 0, ""
        self._header(h)
        self._source(c)
        while self.tokens[self.at]:
            self.line = self.lines[self.at]
            self._declaration()
        if not set(self.prototypes) <= set(self.functions):
            raise Refused("source: not all functions of the header are there")

    # Carrying out.

    def form(self, site: Site, lo: int, hi: int, type_: str, rule: str, how: Any = ("",)) -> CNumber:
        """The result of an operation, after the check that it fits its type."""
        if lo < RANGE[type_][0] or hi > RANGE[type_][1]:
            raise Refused(f"{site[1]} may reach {lo} .. {hi}, outside {type_}")
        if not self.recording:
            return CNumber(lo, hi, type_, rule)
        self.operations += 1
        if self.operations > MOST_OPERATIONS:
            raise Refused(f"more than {MOST_OPERATIONS:,} operations in a step: too large for this checker")
        widen(self.seen, (self.caller, site), lo, hi, type_, rule)
        return CNumber(lo, hi, type_, rule, how)

    def convert(self, site: Site, v: Any, type_: str) -> CNumber:
        """A number in another type, which has to hold it."""
        if not isinstance(v, CNumber):
            raise Refused(f"{site[1]}: a number is expected")
        if v.type == type_:
            return v
        return self.form(site, v.lo, v.hi, type_, v.rule if v.known else "conversion", ("as", v))

    def store(self, site: Site, array: Array, at: int, v: Any) -> None:
        """Write an element: a pointer of its type, or a number that fits its type."""
        if array.fixed:
            raise Refused(f"{site[1]}: a constant is written")
        if array.type not in BITS:
            if array.type[-1] != "*" and not (isinstance(v, dict) and all(field.fixed for field in v.values())):
                raise Refused(f"{site[1]}: a struct that is no constant is copied")
            self._write(array, at, pointer(v, array.type[:-1]) if array.type[-1] == "*" else v)
            return
        v = self.convert(site, v, array.type)
        self._write(array, at, v)
        size = BITS[array.type] // 8
        for other, offset in array.shared:  # other numbers in the same bytes are gone
            byte, width = offset + at * size, BITS[other.type] // 8
            for i in range(max(0, byte // width), min(len(other.cells), -(-(byte + size) // width))):
                self._write(other, i, None)
        if self.recording:
            widen(self.stored, (array.name, array.first + at), v.lo, v.hi, array.type, v.rule)

    def _write(self, array: Array, at: int, v: Any) -> None:
        if self.journal is not None:
            self.journal.setdefault((id(array.cells), at), (array.cells, at, array.cells[at]))
        array.cells[at] = v

    def apply(self, site: Site, sign: str, a: Any, b: Any) -> Any:
        """a sign b."""
        if a.__class__ is not CNumber or b.__class__ is not CNumber:
            return self._pointers(sign, a, b)
        if sign not in OPERATORS:
            return CNumber(*compared(sign, a, b), INT, "comparison")
        rule, bounds = OPERATORS[sign]
        (lo, hi), how, type_ = bounds(a, b), (sign, a, b), common(a, ZERO if rule == "shift" else b)
        if sign == "+" and b.how[0] in ("as", ">>", "change"):
            lemma = self.boxes.sum(a, root(b)) or mixed(a, b)
            if lemma:
                (least, most), rule, how = lemma
                lo, hi = max(lo, least), min(hi, most)
        made = self.form(site, lo, hi, type_, rule, how)
        change = self.boxes.change(made, self.reciprocal) if sign == ">>" and a.how[0] == "+" else None
        if change is None:
            return made
        width = change[2] - change[1]  # two numbers of the box are so far apart at most
        return CNumber(max(lo, -width), min(hi, width), type_, "box inequality", ("change", *change))

    def _pointers(self, sign: str, a: Any, b: Any) -> Any:
        a = pointer(a)
        if sign == "+" and isinstance(b, CNumber) and b.known:
            return Pointer(a.to, a.at + b.lo)
        if sign not in ("==", "!=") or isinstance(b, CNumber) or a.to is not pointer(b).to:
            raise Refused("of pointers, only a sum with a known number and a comparison within one array are known")
        return ONE if (a.at == b.at) == (sign == "==") else ZERO

    def call(self, site: Site, name: str, arguments: list[Any]) -> Any:
        """A function's result."""
        own: dict[str, Callable[..., CNumber]] = {
            "inverse": self._inverse, "dot": self._dot, "dot_4": self._dot_4, "nibble": self._nibble,
            "mulshr": self._mulshr, "mulshr_u": self._mulshr, "mulshr_16": self._mulshr_16, "mix_16": self._mix_16}
        if name in self.known and name in own:
            return own[name](site, *arguments)
        if name in self.known:
            return self.convert(site, arguments[0], "int16_t") if name == "FITS_16" else macro(name, arguments)
        if name in self.tables and self.recording:
            t = self.convert(site, arguments[0], INT)
            return self.form(site, *self.tables[name].bounds(t.lo, t.hi), INT, "table")
        if name not in self.functions:
            raise Refused(f"{name} is no function that is known")
        returns, parameters, body = self.functions[name]
        env = {}
        for (of, parameter), v in zip(parameters, arguments, strict=True):
            v = pointer(v, of[:-1]) if of[-1] == "*" else self.convert(site, v, of)
            env[parameter] = Array(of, [v], f"{name}: {parameter}", single=True)
        outer, self.env, self.caller = (self.env, self.caller, self.line), env, site
        body()
        self.env, self.caller, self.line = outer
        return None if returns == "void" else self.convert(site, env.get("return"), returns)

    def bounds(self, name: str, lo: int, hi: int) -> tuple[int, int]:
        """The bounds of a function of one number in lo .. hi."""
        before, self.recording = self.recording, False
        found = self.call((0, name), name, [CNumber(lo, hi)])
        self.recording = before
        return found.lo, found.hi

    def _inverse(self, site: Site, a: CNumber, k: CNumber) -> CNumber:
        a = self.convert(site, a, WORD)
        if a.lo < 1 or a.hi >= 1 << 31 or not k.known or self.reciprocal is None:
            raise Refused(f"{site[1]}: the divisor may be {a.lo} .. {a.hi}")
        lo, hi, least, most = self.reciprocal.bounds(a.lo, a.hi, k.lo)
        if least < 0 or most > 31:
            raise Refused(f"{site[1]} shifts by {least} .. {most}")
        self.form((site[0], f"{site[1]}: zeros - 1 + k"), least, most, INT, "shift amount")
        return self.form(site, lo, hi, INT, "reciprocal", ("inverse", a, k.lo))

    def _mulshr(self, site: Site, a: CNumber, b: CNumber, k: CNumber) -> CNumber:
        """floor(a*b / 2^k + 1/2) from products of 16-bit parts, formed here in 64 bits. With h = 2^16 - 1, a_low <= h,
        a_high in [-2^15, 2^15 - 1] (of an unsigned a in [0, h]) and b alike, no sum in it leaves its type: low <= h*h +
        2^15 < 2^32, middle <= h*(2^15 - 1) + (h - 1) + 2^15 = 2^31 - 1, upper <= (2^15 - 1)*h + h (or h*h + h < 2^32),
        and high, with what is added to it one after another, in [-h*2^15 - 2^15, 2^31 - 1].
        """
        if not k.known or not 1 <= k.lo < 63:
            raise Refused(f"{site[1]}: a shift by {k.lo} .. {k.hi}")
        return self.convert(site, self._rounded(site, a, b, k.lo), INT)

    def _mulshr_16(self, site: Site, a: CNumber, b: CNumber, k: CNumber) -> CNumber:
        """The same for b in [-2^15, 2^15): low + half <= h*(2^15 - 1) + 2^15 < 2^31, and high, in [-2^30, 2^30], has
        room for the half of 2^29 at most and for low >> 16.
        """
        if b.lo < -1 << 15 or b.hi >= 1 << 15 or k.hi > 46:
            raise Refused(f"{site[1]}: {b.lo} .. {b.hi} is no number of 16 bits, or the shift above 46")
        return self._mulshr(site, a, b, k)

    def _mix_16(self, site: Site, a: CNumber, b: CNumber, t: CNumber, k: CNumber) -> CNumber:
        """a + floor((b - a)*t / 2^k + 1/2): the differences of low and of high halves are in [-h, h], and h*2^15 +
        2^14 < 2^31 for 0 <= t <= 2^k <= 2^15.
        """
        if not k.known or not 1 <= k.lo <= 15 or t.lo < 0 or t.hi > 1 << k.lo:
            raise Refused(f"{site[1]}: a weight of {t.lo} .. {t.hi} by 2^{k.lo}")
        apart = self.apply((site[0], f"{site[1]}: b - a"), "-", self.convert(site, b, LONG), a)
        return self.convert(site, self.apply(site, "+", a, self._rounded(site, apart, t, k.lo)), INT)

    def _rounded(self, site: Site, a: CNumber, b: CNumber, k: int) -> Any:
        """(a*b + 2^(k-1)) >> k in 64 bits."""
        line, text = site
        product = self.apply((line, f"{text}: a * b"), "*", self.convert(site, a, LONG), b)
        total = self.apply((line, f"{text}: + half"), "+", product, exactly(1 << k - 1, LONG))
        return self.apply((line, f"{text}: >> k"), ">>", total, exactly(k))

    def _dot(self, site: Site, a: Any, b: Any, n: CNumber, total: CNumber) -> CNumber:
        """sum + a . b. Cores with SIMD form two products at once and add them modulo 2^32: the same where sums fit."""
        a, b = pointer(a, "int16_t"), pointer(b, "int16_t")
        if not n.known or n.lo < 0 or n.lo % 2 or any(p.at % 2 or not p.to.word for p in (a, b)):
            raise Refused(f"{site[1]}: an even number of elements, from arrays that begin at words, is needed")
        return self._products(site, [(a.to.held(a.at + i), b.to.held(b.at + i)) for i in range(n.lo)], total)

    def _dot_4(self, site: Site, a: Any, b: Any, n: CNumber, total: CNumber) -> CNumber:
        """sum + a . b, where a byte of a holds two numbers, in order."""
        b = pointer(b, "int16_t")
        if not n.known or n.lo < 0:
            raise Refused(f"{site[1]}: how many numbers is not known")
        return self._products(site, [(self._nibble(site, a, exactly(i)), b.to.held(b.at + i)) for i in range(n.lo)],
                              total)

    def _nibble(self, site: Site, a: Any, i: CNumber) -> CNumber:
        """Number i of those of which a byte holds two."""
        a = pointer(a, "uint8_t")
        if not i.known or i.lo < 0 or not (held := a.to.held(a.at + (i.lo >> 1))).known:
            raise Refused(f"{site[1]}: no constant, or not known which")
        return exactly(nibble(i.lo & 1, held.lo))

    def _products(self, site: Site, pairs: list[tuple[CNumber, CNumber]], total: CNumber) -> CNumber:
        """total + the products of the pairs, one after another."""
        lo, hi = total.lo, total.hi
        for a, b in pairs:
            ends = products(a, b)
            self.form((site[0], f"{site[1]}: a[i] * b[i]"), *ends, INT, "product")
            lo, hi = lo + ends[0], hi + ends[1]
            self.form((site[0], f"{site[1]}: sum"), lo, hi, INT, "sum")
        return self.form(site, lo, hi, INT, "sum")

    def sides(self, test: Do, go: CNumber) -> list[tuple[list[Any], int, Any, Any, Any]]:
        """For an open comparison: cells and position of each variable in it; its number, if it holds, and if not."""
        if go.known or not isinstance(test, Binary) or test.sign not in ("<", ">"):
            return []
        low, high = (test.left, test.right) if test.sign == "<" else (test.right, test.left)
        a, b = low(), high()
        found = []
        for place, yes, no in zip((low, high), refined(a, b, True), refined(a, b, False), strict=True):
            if isinstance(place, Place):
                array, at = place.one()
                found.append((array.cells, at, array.cells[at], yes, no))
        return found

    def choice(self, site: Site, test: Do, yes: Do, no: Do) -> CNumber:
        """test ? yes : no. Both sides are looked at: they decide the type together."""
        go, found = test(), list[Any]()
        sides = self.sides(test, go)
        for do, side in ((yes, 3), (no, 4)):
            for narrowed in sides:
                narrowed[0][narrowed[1]] = narrowed[side]
            found.append(do())
            for cells, at, before, *_ in sides:
                cells[at] = before
        a, b = found
        if go.known:
            return self.convert(site, a if go.lo else b, common(a, b))
        return self.form(site, min(a.lo, b.lo), max(a.hi, b.hi), common(a, b), "either of two")

    def branch(self, test: Do, body: Do) -> None:
        """if: a branch that may or may not be taken is carried out, and what it wrote joined with what was there."""
        go = test()
        if go.known:
            if go.lo:
                body()
            return
        outer, self.journal = self.journal, {}
        sides = self.sides(test, go)
        for cells, at, _, yes, _ in sides:
            cells[at] = yes
        body()
        written, self.journal = self.journal, outer
        for cells, at, before, *_ in sides:
            if (id(cells), at) not in written:
                cells[at] = before
        left = {(id(cells), at): (before, no) for cells, at, before, _, no in sides}
        for key, (cells, at, old) in written.items():
            before, no = left.get(key, (old, old))
            if outer is not None:
                outer.setdefault(key, (cells, at, before))
            cells[at] = hull(no, cells[at])

    def loop(self, start: Do, test: Do, step: Do, body: Do) -> None:
        """for: as often as its condition says, which may not depend on inputs."""
        outer = len(self.hidden)
        start()
        while (go := test()).known and go.lo:
            body()
            step()
        if not go.known:
            raise Refused("how often this loop runs depends on inputs")
        self.leave(outer)

    def block(self, statements: list[tuple[int, Do]]) -> None:
        """Statements one by one; variables they declare end with them."""
        outer = len(self.hidden)
        for line, do in statements:
            self.line = line
            do()
        self.leave(outer)

    def declare(self, name: str, made: Array) -> Array:
        """A new variable, which may hide another one."""
        self.hidden.append((name, self.env.get(name)))
        self.env[name] = made
        return made

    def leave(self, outer: int) -> None:
        """The variables declared since there were ``outer`` hidden ones are gone."""
        while len(self.hidden) > outer:
            name, before = self.hidden.pop()
            self.env[name] = before

    def instance(self, state: dict[str, list[Any]] | None = None) -> Array:
        """One instance of the network: with this state, or with nothing written to it yet."""
        made = {n: Array(of, list(state[n]) if state else [None] * max(size, 1), n, single=not size)
                for of, n, size in self.state}
        arena = [(Array(of, [None] * n, name, word=offset % 4 == 0), offset) for offset, of, n, name in self.arena]
        for array, offset in arena:
            array.shared = [(other, offset - o) for other, o in arena if other is not array]
        numbers = {a.name: struct("", {"numbers": a}) for a, _ in arena}
        return struct(f"{self.name}_t", {"state": struct(f"{self.name}_state_t", made), "arena": struct("", numbers)})

    # Reading: NAME.h is one regular expression, NAME.c is read token by token.

    def _header(self, h: str) -> None:
        m = HEADER.fullmatch("".join(f"{line}\n" for _, line in lines_of(h, "header")))
        if not m:
            raise Refused("header: it is not as generated headers are")
        self.macro, self.name = m["macro"], m["name"]
        self.types = {**{of: of for of in BITS}, "int": INT, "void": "void", f"{self.name}_t": f"{self.name}_t",
                      f"{self.name}_state_t": f"{self.name}_state_t"}
        self.x, self.y = ((self.types[m[port]], int(m[f"{port}s"])) for port in "xy")
        self.dt = self.types[f"{self.name}_dt_t"] = self.types[m["dt"] or "void"]
        for name, text in re.findall(r"#define (\w+) (\d+u?)\n", m["defines"]):
            self._new(name, literal(text))
        self.state = [(self.types[of], name, int(n or 0)) for of, name, n in re.findall(
            r"(\w+) (\w+)(?:\[(\d+)\])?;", m["state"]) if (of, name) != ("char", "none")]
        self.arena = [(int(before or 0), self.types[of], int(n), name) for before, of, n, name in re.findall(
            r"struct \{ (?:char before\[(\d+)\]; )?(\w+) numbers\[(\d+)\]; \} (\w+);", m["arena"] or "")]
        lines = [TOKEN.findall(line) for line in m["prototypes"].split(";")[:-1]]
        self.prototypes = {next(t for t in line if t.startswith(f"{self.name}_") and t not in self.types): line
                           for line in lines}

    def _source(self, c: str) -> None:
        """The tokens of the source. What is known by its text is taken out first."""
        lines = lines_of(c, "source")
        text = "".join(f"{line}\n" for _, line in lines)
        head = (f'#include "{self.name}.h"\n#include <limits.h>\n'
                "typedef char arithmetic_shift[(-5 >> 1) == -3 ? 1 : -1];\n")
        if not text.startswith(head):
            raise Refused("it does not begin as generated sources do")
        text = "\n\n\n" + text[len(head) :]
        for piece in known_pieces(self.macro):
            if m := re.search(f"(?<=\n){piece}\n", text):
                self.known |= set(re.findall(r"(?:#define |^static (?:inline )?\w+ )(\w+)", m[0], re.M))
                text = text[: m.start()] + "\n" * m[0].count("\n") + text[m.end() :]
        self.hints = {m[1]: (int(m[3]), int(m[2])) for m in re.finditer(
            r"^static int32_t (\w+)\(int32_t t\)\n.*\n.* \(t > (\d+) .*\n.*\[inside >> (\d+)\];$", text, re.M)}
        for (n, _), line in zip(lines, text.split("\n"), strict=False):
            at = 0
            while at < len(line):
                m = TOKEN.match(line, at)
                if not m:
                    raise Refused(f"line {n}: '{line[at:].strip()[:40]}' is not known")
                self.tokens.append(m[1])
                self.lines.append(n)
                at = m.end()
        self.tokens.append("")  # the end
        self.lines.append(0)

    def _peek(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else ""

    def _next(self, pattern: str = r"[A-Za-z_]\w*") -> str:
        """The next token: a name, if nothing else is wanted."""
        if not re.fullmatch(pattern, self._peek()):
            self._refuse("a name" if "A-Z" in pattern else pattern)
        self.at += 1
        return self.tokens[self.at - 1]

    def _refuse(self, wanted: str) -> None:
        raise Refused(f"line {self.lines[self.at]}: '{self._peek()}' stands where {wanted} is expected")

    def _take(self, *words: str) -> bool:
        """Whether these tokens come next; they are then read."""
        found = self.tokens[self.at] == words[0] and self.tokens[self.at : self.at + len(words)] == list(words)
        self.at += len(words) * found
        return found

    def _need(self, *words: str) -> None:
        if not self._take(*words):
            self._refuse(f"'{' '.join(words)}'")

    def _hint(self, name: str) -> bool:
        """A macro of KNOWN that is no function."""
        return name in self.known and self._take(name)

    def _list(self, item: Callable[[], Any], end: str) -> list[Any]:
        """Items with commas between them, and perhaps behind the last one."""
        found = []
        while not self._take(end):
            found.append(item())
            if not self._take(","):
                self._need(end)
                break
        return found

    def _site(self, start: int) -> Site:
        text = re.sub(r" (?=[\]\[),;.]|->|\+\+)|(?<=[\[(.]) |(?<=->) ", "", " ".join(self.tokens[start : self.at]))
        return self.lines[start], re.sub(r"(?<=\w) \(", "(", text)

    def _type(self) -> str:
        """A type, with * for a pointer."""
        of = self._next()
        if of not in self.types and of not in self.structs:
            self.at -= 1
            self._refuse("a type")
        return self.types.get(of, of) + "*" * self._take("*")

    def _sizes(self) -> list[int]:
        sizes = []
        while self._take("["):
            sizes.append(self._expression()().lo)
            self._need("]")
        return sizes

    # Declarations outside of functions.

    def _new(self, name: str, what: Any) -> None:
        """A name of the whole file."""
        if self._own(name) in self.globals:
            raise Refused(f"{name} is defined twice")
        if what is not None:
            self.globals[name] = what

    def _own(self, name: str) -> str:
        """A variable's name: one that hides nothing but an array; in C it would hide a number, a function or a type."""
        tables: tuple[Any, ...] = (self.functions, self.known, self.types, self.structs)
        if any(name in table for table in tables) or isinstance(self.globals.get(name), CNumber):
            raise Refused(f"{name} is defined twice")
        return name

    def _declaration(self) -> None:
        if self._take("enum", "{"):
            self._list(lambda: self._new(self._next(), self._take("=") and literal(self._next(r"\d+u?"))), "}")
        elif self._take("typedef", "struct"):
            fields, name = self._fields(), self._next()
            if name != "wide_entry_t" or fields != self.structs[name]:
                self._new(name, None)
            self.structs[name] = fields
        elif self._take("static", "const"):
            word, of, name, sizes = self._hint("AT_WORD"), self._next(), self._next(), self._sizes()
            self._need("=")
            self._new(name, self._array(name, of, sizes, word, self._initializer()))
        else:
            self._function()
            return
        self._need(";")

    def _fields(self) -> list[tuple[str, str]]:
        self._need("{")
        fields = []
        while not self._take("}"):
            fields.append((self._next("|".join(BITS)), self._next()))
            self._need(";")
        return fields

    def _initializer(self) -> Any:
        """Numbers, in lists where there are braces."""
        if self._take("{") or (self._peek() == "WIDE" and self._hint("WIDE")):
            return self._list(self._initializer, ")" if self._take("(") else "}")
        return self._expression()()

    def _array(self, name: str, of: str, sizes: list[int], word: bool, data: list[Any]) -> Array:
        """A constant array; rows begin at words too where the array does and they are even."""
        if len(data) != sizes[0]:
            raise Refused(f"{name}: {len(data)} numbers where {sizes[0]} are declared")
        if len(sizes) > 1:
            even = word and BITS[of] == 16 and sizes[-1] % 2 == 0
            data = [self._array(f"{name}[{i}]", of, sizes[1:], even, row) for i, row in enumerate(data)]
        elif of in self.structs:
            data = [{f: Array(t, [self.convert((0, name), v, t)], f"{name}.{f}", single=True, fixed=True, first=i)
                     for (t, f), v in zip(self.structs[of], row, strict=True)} for i, row in enumerate(data)]
        else:
            data = [self.convert((0, name), v, of) for v in data]
        if name == "recip_seed":
            self.reciprocal = reciprocal(tuple(v.lo for v in data))
        return Array(of if len(sizes) == 1 else "rows", data, name, word=word, fixed=True)

    def _function(self) -> None:
        """TYPE NAME(PARAMETERS) { ... return ...; }: one of the header, or a static one of numbers alone."""
        start, static = self.at, self._take("static")
        returns, name = self._type(), self._next()
        self._new(name, None)
        self._need("(")
        parameters = [] if self._take("void", ")") else self._list(self._parameter, ")")
        pure = static and not any(of[-1] == "*" for of, _ in parameters)
        if self.tokens[start : self.at] != self.prototypes.get(name) and not pure:
            raise Refused(f"line {self.lines[start]}: {name} is not declared so in the header")
        self.function = name
        self.functions[name] = returns, parameters, self._block(last=True)
        if name in self.hints:
            self.tables[name] = LookupTable(lambda lo, hi: self.bounds(name, lo, hi), *self.hints[name])

    def _parameter(self) -> tuple[str, str]:
        self._take("const")
        of, name = self._type(), self._own(self._next())
        return of + "*" * bool(self._sizes()), name

    # Statements.

    def _block(self, last: bool = False) -> Do:
        """{ ... }. ``return`` may stand at a function's end only."""
        self._need("{")
        statements = []
        while not self._take("}"):
            line = self.lines[self.at]
            if self._take("return"):
                statements.append((line, self._return()))
                if not last or self._peek() != "}":
                    raise Refused(f"line {line}: return stands before the end of its function")
            else:
                statements.append((line, self._statement()))
        return lambda: self.block(statements)

    def _return(self) -> Do:
        value = self._expression()
        self._need(";")
        return lambda: self.env.update({"return": value()})

    def _statement(self) -> Do:
        if self._hint("NOT_UNROLLED"):
            return bool
        if self._peek() == "{":
            return self._block()
        if self._take("if", "("):
            test = self._expression()
            self._need(")")
            body = self._block()
            return lambda: self.branch(test, body)
        if self._take("for", "("):
            start = bool if self._peek() == ";" else self._local()
            self._need(";")
            test = self._expression()
            self._need(";")
            step = self._assignment()
            self._need(")")
            body = self._block()
            return lambda: self.loop(start, test, step, body)
        if self._hint("PROFILE_LABEL"):
            self._need("(", self._peek(1), ")")
            do: Do = bool
        elif self._take("(", "void", ")"):
            do = self._unary(whole=True)
        else:
            declares = self._peek() in ("const", "static", "struct", *self.types, *self.structs)
            do = self._local() if declares or self._peek() == "AT_WORD" else self._assignment()
        self._need(";")
        return do

    def _local(self) -> Do:
        """A variable, array, struct array, pointer or (in the self test) instance."""
        start, static, word = self.at, self._take("static"), self._hint("AT_WORD")
        constant = self._take("const")
        fields = self._fields() if self._take("struct") else None
        of = "struct" if fields else self._type()
        self._take("const")
        name, sizes = self._own(self._next()), self._sizes()
        if static and of != f"{self.name}_t" and (of[-1] == "*" or not constant):
            raise Refused(f"line {self.lines[start]}: {name} would keep its number from call to call")
        values: list[Do] = []
        if self._take("="):
            values = self._list(self._expression, "}") if self._take("{") else [self._expression()]
        site, where, size = self._site(start), f"{self.function}: {name}", sizes[0] if sizes else 1

        def run() -> None:
            if of == f"{self.name}_t":
                self.declare(name, self.instance())
                return
            given = [value() for value in values]
            cells = [{f: Array(t, [None], f"{where}.{f}", single=True, first=i) for t, f in fields or []}
                     for i in range(size)] if fields else [None] * size
            made = self.declare(name, Array(of, cells, where, single=not sizes, word=word))
            for i, v in enumerate(given + [ZERO] * (size - len(given)) if given else []):
                self.store(site, made, i, v)

        return run

    def _assignment(self) -> Do:
        """PLACE = VALUE, PLACE += VALUE, PLACE |= VALUE, PLACE++, or a call."""
        start, target = self.at, self._unary(whole=True)
        if not isinstance(target, Place):
            return target
        sign = self._next(r"[+|]?=|\+\+")
        value = (lambda: ONE) if sign == "++" else self._expression()
        site = self._site(start)
        if sign == "=":
            return lambda: self.store(site, *target.one(), value())
        return lambda: self.store(site, *target.one(), self.apply(site, sign[0], target(), value()))

    # Expressions, by how tightly their operators bind. ``whole``: the statement is nothing else.

    def _expression(self) -> Do:
        start, test = self.at, self._binary(1)
        if not self._take("?"):
            return test
        yes = self._expression()
        self._need(":")
        no = self._expression()
        site = self._site(start)
        return lambda: self.choice(site, test, yes, no)

    def _binary(self, least: int) -> Do:
        """Operators that bind as tightly as ``least``, from left to right."""
        start, left = self.at, self._unary()
        while (level := BINDS.get(self._peek(), 0)) >= least:
            sign, right = self._next(".*"), self._binary(level + 1)
            left = Binary(self, self._site(start), sign, left, right)
        return left

    def _unary(self, whole: bool = False) -> Do:
        start = self.at
        if self._take("-"):
            inner = self._unary()
            site = self._site(start)
            return lambda: self.apply(site, "-", ZERO, inner())
        if self._take("&"):
            place = self._unary()
            if isinstance(place, Place):
                return lambda: Pointer(*place.one())
            self._refuse("the address of a variable")
        if self._peek() == "(" and self._peek(1) in BITS:
            of = self._peek(1)
            self._need("(", of, ")")
            inner = self._unary()
            site = self._site(start)
            return lambda: self.convert(site, inner(), of)
        return self._postfix(whole)

    def _postfix(self, whole: bool) -> Do:
        """A name, number, call or parenthesis, then any of [i], .field, ->field."""
        start = self.at
        if self._take("("):
            do = self._expression()
            self._need(")")
        elif self._peek()[:1].isdigit():
            v = literal(self._next(r"\w+"))
            return lambda: v
        elif self._peek(1) == "(":
            name = self._next()
            self._need("(")
            arguments = self._list(self._expression, ")")
            site = self._site(start)
            if name in self.prototypes and not whole:
                raise Refused(f"line {site[0]}: {name} is called within an expression")
            return lambda: self.call(site, name, [argument() for argument in arguments])
        else:
            do = self._variable(self._next())
        while self._peek() in ("[", "->", "."):
            if self._take("["):
                do = self._element(do, self._expression())
                self._need("]")
            else:
                self._next(r"->|\.")
                do = self._field(do, self._next())
        return do

    def _variable(self, name: str) -> Do:
        if isinstance(self.globals.get(name), CNumber):
            return lambda: self.globals[name]

        def find() -> tuple[Array, int | None]:
            found = self.env.get(name) or self.globals.get(name)
            if found is None:
                raise Refused(f"{name} is not known")
            return found, 0 if found.single else None

        return Place(find)

    def _element(self, of: Do, index: Do) -> Place:
        def find() -> tuple[Array, int]:
            base, at = pointer(of()), index()
            if not at.known or not 0 <= base.at + at.lo < len(base.to.cells):
                raise Refused(f"index {base.at + at.lo} .. {base.at + at.hi} of an array of {len(base.to.cells)}")
            return base.to, base.at + at.lo

        return Place(find)

    def _field(self, of: Do, field: str) -> Place:
        def find() -> tuple[Array, int | None]:
            record = of()
            if isinstance(record, Pointer):
                record = record.to.held(record.at)
            if not isinstance(record, dict) or field not in record:
                raise Refused(f"what has no field {field} is asked for it")
            return record[field], 0 if record[field].single else None

        return Place(find)


class Binary:
    """left sign right."""

    def __init__(self, program: CProgram, site: Site, sign: str, left: Do, right: Do) -> None:
        self.program, self.site, self.sign, self.left, self.right = program, site, sign, left, right

    def __call__(self) -> Any:
        a = self.left()
        if self.sign in ("&&", "||") and a.known and bool(a.lo) == (self.sign == "||"):
            return ONE if a.lo else ZERO
        return self.program.apply(self.site, self.sign, a, self.right())


HEADER = re.compile(r"""#ifndef (?P<macro>\w+)_H
#define (?P=macro)_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" \{
#endif
(?P<defines>(?:#define (?P=macro)_[A-Z0-9_]+ \d+u?\n)*)(?:typedef (?P<dt>\w+) \w+_dt_t;
)?typedef struct \{
(?P<state>(?:    \w+ \w+(?:\[\d+\])?;\n)+)\} (?P<name>\w+)_state_t;
typedef struct \{
    (?P=name)_state_t state;
(?:    union \{
        int32_t aligned;
(?P<arena>(?:        struct \{ (?:char before\[\d+\]; )?\w+ numbers\[\d+\]; \} \w+;\n)+)    \} arena;
)?\} (?P=name)_t;
(?P<prototypes>void (?P=name)_init\((?P=name)_t \*s\);
void (?P=name)_reset\((?P=name)_t \*s\);
uint32_t (?P=name)_step\((?P=name)_t \*s,\s+const (?P<x>\w+) x\[(?P<xs>\d+)\],\s+(?(dt)(?P=name)_dt_t dt,\s+)"""
                    r"""(?P<y>\w+) y\[(?P<ys>\d+)\]\);
void (?P=name)_save\(const (?P=name)_t \*s, (?P=name)_state_t \*to\);
uint32_t (?P=name)_restore\((?P=name)_t \*s, const (?P=name)_state_t \*from\);
int (?P=name)_self_test\(void\);
)(?:#ifdef (?P=macro)_WITH_FLOAT\n[^#]*#endif\n)?#ifdef __cplusplus
\}
#endif
#endif
""")
"""NAME.h without comments. WITH_FLOAT, which a caller may switch on, converts numbers and is no part of the step."""


def lines_of(text: str, what: str) -> list[tuple[int, str]]:
    """Numbered lines without comments and empty lines. What could make a compiler see others is refused."""
    for m in re.finditer(r"/\*.*?\*/", text, flags=re.S):
        around = text[text.rfind("\n", 0, m.start()) + 1 : m.start()] + text[m.end() :].split("\n", 1)[0]
        if "\n" in m[0] and around.strip():
            raise Refused(f"{what}: a comment of several lines stands beside code")
    bare = re.sub(r"/\*.*?\*/", lambda m: " " + "\n" * m[0].count("\n"), text, flags=re.S)
    if "??" in text or "\\" in text.replace("BYTES(a, b, c, d) \\\n", "") or re.search(r"[^\n -~]|//", bare):
        raise Refused(f"{what}: holds trigraphs, lines that are continued, line comments or letters outside of ASCII")
    return [(i, line.rstrip()) for i, line in enumerate(bare.split("\n"), 1) if line.strip()]


def known_pieces(macro: str) -> list[str]:
    """The pieces of KNOWN as regular expressions: in lines that are no directives any white space is like another."""
    found = []
    for piece in KNOWN.strip().replace("{MACRO}", macro).split("\n\n"):
        exact = re.escape(piece)
        for directive in re.findall(r"^\\#.*$", exact, re.M):
            exact = exact.replace(directive, directive.replace("\\ ", "\\x20"))
        free = re.sub(r"(?<!\\)((?:\\ )+|\\\n(?!\\#)(?:\\ )*)", r"\\s+", exact)
        for i in range(4 if "{i}" in piece else 1):
            found.append(free.replace(r"\{i\}", f"{i}").replace(r"\{8i\}", f"{8 * i}").replace(
                r"\{28\-4i\}", f"{28 - 4 * i}"))
    return found


def literal(text: str) -> CNumber:
    """A number in C; one that begins with 0 would be octal."""
    n = int(text.rstrip("u")) if re.fullmatch(r"(0|[1-9]\d*)u?", text) else 1 << 64
    if n >= 1 << (32 if text.endswith("u") else 63):
        raise Refused(f"'{text}' is no number that is known")
    return CNumber(n, n, WORD if text.endswith("u") else INT if n < 1 << 31 else LONG)


def struct(type_: str, fields: dict[str, Array]) -> Array:
    """A variable that is a struct."""
    return Array(type_, [fields], type_, single=True)


def hull(a: Any, b: Any) -> Any:
    """What is either a or b."""
    if a is b or not isinstance(a, CNumber) or not isinstance(b, CNumber):
        return a if a is b else None
    return CNumber(min(a.lo, b.lo), max(a.hi, b.hi), b.type, "either of two")


def widen(table: dict[Any, list[Any]], key: Any, lo: int, hi: int, type_: str, rule: str) -> None:
    """Take an interval into what was seen so far."""
    entry = table.setdefault(key, [type_, rule, lo, hi])
    entry[1:] = max(entry[1], rule), min(entry[2], lo), max(entry[3], hi)


# 4. The claim -------------------------------------------------------------------------------------------------------


def analyse(c: str, h: str, boxes: dict[str, list[list[int]]], tested: int = MOST_OPERATIONS) -> dict[str, Any]:
    """What was found of the C, given the boxes of its states ({name: [[lo, hi], ...]}). Raises Refused.

    The self test is carried out where a step takes at most ``tested`` operations.
    """
    program: Any = CProgram.__new__(CProgram)
    try:
        program.__init__(c, h)
        return claim(program, boxes, tested)
    except Refused as error:
        line, text = program.caller if program.caller[0] else (program.line, "")
        where = "" if str(error).startswith("line ") or not line else f"line {line}: {text}{': ' if text else ''}"
        raise Refused(f"{where}{error}") from None


def claim(program: CProgram, boxes: dict[str, list[list[int]]], tested: int) -> dict[str, Any]:
    """The claim at the top of this file, function by function."""
    name, states = program.name, program.state
    if {n: len(rows) for n, rows in boxes.items()} != {n: max(size, 1) for _, n, size in states}:
        raise Refused("the certificate's boxes are not those of the states")
    boxed = {n: [CNumber(lo, hi, of, "box", ("state", f"{n}[{i}]")) for i, (lo, hi) in enumerate(boxes[n])]
             for of, n, _ in states}
    full = {of: CNumber(*RANGE[of], of, "any") for of in BITS}
    any_state = {n: [full[of]] * max(size, 1) for of, n, size in states}
    x = Array(program.x[0], [full[program.x[0]] for _ in range(program.x[1])], "x", fixed=True)
    y = Array(program.y[0], [None] * program.y[1], "y")
    program.recording = True
    for function, before, given in (
            ("init", None, []), ("reset", None, []), ("save", boxed, [program.instance().cells[0]["state"]]),
            ("restore", None, [program.instance(any_state).cells[0]["state"]]),
            ("step", boxed, [x, *([full[program.dt]] if program.dt != "void" else []), y])):
        made = program.instance(before)
        program.call((0, ""), f"{name}_{function}", [made, *given])
        after = made.cells[0]["state"].cells[0]
        for n, rows in boxes.items():
            for i, ((lo, hi), v) in enumerate(zip(rows, after[n].cells, strict=True)):
                if v is None or v.lo < lo or v.hi > hi:
                    reach = "is not written" if v is None else f"may reach {v.lo} .. {v.hi}"
                    raise Refused(f"{function}: {n}[{i}] {reach}, outside of its box {lo} .. {hi}")
    if None in y.cells:
        raise Refused("step: an output is not written")
    program.recording = False
    if program.operations <= tested and program.call((0, ""), f"{name}_self_test", []).lo != 0:
        raise Refused("the self test's numbers are not those that this reading of the C gives")
    return record(program)


def record(program: CProgram) -> dict[str, Any]:
    """Values, intermediates and inequalities as the certificate lists them."""
    values: dict[str, dict[str, Any]] = {}
    for (name, _), (type_, rule, lo, hi) in sorted(program.stored.items(), key=lambda item: item[0][1]):
        entry = values.setdefault(name, {"value": name, "type": type_, "rule": rule, "elements": 0, "lo": [], "hi": []})
        entry["rule"], entry["elements"] = max(entry["rule"], rule), entry["elements"] + 1
        entry["lo"].append(lo)
        entry["hi"].append(hi)
    intermediates = [
        {"line": call[0] or line, "c": f"{call[1]}: {text}" if call[0] else text, "type": type_, "rule": rule,
         "lo": lo, "hi": hi} for (call, (line, text)), (type_, rule, lo, hi) in program.seen.items()]
    return {"values": list(values.values()), "intermediates": intermediates,
            "inequalities": list(program.boxes.found.values())}


# The certificate and the command line.


def certificate(name: str, c: str, h: str, boxes: dict[str, list[list[int]]], tested: int = MOST_OPERATIONS
                ) -> dict[str, Any]:
    """The certificate of NAME.c and NAME.h: what ``check`` must find again."""
    hashes = {f"{name}.c": digest(c), f"{name}.h": digest(h)}
    return {"format": 1, "name": name, "sha256": hashes, "boxes": boxes, **analyse(c, h, boxes, tested)}


def digest(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def text_of(path: Path) -> str:
    """The text of a file; a pipe or a device might never end, and is not read. Raises OSError, ValueError."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(22, "no regular file", str(path))
    return path.read_bytes().decode()


def check(given: Any, folder: Path) -> dict[str, Any]:
    """What was found, if all of ``given`` is found again in the C of ``folder``. Raises Refused, OSError."""
    if not isinstance(given, dict) or given.get("format") != 1:
        raise Refused("certificate.json is no certificate of format 1")
    if "not_certified" in given:
        raise Refused(str(given["not_certified"]))
    name = str(given.get("name"))
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise Refused("the certificate names no C file")
    c, h = (text_of(folder / f"{name}.{ending}") for ending in "ch")
    if given.get("sha256") != {f"{name}.c": digest(c), f"{name}.h": digest(h)}:
        raise Refused(f"the certificate is of another {name}.c or {name}.h: their SHA-256 differ")
    found = certificate(name, c, h, given.get("boxes", {}))
    for part in ("values", "intermediates", "inequalities"):
        _same(part, given.get(part), found[part])
    if set(given) != set(found):
        raise Refused("the certificate says more than this checker looks at")
    return found


def _same(part: str, given: Any, found: list[dict[str, Any]]) -> None:
    """Raises Refused at the first difference between a list of the certificate and what was found."""
    if not isinstance(given, list):
        raise Refused(f"{part}: no list")
    for i, here in enumerate(found):
        if i >= len(given) or given[i] != here:
            text = " ".join(str(here[key]) for key in ("line", "c", "value", "state", "side") if key in here)
            listed = "it ends there" if i >= len(given) else f"it says {json.dumps(given[i])[:200]}"
            raise Refused(f"{part}: {text}: found {json.dumps(here)[:200]}; in the certificate {listed}")
    if len(given) > len(found):
        raise Refused(f"{part}: the certificate lists {json.dumps(given[len(found)])[:200]}, which the C does not form")


def summary(found: dict[str, Any]) -> str:
    """Some lines for people."""
    room = min((min(RANGE[i["type"]][1] - i["hi"], i["lo"] - RANGE[i["type"]][0]) for i in found["intermediates"]
                if i["rule"] not in ("conversion", "bits", "limit")), default=0)
    slack = min((i["most"] - i["sum"] for i in found["inequalities"]), default=None)
    values, formed = sum(v["elements"] for v in found["values"]), len(found["intermediates"])
    lines = [f"certified: {found['name']} cannot overflow, for every input and for all time",
             f"  {values:,} values and {formed:,} intermediates fit their C types; least room {room:,}",
             f"  {sum(map(len, found['boxes'].values())):,} states return into their boxes; "
             f"{len(found['inequalities']):,} box inequalities hold"
             + (f"; least slack {slack:,}" if slack is not None else "")]
    return "\n".join(lines) + "\n"


UNKNOWN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading something that was never generated may end in."""


def main(arguments: list[str]) -> int:
    """The command line; see the first lines of this file."""
    folder = Path(arguments[0]) if arguments else Path(__file__).resolve().parent
    try:
        given = json.loads(text_of(folder / CERTIFICATE))
    except (OSError, ValueError, RecursionError) as error:
        sys.stderr.write(f"certify: {folder / CERTIFICATE}: cannot be read ({error})\n")
        return 2
    try:
        sys.stdout.write(summary(check(given, folder)))
    except OSError as error:
        sys.stderr.write(f"certify: {error.filename}: cannot be read ({error.strerror})\n")
        return 2
    except Refused as error:
        sys.stdout.write(f"not certified: {error}\n")
        return 1
    except UNKNOWN as error:
        sys.stdout.write(f"not certified: C or certificate of no known form ({type(error).__name__}: {error})\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
