"""Elementwise functions that are not ops of their own, composed of those that are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.program import Op, Program, Value

# erfc(a) = (c1*t + ... + c5*t**5) * exp(-a*a) with t = 1/(1 + p*a), a >= 0, error at most 1.5e-7:
# Abramowitz & Stegun 1964, 7.1.26.
ERFC_P = 0.3275911
ERFC_C = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
ERFC_HALVES = tuple(c / 2 for c in ERFC_C)

# ln(1 + t) = c1*t + ... + c8*t**8, 0 <= t <= 1, error at most 3.3e-8: Abramowitz & Stegun 1964, 4.1.44.
LOG_C = (0.9999964239, -0.4998741238, 0.3317990258, -0.2407338084, 0.1676540711, -0.0953293897, 0.0360884937,
         -0.0064535442)


SILU_LEAST = -0.27846454276107374
"""The least value of SiLU."""
GELU_DIP, GELU_END = 0.17, 8.0
"""More than GELU is below ``relu(x)`` at most, and a size of x from which on it is so by less than 1e-14."""


def elementwise(b: Builder, function: str, x: Value, parameters: Sequence[float] = ()) -> Value:
    """``function(x)``: those of ``ncpc.ir.policy.Activation``, or the identity. Raises ``Unsupported`` for others."""
    if function in _WITH_PARAMETERS:
        return _WITH_PARAMETERS[function](b, x, *parameters)
    if function not in _FUNCTIONS:
        known = sorted([*_FUNCTIONS, *_WITH_PARAMETERS])
        raise Unsupported(f"function '{function}' cannot be lowered; supported: {', '.join(known)}")
    return _FUNCTIONS[function](b, x)


def magnitude(b: Builder, name: str, x: Value) -> Value:
    """``|x|`` as relu(x) + relu(-x): never negative in interval arithmetic either."""
    minus = b.op("relu", f"{name}_minus", b.op("neg", f"{name}_neg", x))
    return b.op("add", name, b.op("relu", f"{name}_plus", x), minus)


def _silu(b: Builder, x: Value) -> Value:
    """``x*sigmoid(x)``."""
    return b.op("mul", "silu", x, b.op("sigmoid", "silu_gate", x))


def _gelu(b: Builder, x: Value) -> Value:
    """``x*Phi(x) = relu(x) - |x|*erfc(|x|/sqrt(2))/2``."""
    size = b.op("min", "gelu_near", magnitude(b, "gelu_size", x), b.const("gelu_end", GELU_END))
    a = b.op("mul", "gelu_a", size, b.const("gelu_root_half", np.sqrt(0.5)))
    one = b.const("gelu_one", 1.0)
    t = b.op("div", "gelu_t", one, b.op("add", "gelu_1_pa", b.op("mul", "gelu_pa", a, b.const("gelu_p", ERFC_P)), one))
    tail = b.op("exp", "gelu_bell", b.op("neg", "gelu_minus_aa", b.op("mul", "gelu_aa", a, a)))
    half = b.op("mul", "gelu_tail", b.op("mul", "gelu_poly_bell", _polynomial(b, "gelu", t, ERFC_HALVES), tail), size)
    # Said aloud, because intervals do not see it.
    dip = b.op("clamp", "gelu_dip", half, lo=0.0, hi=GELU_DIP, flag=None)
    return b.op("sub", "gelu", b.op("relu", "gelu_relu", x), dip)


def _polynomial(b: Builder, name: str, t: Value, coefficients: Sequence[float]) -> Value:
    """``c1*t + ... + cn*t**n`` by Horner's rule."""
    last = len(coefficients)
    total = b.op("mul", f"{name}_p{last - 1}", t, b.const(f"{name}_c{last}", coefficients[-1]))
    for k in range(last - 1, 0, -1):
        inner = b.op("add", f"{name}_q{k}", total, b.const(f"{name}_c{k}", coefficients[k - 1]))
        total = b.op("mul", f"{name}_p{k - 1}", inner, t)
    return total


