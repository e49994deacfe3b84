"""The ops of a program, one row each: how many arguments, which attributes, what it means.

``shape`` says how the result's axes follow from the arguments': ``each`` (elementwise; a value without axes is the
same for every element), ``gather``, ``reduce``, ``matmul``, ``free`` (the op states its axes itself).
The exact meaning on each type stands in ``ncpc.semantics``; a fixed-point result must fit its type.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OpSpec:
    """One row of the table. ``arity`` is (fewest, most) arguments; ``domain`` is ``any``, ``float`` or ``fixed``."""

    arity: tuple[int, int]
    attrs: tuple[str, ...]
    shape: str
    domain: str
    meaning: str


WINDOWS = ("height", "width", "channels", "kernel_h", "kernel_w", "stride_h", "stride_w", "top", "left", "rows", "cols",
           "layout", "dilation_h", "dilation_w")
"""Attributes of ops over windows: the fields of ``ncpc.ir.windows.Windows``."""

OPS: dict[str, OpSpec] = {
    "add": OpSpec((2, 2), (), "each", "any", "a + b; fixed: equal fractions"),
    "sub": OpSpec((2, 2), (), "each", "any", "a - b; fixed: equal fractions"),
    "mul": OpSpec((2, 2), (), "each", "any", "a * b; fixed: exact product, fractions add"),
    "div": OpSpec((2, 2), (), "each", "float", "a / b"),
    "neg": OpSpec((1, 1), (), "each", "any", "-a"),
    "min": OpSpec((2, 2), (), "each", "any", "the smaller; fixed: equal fractions"),
    "max": OpSpec((2, 2), (), "each", "any", "the larger; fixed: equal fractions"),
    "gt": OpSpec((2, 2), (), "each", "any", "1 where a > b, else 0; fixed: equal fractions, 1 as the result's type has "
                 "it"),
    "exp": OpSpec((1, 1), (), "each", "float", "e**a"),
    "sigmoid": OpSpec((1, 1), (), "each", "float", "1 / (1 + e**-a)"),
    "tanh": OpSpec((1, 1), (), "each", "float", "hyperbolic tangent"),
    "sqrt": OpSpec((1, 1), (), "each", "float", "square root of max(a, 0), correctly rounded"),
    "relu": OpSpec((1, 1), (), "each", "any", "max(a, 0)"),
    "guard": OpSpec((1, 1), ("flag",), "each", "float", "a, or 0 where a is NaN or infinite, setting status bit flag"),
    "clamp": OpSpec((1, 1), ("lo", "hi", "flag"), "each", "any", "a limited to [lo, hi] (in the type's own units: raw "
                    "integers for fixed); lo/hi are numbers or constant names; sets status bit flag (or None)"),
    "gather": OpSpec((2, 2), (), "gather", "any", "a[index] along a's last axis"),
    "segment_sum": OpSpec((2, 3), (), "reduce", "any", "sum of a over the elements whose index (2nd argument, sorted) "
                          "names the result's element, in order, starting from the 3rd argument or 0"),
    "matmul": OpSpec((2, 3), (), "matmul", "any", "W (out, in) times x (in), summed in order of in, starting from the "
                     "3rd argument (out) or 0; fixed: exact products"),
    "matmulshr": OpSpec((2, 3), ("k", "block"), "matmul", "fixed", "W (out, in) times x (in) block by block: the exact "
                        "sum s of each `block` consecutive products enters as floor(s / 2**k + 1/2), k >= 1, starting "
                        "from the 3rd argument (out) or 0"),
    "concat": OpSpec((1, 64), (), "free", "any", "arguments one after another on the result's axis"),
    "slice": OpSpec((1, 1), ("start",), "free", "any", "a[start : start + size of the result's axis]"),
    "conv2d": OpSpec((3, 4), (*WINDOWS, "relu", "lo", "hi", "flag"), "free", "any", "W (filters, taps), x, bias "
                     "(filters): bias plus the sum over each window, in order, negative ones 0 if relu; W may have the "
                     "taps of a part of the channels: then the first filters read the first part, and so on; fixed: "
                     "exact sums, then floor(sum / 2**shift), shift (filters) the 4th argument (a rounding half "
                     "belongs to the bias), limited to [lo, hi], which sets status bit flag (or None)"),
    "pool": OpSpec((1, 1), (*WINDOWS, "function"), "free", "any", "max: the largest of each window in the frame; avg: "
                   "the window's sum times 1/n, n its elements; avg_inside: n those in the frame; fixed: "
                   "floor(sum * floor(2**24 / n + 1/2) / 2**24 + 1/2)"),
    "mix": OpSpec((3, 3), (), "each", "any", "a + t*(b - a), 0 <= t <= 1: between a and b, inclusive; fixed: a + "
                  "floor((b - a)*t / 2**frac(t) + 1/2), a and b of equal fractions"),
    "cast": OpSpec((1, 1), (), "each", "any", "the same number in another type that holds it (fixed: equal fractions)"),
    "shr": OpSpec((1, 1), ("k",), "each", "fixed", "floor(a / 2**k + 1/2), k >= 0; the fraction drops by k"),
    "shr_full": OpSpec((1, 1), ("k",), "each", "fixed", "the same number as shr, k >= 1, for an a that leaves no room "
                       "for the half: (a >> k) + ((a >> (k - 1)) & 1)"),
    "asr": OpSpec((1, 1), ("k",), "each", "fixed", "floor(a / 2**k): a shr whose half was added before"),
    "shl": OpSpec((1, 1), ("k",), "each", "fixed", "a * 2**k; the fraction grows by k"),
    "mulshr": OpSpec((2, 2), ("k",), "each", "fixed", "floor(a*b / 2**k + 1/2) with an exact 64-bit product"),
    "lut": OpSpec((2, 2), ("k",), "each", "fixed", "a limited to [0, (n << k) - 1] indexes the n+1-entry table T (2nd "
                  "argument): i = a >> k, f = a mod 2**k, T[i] + floor((T[i+1]-T[i])*f / 2**k + 1/2)"),
    "inverse": OpSpec((1, 1), ("k",), "each", "fixed", "r * 2**(e + k), close to 2**(46 + k) / a, 1 <= a < 2**31: e "
                      "with 2**30 <= a * 2**e < 2**31 and e + k >= 0, r close to 2**31 / floor(a * 2**e / 2**15) by "
                      "table and one Newton step; the fraction is 46 + k - frac(a)"),
}
