"""The functions that generated C calls: text of the generated file (0BSD), one piece per function, only those needed.

Each does what ``ncpc.semantics`` defines, operation by operation.
"""

from __future__ import annotations

from collections.abc import Iterable

from ncpc.ir.formed import FUNCTIONS, product_sum
from ncpc.semantics import fixed, float32
from ncpc.targets.c.expressions import Expr, definition, printed
from ncpc.targets.c.numbers import INT32, CType, float_literal
from ncpc.targets.c.parts import PARTS

NEEDS: dict[str, tuple[str, ...]] = {
    "exp_f": ("bits_f",),
    "sigmoid_f": ("exp_f",),
    "tanh_f": ("exp_f",),
    "sqrt_f": ("is_finite",),
    "is_finite": ("bits_f",),
    "finite_f": ("is_finite",),
    "differ_f": ("bits_f",),
    "inverse": ("leading_zeros", "recip_seed"),
    "dot_4": ("NIBBLE0", "NIBBLE1"),
}
"""Which pieces a piece calls."""


def support(used: Iterable[str], long_products: bool = True) -> list[str]:
    """The pieces behind the function and macro names in ``used``, in the order of definition.

    Without ``long_products`` products of 64 bits are put together from 16-bit parts.
    """
    pieces = {**_pieces(), **({} if long_products else PARTS)}
    wanted = set(used) & set(pieces)
    while missing := {need for name in wanted for need in NEEDS.get(name, ())} - wanted:
        wanted |= missing
    return [text.strip() for name, text in pieces.items() if name in wanted]


def _pieces() -> dict[str, str]:
    formed = _formed()
    last = {"dot": _dot(), "nibble": _NIBBLE, "dot_4": _dot_4(), "leading_zeros": _ZEROS, "recip_seed": _seeds(),
            "inverse": formed.pop("inverse")}
    return {**_MACROS, **_floats(), **_limits(), **formed, **last}


_MACROS = {
    "PAIR": """
/* Two 16-bit numbers in a word, for one load instead of two. */
#define PAIR(low, high) (((uint32_t)(low) & 0xFFFFu) | (uint32_t)(high) << 16)
""",
    "LO16": "#define LO16(word) ((int32_t)(int16_t)(word))",
    "HI16": "#define HI16(word) ((int32_t)(word) >> 16)",
    "ULO16": "#define ULO16(word) ((int32_t)((word) & 0xFFFFu))",
    "UHI16": "#define UHI16(word) ((int32_t)((word) >> 16))",
    "BYTES": r"""
/* Four 8-bit numbers in a word, for one load instead of four. */
#define BYTES(a, b, c, d) \
    (((uint32_t)(a) & 255u) | ((uint32_t)(b) & 255u) << 8 | ((uint32_t)(c) & 255u) << 16 | (uint32_t)(d) << 24)
""",
    **{f"BYTE{i}": f"#define BYTE{i}(word) ((int32_t)(int8_t)((word) >> {8 * i}))" for i in range(4)},
    **{f"UBYTE{i}": f"#define UBYTE{i}(word) ((int32_t)((word) >> {8 * i} & 255u))" for i in range(4)},
    "NIBBLES": """
/* Two 4-bit numbers in a byte. */
#define NIBBLES(low, high) (((uint32_t)(low) & 15u) | ((uint32_t)(high) & 15u) << 4)
""",
    **{f"NIBBLE{i}": f"#define NIBBLE{i}(word) ((int32_t)((uint32_t)(word) << {28 - 4 * i}) >> 28)" for i in range(4)},
    "FITS_16": """
/* Tells compilers for cores with 16-bit multiply-accumulate that a number fits 16 bits. */
#if defined(__ARM_FEATURE_DSP)
#define FITS_16(number) ((int16_t)(number))
#else
#define FITS_16(number) (number)
#endif
""",
    "AT_WORD": """
/* Where an array begins that is read two numbers at a time. */
#if defined(__GNUC__)
#define AT_WORD __attribute__((aligned(4)))
#else
#define AT_WORD
#endif
""",
    "NOT_UNROLLED": """
/* Short loops of varying length: unrolling them costs more than it saves. */
#if defined(__clang__)
#define NOT_UNROLLED _Pragma("clang loop unroll(disable)")
#else
#define NOT_UNROLLED
#endif
""",
    "WIDE": """
typedef struct {
    int32_t value;
    int32_t step;
} wide_entry_t;
#define WIDE(value, step) {value, step}
""",
}


def support_names() -> tuple[str, ...]:
    """What generated files may define, so that nothing else is called so."""
    return (*_pieces(), *PARTS, "float_bits_t", "wide_entry_t", "pair_at", "PROFILE_LABEL")


