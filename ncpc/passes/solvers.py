"""Explicit steps of an ODE ``dv/dt = f(v)`` as ops, and when such a step is unstable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.policy import F64
from ncpc.ir.program import Value
from ncpc.ir.tableau import TABLEAUS

WORDS = {2: "half", 3: "third", 6: "sixth", 8: "eighth"}
"""Parts of a step by their denominator, for names in the emitted code."""
Lengths = Mapping[Fraction, Value]
"""Parts of a step's length (one number or one per neuron), by the share that each is."""


def lengths(b: Builder, h: Value, solver: str) -> Lengths:
    """What ``explicit_step`` needs of ``h``; computed once, outside the unfolds."""
    tableau = TABLEAUS[solver]
    shares = [abs(share) for row in tableau.a for share in row if share] + [Fraction(1, tableau.parts[0])]
    return {share: h if share == 1 else _part(b, h, share) for share in dict.fromkeys(shares)}


def _part(b: Builder, h: Value, share: Fraction) -> Value:
    word = WORDS[share.denominator]
    return b.op("mul", f"h_{word}", h, b.const(f"one_{word}", float(share)))


def explicit_step(b: Builder, f: Callable[[Value], Value], v: Value, size: Lengths, solver: str) -> Value:
    """One step of a method of ``TABLEAUS``. The classical one, of which h/2 and h/6 are needed, becomes

        k1 = f(v), k2 = f(v + h/2*k1), k3 = f(v + h/2*k2), k4 = f(v + h*k3)
        v + h/6*((k1 + k4) + ((k2 + k3) + (k2 + k3)))
    """
    tableau = TABLEAUS[solver]
    slopes = [f(v)]
    for stage, row in enumerate(tableau.a, 1):
        slopes.append(f(_stage(b, f"v_k{stage}", v, size, [(s, k) for s, k in zip(row, slopes, strict=True) if s])))
    whole, parts = tableau.parts
    return _ahead(b, "v_next", v, size[Fraction(1, whole)], _weighted(b, slopes, parts))


def _stage(b: Builder, name: str, v: Value, size: Lengths, terms: list[tuple[Fraction, Value]]) -> Value:
    """``v + h * sum of shares of slopes``."""
    at = v
    for n, (share, slope) in enumerate(terms, 1):
        own = name if n == len(terms) else f"{name}_{n}"
        at = _ahead(b, own, at, size[abs(share)], slope, "add" if share > 0 else "sub")
    return at


def _weighted(b: Builder, slopes: list[Value], parts: tuple[int, ...]) -> Value:
    """``sum of parts[i] * slopes[i]``: equal parts are added first, and the sum as often as they say."""
    sums: dict[int, tuple[str, Value]] = {}
    for part in sorted(set(parts), reverse=True):
        own = [(f"k{i}", k) for i, (n, k) in enumerate(zip(parts, slopes, strict=True), 1) if n == part]
        name, total = own[0]
        for other, k in own[1:]:
            name = f"{name}_{other}"
            total = b.op("add", name, total, k)
        sums[part] = (name, total)
    times = {part: _times(b, name, total, part) for part, (name, total) in sums.items()}
    (_, whole), *others = sorted(times.items())
    for _, value in others:
        whole = b.op("add", "k_sum", whole, value)
    return whole


def _times(b: Builder, name: str, value: Value, times: int) -> Value:
    """``times * value`` by additions."""
    total = value
    for word in ("twice", "thrice")[: times - 1]:
        total = b.op("add", f"{name}_{word}", total, value)
    return total


def _ahead(b: Builder, name: str, v: Value, h: Value, slope: Value, way: str = "add") -> Value:
    return b.op(way, name, v, b.op("mul", f"{name}_step", h, slope))


def refuse_unstable(names: Sequence[str], rates: F64, h: float, solver: str, unfolds: int, instead: str = "") -> None:
    """Raise ``Unsupported`` where a step of length ``h`` is longer than the fastest of the neurons' decays allows.

    ``rates`` (neurons,); ``instead`` is said after the number of unfolds that would do.
    """
    worst = int(np.argmax(rates))
    product = h * float(rates[worst])
    stable = TABLEAUS[solver].stable
    if product > stable:
        needed = int(np.ceil(unfolds * product / stable))
        raise Unsupported(f"{names[worst]}: solver '{solver}' is unstable, step {h:g} x decay rate {rates[worst]:g} = "
                          f"{product:g} exceeds {stable:.4g}; use at least {needed} unfolds{instead}")