def _softplus(b: Builder, x: Value) -> Value:
    """``ln(1 + e**x) = relu(x) + ln(1 + t)`` with ``t = e**-|x|``, at most 1."""
    t = b.op("exp", "softplus_t", b.op("neg", "softplus_minus", magnitude(b, "softplus_size", x)))
    return b.op("add", "softplus", b.op("relu", "softplus_relu", x), _polynomial(b, "softplus", t, LOG_C))


def _leaky_relu(b: Builder, x: Value, slope: float) -> Value:
    """``relu(x) - slope*relu(-x)``."""
    below = b.op("relu", "leaky_below", b.op("neg", "leaky_neg", x))
    tail = b.op("mul", "leaky_tail", below, b.const("leaky_slope", slope))
    return b.op("sub", "leaky_relu", b.op("relu", "leaky_above", x), tail)


def _elu(b: Builder, x: Value, alpha: float, scale: float) -> Value:
    """``scale*relu(x) + scale*alpha*(exp(min(x, 0)) - 1)``, the exponential at most 1."""
    below = b.op("min", "elu_below", x, b.const("elu_zero", 0.0))
    bend = b.op("sub", "elu_bend", b.op("exp", "elu_exp", below), b.const("elu_one", 1.0))
    tail = b.op("mul", "elu_tail", bend, b.const("elu_alpha", scale * alpha))
    above = b.op("relu", "elu_above", x)
    above = above if scale == 1.0 else b.op("mul", "elu_scaled", above, b.const("elu_scale", scale))
    return b.op("add", "elu", above, tail)


def _hardtanh(b: Builder, x: Value, lo: float, hi: float) -> Value:
    return b.op("clamp", "hardtanh", x, lo=float(lo), hi=float(hi), flag=None)


def _hard_sigmoid(b: Builder, x: Value, slope: float) -> Value:
    steep = b.op("mul", "hard_slope", x, b.const("hard_factor", slope))
    return _hardtanh(b, b.op("add", "hard_line", steep, b.const("hard_half", 0.5)), 0.0, 1.0)


def _hard_silu(b: Builder, x: Value, slope: float) -> Value:
    return b.op("mul", "hard_silu", x, _hard_sigmoid(b, x, slope))


def _op(kind: str) -> Callable[[Builder, Value], Value]:
    return lambda b, x: b.op(kind, kind, x)


def self_gated(real: Program) -> dict[str, float]:
    """Products ``x*gate(x)`` by name, outside of repeats, and the least that each can be.

    Of SiLU that is -0.2785 where ``1 + x*(1 - sigmoid(x)) = 0``; of x times ``s*x + 1/2`` limited to 0 .. 1 it is
    ``-1/(16*s)``, at ``x = -1/(4*s)``.
    """
    made = {op.out.name: op for op in real.body if isinstance(op, Op)}
    found = {}
    for op in (op for op in made.values() if op.kind == "mul" and op.args[1] in made):
        x, gate = op.args[0], made[op.args[1]]
        if gate.kind == "sigmoid" and gate.args == (x,):
            found[op.out.name] = SILU_LEAST
        elif gate.kind == "clamp" and gate.args[0].startswith("hard_line"):
            steep = made[made[gate.args[0]].args[0]]
            found[op.out.name] = -0.0625 / float(real.constants[steep.args[1]][1])
    return found


_FUNCTIONS: dict[str, Callable[[Builder, Value], Value]] = {
    "identity": lambda b, x: x,
    "relu": _op("relu"),
    "tanh": _op("tanh"),
    "sigmoid": _op("sigmoid"),
    "exp": _op("exp"),
    "abs": lambda b, x: magnitude(b, "size", x),
    "softplus": _softplus,
    "silu": _silu,
    "gelu": _gelu,
}

_WITH_PARAMETERS: dict[str, Callable[..., Value]] = {
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "hardtanh": _hardtanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": _hard_silu,
}
