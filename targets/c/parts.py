"""Products of 64 bits from products of 16 bits, for cores that multiply 32 bits by 32 to 32 alone (Armv6-M).

Each function gives what the one of the same name in ``ncpc.ir.formed`` gives, where 32 bits hold that. With
a = a_high*2^16 + a_low, 0 <= a_low < 2^16, and b likewise,

    a*b = a_high*b_high*2^32 + (a_low*b_high + a_high*b_low)*2^16 + a_low*b_low

and half a unit of the result is added to what lies as low. No sum in it leaves its type, whatever a and b are. With
h = 2^16 - 1: ``low`` <= h*h + 2^15 < 2^32, ``middle`` <= h*(2^15 - 1) + (h - 1) + 2^15 = 2^31 - 1, ``upper`` <=
(2^15 - 1)*h + h (of an unsigned a h*h + h < 2^32), and ``high``, floor((a*b + half) / 2^32), with what is added to it
one after another, in [-h*2^15 - 2^15, 2^31 - 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ncpc.ir.formed import word_of
from ncpc.ir.program import Attr
from ncpc.ir.types import Fixed, Type
from ncpc.targets.c.expressions import Expr, call
from ncpc.targets.c.numbers import INT32

MOST = 46
"""The largest shift of ``mulshr_16``: beyond it, half a unit does not fit on top of a product."""

_WHOLE = """
/* floor(a*b / 2^k + 1/2), 1 <= k < 63{unsigned}, in products of 16-bit parts. */
static int32_t {name}({word} a, int32_t b, int k)
{{
    const {word} a_high = a >> 16;
    const int32_t a_low = (int32_t)(a & {mask});
    const int32_t b_high = b >> 16;
    const int32_t b_low = b & 65535;
    const uint32_t low = (uint32_t)a_low * (uint32_t)b_low + (k <= 16 ? (uint32_t)1 << (k - 1) : 0u);
    const int32_t middle = a_low * b_high + (int32_t)(low >> 16) + (k > 16 && k <= 32 ? (int32_t)1 << (k - 17) : 0);
    const {word} upper = a_high * {b_low} + {middle};
    const int32_t high = {a_high} * b_high + (middle >> 16) + {upper};
    if (k > 32) {{
        return ((high >> (k - 33)) + 1) >> 1;
    }}
    if (k == 32) {{
        return high;
    }}
    if (k > 16) {{
        return (int32_t)(((uint32_t)high << (32 - k)) + (((uint32_t)upper & 65535u) >> (k - 16)));
    }}
    return (int32_t)(((uint32_t)high << (32 - k)) + (((uint32_t)upper << 16 | (low & 65535u)) >> k));
}}
"""

_SIGNED = {"name": "mulshr", "unsigned": "", "word": "int32_t", "mask": "65535", "b_low": "b_low",
           "middle": "(middle & 65535)", "a_high": "a_high", "upper": "(upper >> 16)"}
_UNSIGNED = {"name": "mulshr_u", "unsigned": " and an unsigned a", "word": "uint32_t", "mask": "65535u",
             "b_low": "(uint32_t)b_low", "middle": "((uint32_t)middle & 65535u)", "a_high": "(int32_t)a_high",
             "upper": "(int32_t)(upper >> 16)"}

_SHORT = """
/* The same for a b of 16 bits and k < 47. */
static int32_t mulshr_16(int32_t a, int32_t b, int k)
{
    const int32_t low = (a & 65535) * b;
    const int32_t high = (a >> 16) * b;
    if (k > 16) {
        return (high + (low >> 16) + ((int32_t)1 << (k - 17))) >> (k - 16);
    }
    return (int32_t)(((uint32_t)high << (16 - k)) + (uint32_t)((low + ((int32_t)1 << (k - 1))) >> k));
}
"""

_MIX = """
/* a + floor((b - a)*t / 2^k + 1/2), 1 <= k <= 15: between a and b for 0 <= t <= 2^k, in 16-bit parts. */
static int32_t mix_16(int32_t a, int32_t b, int32_t t, int k)
{
    const int32_t low = ((b & 65535) - (a & 65535)) * t;
    const int32_t high = ((b >> 16) - (a >> 16)) * t;
    const uint32_t rounded = (uint32_t)((low + ((int32_t)1 << (k - 1))) >> k);
    return (int32_t)((uint32_t)a + ((uint32_t)high << (16 - k)) + rounded);
}
"""

PARTS = {"mulshr": _WHOLE.format(**_SIGNED), "mulshr_u": _WHOLE.format(**_UNSIGNED), "mulshr_16": _SHORT,
         "mix_16": _MIX}
"""By name."""


def short_product(kind: str, args: Sequence[Expr], types: Sequence[Type], attrs: Mapping[str, Attr]) -> Expr | None:
    """The call for a ``mulshr`` of signed numbers one of which has 16 bits, or for a ``mix`` by a weight of 15 bits at
    most and 1; None for anything else.
    """
    if kind == "mix":
        weight = types[2]
        return _call("mix_16", args, weight.frac) if isinstance(weight, Fixed) and 1 <= weight.frac < 16 else None
    k = int(attrs.get("k") or 0)
    if kind != "mulshr" or not 1 <= k <= MOST or any(not word_of(one).signed for one in types):
        return None
    (_, a), (narrow, b) = sorted(zip(map(_is_narrow, types), args, strict=True), key=lambda one: one[0])
    return _call("mulshr_16", (a, b), k) if narrow else None


def _call(function: str, args: Sequence[Expr], k: int) -> Expr:
    return call(function, (*args, Expr(str(k), INT32)), INT32)


def _is_narrow(kind: Type) -> bool:
    return isinstance(kind, Fixed) and kind.lo >= -(1 << 15) and kind.hi < 1 << 15