def _floats() -> dict[str, str]:
    lo, hi = float_literal(float32.EXP_LO), float_literal(float32.EXP_HI)
    return {
        "bits_f": _BITS,
        "is_finite": _IS_FINITE,
        "finite_f": _FINITE,
        "differ_f": _DIFFER,
        "exp_f": _EXP.format(
            lo=lo, hi=hi, log2e=float_literal(float32.LOG2E), ln2_hi=float_literal(float32.LN2_HI),
            ln2_lo=float_literal(float32.LN2_LO), rounding=float_literal(float32.ROUND),
            **{f"c{i + 2}": float_literal(c) for i, c in enumerate(float32.EXP_POLY)},
        ),
        "sigmoid_f": _SIGMOID,
        "tanh_f": _TANH,
        "sqrt_f": _SQRT,
        "mix_f": _MIX,
    }


_BITS = """
/* A float and its bits. */
typedef union {
    float value;
    uint32_t bits;
} float_bits_t;
"""

_IS_FINITE = """
static int is_finite(float a)
{
    float_bits_t number;
    number.value = a;
    return (number.bits & 0x7F800000u) != 0x7F800000u;
}
"""

_FINITE = """
/* a, or 0 where a is NaN or infinite. */
static float finite_f(float a)
{
    return is_finite(a) ? a : 0.0f;
}
"""

_DIFFER = """
/* Whether two floats differ in any bit. */
static int differ_f(float a, float b)
{
    float_bits_t left;
    float_bits_t right;
    left.value = a;
    right.value = b;
    return left.bits != right.bits;
}
"""

_EXP = """
/* e^x for x limited to [{lo}, {hi}]: x = n ln 2 + r with |r| <= ln(2)/2 (Cody and Waite), a polynomial in r,
 * times 2^n through the exponent field. Every operation is rounded to binary32 and none is contracted. */
static float exp_f(float x)
{{
    x = x > {lo} ? x : {lo};
    x = x < {hi} ? x : {hi};
    float_bits_t shifted; /* rounded to a whole number, which its last bits hold */
    shifted.value = x * {log2e} + {rounding};
    const float whole = shifted.value - {rounding};
    const float r = (x - whole * {ln2_hi}) - whole * {ln2_lo};
    const float square = r * r;
    const float p = (1.0f + r) + square * (({c2} + {c3} * r) + square * ({c4} + {c5} * r));
    float_bits_t power;
    power.bits = (shifted.bits << 23) + 0x3F800000u;
    return p * power.value;
}}
"""

_SIGMOID = """
static float sigmoid_f(float x)
{
    return 1.0f / (1.0f + exp_f(-x));
}
"""

_SQRT = """
/* The square root of max(a, 0), correctly rounded, digit by digit in integers: it needs no library.
 * a = number * 2^n with n odd and 2^23 <= number < 2^25; root becomes the whole part of sqrt(number * 2^25). There are
 * no ties: of one, root would be odd and its square a multiple of 2^25. */
static float sqrt_f(float a)
{
    float_bits_t bits;
    bits.value = a;
    if (!(a > 0.0f) || !is_finite(a)) {
        return a > 0.0f ? a : 0.0f;
    }
    int exponent = (int)(bits.bits >> 23);
    uint32_t number = bits.bits & 0x7FFFFFu;
    if (exponent > 0) {
        number |= 0x800000u;
    } else { /* subnormal */
        for (exponent = 1; number < 0x800000u; exponent--) {
            number <<= 1;
        }
    }
    const int even = (exponent & 1) == 0;
    uint32_t digits = number << (even ? 8 : 7);
    uint32_t rest = 0;
    uint32_t root = 0;
    for (int digit = 0; digit < 25; digit++) {
        const uint32_t tried = root << 2 | 1u;
        rest = rest << 2 | digits >> 30;
        digits <<= 2;
        root <<= 1;
        if (rest >= tried) {
            rest -= tried;
            root |= 1u;
        }
    }
    bits.bits = ((uint32_t)((exponent - even + 127) / 2 - 1) << 23) + ((root + 1u) >> 1);
    return bits.value;
}
"""

_MIX = """
/* Between a and b. */
static float mix_f(float a, float b, float t)
{
    return a + t * (b - a);
}
"""

_TANH = """
static float tanh_f(float x)
{
    return 1.0f - 2.0f / (exp_f(2.0f * x) + 1.0f);
}
"""


def _limits() -> dict[str, str]:
    pieces = {}
    for suffix, ctype in (("_f", "float"), ("_i", "int32_t"), ("_u", "uint32_t")):
        zero = "0.0f" if suffix == "_f" else "0"
        pieces[f"min{suffix}"] = _one_line(f"min{suffix}", ctype, "a, {c} b", "b < a ? b : a")
        pieces[f"max{suffix}"] = _one_line(f"max{suffix}", ctype, "a, {c} b", "a < b ? b : a")
        pieces[f"relu{suffix}"] = _one_line(f"relu{suffix}", ctype, "a", f"a > {zero} ? a : {zero}")
        limit = "a < lo ? lo : (hi < a ? hi : a)"
        pieces[f"clamp{suffix}"] = _one_line(f"clamp{suffix}", ctype, "a, {c} lo, {c} hi", limit)
    return pieces


