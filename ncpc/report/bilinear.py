"""The bilinear view of an LTC around a state: its dynamic causal model (Friston, Harrison & Penny 2003, NeuroImage 19).

An LTC is ``cm dv/dt = gleak*(vleak - v) + sum w*sigmoid(sigma*(v_pre - mu))*(erev - v)``, sensory synapses likewise
from the inputs ``u = x*input_w + input_b``. Around ``(v0, x0)``, up to terms of second order in ``dv`` alone or ``dx``
alone, ``dv/dt = f0 + (A + sum_j dx_j*B[j]) dv + C dx``: A is how neurons drive each other, C how inputs drive neurons,
B how each input changes A. An input acts on conductances, so each ``B[j]`` is diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.policy import F64, Ltc, Synapses


@dataclass(frozen=True, eq=False)
class Bilinear:
    """``f0`` (n,), ``a`` (n, n), ``b`` (inputs, n, n), ``c`` (n, inputs), per unit of dt, around ``v`` and ``x``."""

    v: F64
    x: F64
    f0: F64
    a: F64
    b: F64
    c: F64


def slope(layer: Ltc, v: F64, x: F64) -> F64:
    """dv/dt (n,) at state ``v`` (n,) and inputs ``x`` (inputs,)."""
    u = x * layer.input_w + layer.input_b
    total = layer.gleak * (layer.vleak - v) - layer.epsilon * v
    for synapses, source in ((layer.sensory, u), (layer.recurrent, v)):
        open_ = synapses.w * _sigmoid(synapses, source)
        np.add.at(total, synapses.post, open_ * (synapses.erev - v[synapses.post]))
    result: F64 = total / layer.cm
    return result


def linearize(layer: Ltc, v: F64, x: F64) -> Bilinear:
    """A, B and C at ``v`` and ``x``, by the derivatives of the equation. ``cm`` must be positive."""
    n, u = layer.neurons, x * layer.input_w + layer.input_b
    a, b, c = np.zeros((n, n)), np.zeros((layer.inputs, n, n)), np.zeros((n, layer.inputs))
    np.fill_diagonal(a, -(layer.gleak + layer.epsilon))
    for synapses, source in ((layer.sensory, u), (layer.recurrent, v)):
        np.add.at(a, (synapses.post, synapses.post), -synapses.w * _sigmoid(synapses, source))
    s = layer.recurrent
    np.add.at(a, (s.post, s.pre), _steepness(s, v) * (s.erev - v[s.post]))
    s = layer.sensory
    gain = _steepness(s, u) * layer.input_w[s.pre]
    np.add.at(c, (s.post, s.pre), gain * (s.erev - v[s.post]))
    np.add.at(b, (s.pre, s.post, s.post), -gain)
    cm = layer.cm[:, None]
    return Bilinear(v, x, slope(layer, v, x), a / cm, b / cm, c / cm)


def _sigmoid(s: Synapses, source: F64) -> F64:
    opened: F64 = 1.0 / (1.0 + np.exp(-s.sigma * (source[s.pre] - s.mu)))
    return opened


def _steepness(s: Synapses, source: F64) -> F64:
    """How a synapse's conductance rises with its source."""
    opened = _sigmoid(s, source)
    rise: F64 = s.w * s.sigma * opened * (1.0 - opened)
    return rise
