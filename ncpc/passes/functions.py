"""Elementwise functions that are not ops of their own, composed of those that are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.program import Value

# erfc(a) = (c1*t + ... + c5*t**5) * exp(-a*a) with t = 1/(1 + p*a), a >= 0, error at most 1.5e-7:
# Abramowitz & Stegun 1964, 7.1.26.
ERFC_P = 0.3275911
ERFC_C = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def elementwise(b: Builder, function: str, x: Value) -> Value:
    """``function(x)``: identity, relu, tanh, sigmoid, silu or gelu. Raises ``Unsupported`` for any other."""
    if function not in _FUNCTIONS:
        raise Unsupported(f"function '{function}' cannot be lowered; supported: {', '.join(sorted(_FUNCTIONS))}")
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
    size = magnitude(b, "gelu_size", x)
    a = b.op("mul", "gelu_a", size, b.const("gelu_root_half", np.sqrt(0.5)))
    one = b.const("gelu_one", 1.0)
    t = b.op("div", "gelu_t", one, b.op("add", "gelu_1_pa", b.op("mul", "gelu_pa", a, b.const("gelu_p", ERFC_P)), one))
    tail = b.op("exp", "gelu_bell", b.op("neg", "gelu_minus_aa", b.op("mul", "gelu_aa", a, a)))
    half = b.op("mul", "gelu_tail", b.op("mul", "gelu_poly_bell", _polynomial(b, t), tail), size)
    return b.op("sub", "gelu", b.op("relu", "gelu_relu", x), half)


def _polynomial(b: Builder, t: Value) -> Value:
    """``(c1*t + ... + c5*t**5)/2`` by Horner's rule."""
    total = b.op("mul", "gelu_p4", t, b.const("gelu_c5", ERFC_C[-1] / 2))
    for k in range(4, 0, -1):
        inner = b.op("add", f"gelu_q{k}", total, b.const(f"gelu_c{k}", ERFC_C[k - 1] / 2))
        total = b.op("mul", f"gelu_p{k - 1}", inner, t)
    return total


def _op(kind: str) -> Callable[[Builder, Value], Value]:
    return lambda b, x: b.op(kind, kind, x)


_FUNCTIONS: dict[str, Callable[[Builder, Value], Value]] = {
    "identity": lambda b, x: x,
    "relu": _op("relu"),
    "tanh": _op("tanh"),
    "sigmoid": _op("sigmoid"),
    "silu": _silu,
    "gelu": _gelu,
}