def _one_line(name: str, ctype: str, parameters: str, value: str) -> str:
    listed = f"{ctype} {parameters.format(c=ctype)}"
    return f"static {ctype} {name}({listed})\n{{\n    return {value};\n}}"


_DOT = """
/* sum + a . b; n is even, and a and b begin at words. */
#if defined(__ARM_FEATURE_SIMD32) && defined(__GNUC__)
#include <arm_acle.h>
static inline int16x2_t pair_at(const int16_t *a)
{
    int16x2_t pair;
    __builtin_memcpy(&pair, __builtin_assume_aligned(a, 4), sizeof pair);
    return pair;
}

static inline int32_t dot(const int16_t *a, const int16_t *b, int n, int32_t sum)
{
    for (int i = 0; i < n; i += 2) {
        sum = __smlad(pair_at(a + i), pair_at(b + i), sum);
    }
    return sum;
}
#else
static inline int32_t dot(const int16_t *a, const int16_t *b, int n, int32_t sum)
{
    for (int i = 0; i < n; i++) {
        sum += {product};
    }
    return sum;
}
#endif
"""
_NIBBLE = """
/* Number i of those that are stored two to a byte, 4 bits each. */
static inline int32_t nibble(const uint8_t *a, int i)
{
    return (int32_t)((uint32_t)a[i >> 1] << (28 - 4 * (i & 1))) >> 28;
}
"""
_DOT_4 = """
/* sum + a . b, for numbers a that are stored two to a byte. */
static inline int32_t dot_4(const uint8_t *a, const int16_t *b, int n, int32_t sum)
{
    for (int i = 0; i + 1 < n; i += 2) {
        const int32_t low = NIBBLE0(a[i >> 1]);
        const int32_t high = NIBBLE1(a[i >> 1]);
        sum += {low};
        sum += {high};
    }
    if ((n & 1) != 0) {
        const int32_t last = NIBBLE0(a[n >> 1]);
        sum += {last};
    }
    return sum;
}
"""
_ZEROS = """
/* How many zeros stand before the highest one of a, a >= 1. */
static int leading_zeros(uint32_t a)
{
#if defined(__GNUC__) && UINT_MAX == 0xFFFFFFFFu && (!defined(__arm__) || defined(__ARM_FEATURE_CLZ))
    return __builtin_clz(a);
#else
    int zeros = 0;
    for (int n = 16; n > 0; n >>= 1) {
        if (a >> (32 - n) == 0u) {
            zeros += n;
            a <<= n;
        }
    }
    return zeros;
#endif
}
"""


def _seeds() -> str:
    numbers = [str(v) for v in fixed.recip_table()]
    text = "\n".join("    " + ", ".join(numbers[i : i + 16]) + "," for i in range(0, len(numbers), 16))
    return f"""
/* Reciprocals: entry i is 2^31 over the middle of [2^15 + i*2^8, 2^15 + (i+1)*2^8). */
static const uint16_t recip_seed[{len(numbers)}] = {{
{text}
}};
"""


_COMMENTS = {
    "mix": "a + floor((b - a)*t / 2^k + 1/2), k >= 1: between a and b for 0 <= t <= 2^k.",
    "mulshr": "floor(a*b / 2^k + 1/2), k >= 1.",
    "mulshr_u": "floor(a*b / 2^k + 1/2), k >= 1, for an unsigned a.",
    "inverse": "Close to 2^(46 + k) / a, 1 <= a < 2^31: a seed and one Newton step for the leading 16 bits of a, "
               "then a shift.",
}


def _dot() -> str:
    """A product of two arrays, whose every partial sum fits in whatever order, in pairs too."""
    known = {name: Expr(f"{of}[i]", CType("int16_t", 2)) for name, of in (("w", "a"), ("x", "b"))}
    return _DOT.replace("{product}", printed(product_sum().each, known).text)


def _dot_4() -> str:
    """As ``_dot``, in order."""
    text = _DOT_4
    for weight, at in (("low", "i"), ("high", "i + 1"), ("last", "n - 1")):
        known = {"w": Expr(weight, INT32), "x": Expr(f"b[{at}]", CType("int16_t", 2))}
        text = text.replace(f"{{{weight}}}", printed(product_sum().each, known).text)
    return text


def _formed() -> dict[str, str]:
    """The functions of the table of what C forms."""
    return {f.name: f"/* {_COMMENTS[f.name]} */\n{definition(f)}" for f in FUNCTIONS}
