"""Explicit steps of an ODE ``dv/dt = f(v)`` as ops, and when such a step is unstable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.cells import CtRnn
from ncpc.ir.policy import F64, DtRange, Layer, Ltc
from ncpc.ir.program import Value

STABLE = {"euler": 2.0, "rk4": 2.785}
"""The largest (step x decay rate) at which a linear decay does not grow: the method's region on the real axis.

rk4: the root of 1 - z + z**2/2 - z**3/6 + z**4/24 = 1, 2.7853 (Hairer & Wanner 1996, IV.2).
"""


@dataclass(frozen=True)
class Length:
    """A step's length ``h`` (one number or one per neuron), its half and its sixth (rk4 only)."""

    h: Value
    half: Value | None = None
    sixth: Value | None = None


def length(b: Builder, h: Value, solver: str) -> Length:
    """What ``explicit_step`` needs of ``h``; computed once, outside the unfolds."""
    if solver == "euler":
        return Length(h)
    half = b.op("mul", "h_half", h, b.const("one_half", 0.5))
    return Length(h, half, b.op("mul", "h_sixth", h, b.const("one_sixth", 1 / 6)))


def explicit_step(b: Builder, f: Callable[[Value], Value], v: Value, size: Length) -> Value:
    """One step of explicit Euler, or of the classical Runge-Kutta method of order 4."""
    if size.half is None or size.sixth is None:
        return _ahead(b, "v_next", v, size.h, f(v))
    k1 = f(v)
    k2 = f(_ahead(b, "v_k1", v, size.half, k1))
    k3 = f(_ahead(b, "v_k2", v, size.half, k2))
    k4 = f(_ahead(b, "v_k3", v, size.h, k3))
    inner = b.op("add", "k2_k3", k2, k3)
    total = b.op("add", "k_sum", b.op("add", "k1_k4", k1, k4), b.op("add", "k2_k3_twice", inner, inner))
    return _ahead(b, "v_next", v, size.sixth, total)


def _ahead(b: Builder, name: str, v: Value, h: Value, slope: Value) -> Value:
    return b.op("add", name, v, b.op("mul", f"{name}_step", h, slope))


def refuse_unstable(layer: Layer, dt: DtRange) -> None:
    """Raise ``Unsupported`` where an explicit step is longer than the fastest decay allows.

    An LTC's neuron decays fastest with all its synapses open, at (gleak + sum w + epsilon)/cm.
    """
    if isinstance(layer, Ltc) and layer.solver in STABLE:
        _refuse(layer.names, _ltc_rates(layer), dt.hi / layer.unfolds, layer.solver, layer.unfolds, ", or solver fused")
    if isinstance(layer, CtRnn):
        names = tuple(f"neuron {i}" for i in range(layer.outputs))
        _refuse(names, 1.0 / layer.tau, layer.step * dt.hi, layer.solver, layer.unfolds, " of a shorter step")


def _refuse(names: tuple[str, ...], rates: F64, h: float, solver: str, unfolds: int, instead: str) -> None:
    worst = int(np.argmax(rates))
    product = h * float(rates[worst])
    if product > STABLE[solver]:
        needed = int(np.ceil(unfolds * product / STABLE[solver]))
        raise Unsupported(f"{names[worst]}: solver '{solver}' is unstable, step {h:g} x decay rate {rates[worst]:g} = "
                          f"{product:g} exceeds {STABLE[solver]:g}; use at least {needed} unfolds{instead}")


def _ltc_rates(layer: Ltc) -> F64:
    """Each neuron's decay rate with all its synapses open."""
    if np.any(layer.cm == 0):
        name = layer.names[int(np.argmin(layer.cm))]
        raise Unsupported(f"{name}: cm = 0, so it has no rate of change and solver '{layer.solver}' cannot step it; "
                          "use solver fused")
    conductance = layer.gleak + layer.epsilon
    for synapses in (layer.sensory, layer.recurrent):
        conductance = conductance + np.bincount(synapses.post, synapses.w, minlength=layer.neurons)
    rates: F64 = conductance / layer.cm
    return rates
