"""The bilinear view of an LTC around a state: its dynamic causal model (Friston, Harrison & Penny 2003, NeuroImage 19).

An LTC is ``cm dv/dt = gleak*(vleak - v) + sum w*sigmoid(sigma*(v_pre - mu))*(erev - v)``, sensory synapses likewise
from the inputs ``u = x*input_w + input_b``. Around ``(v0, x0)``, up to terms of second order in ``dv`` alone or ``dx``
alone, ``dv/dt = f0 + (A + sum_j dx_j*B[j]) dv + C dx``: A is how neurons drive each other, C how inputs drive neurons,
B how each input changes A. An input acts on conductances, so each ``B[j]`` is diagonal where every neuron has a
capacitance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.policy import F64, I64, Ltc, Synapses

SWEEPS, STILL = 1000, 1e-13
"""How often neurons without capacitance are put where their drives pull them, until they move by less than that."""


@dataclass(frozen=True, eq=False)
class Bilinear:
    """``f0`` (m,), ``a`` (m, m), ``b`` (inputs, m, m), ``c`` (m, inputs), per unit of dt, of the m neurons ``kept``
    (m,) that have a capacitance, around ``v`` (n,), of all neurons, and ``x`` (inputs,).
    """

    v: F64
    x: F64
    f0: F64
    a: F64
    b: F64
    c: F64
    kept: I64


def slope(layer: Ltc, v: F64, x: F64) -> F64:
    """dv/dt (n,) at state ``v`` (n,) and inputs ``x`` (inputs,); ``cm`` must be positive."""
    drive, conductance = _drives(layer, v, x)
    result: F64 = (drive - conductance * v) / layer.cm
    return result


def _drives(layer: Ltc, v: F64, x: F64) -> tuple[F64, F64]:
    """``num`` and ``den`` (n,) of ``cm dv/dt = num - den*v``."""
    num, den = layer.gleak * layer.vleak, layer.gleak + layer.epsilon
    for synapses, source in ((layer.sensory, x * layer.input_w + layer.input_b), (layer.recurrent, v)):
        open_ = synapses.w * _sigmoid(synapses, source)
        num = num + np.bincount(synapses.post, open_ * synapses.erev, layer.neurons)
        den = den + np.bincount(synapses.post, open_, layer.neurons)
    return num, den


def linearize(layer: Ltc, v: F64, x: F64) -> Bilinear:
    """A, B and C at ``v`` and ``x``, by the derivatives of the equation.

    A neuron whose ``cm`` is 0 has no rate: its voltage is the mean of its drives, ``num/den``, whatever ``v`` says, and
    it is eliminated (implicit function theorem: a Schur complement of A). Raises ``Unsupported`` where such means do
    not settle.
    """
    kept, gone = np.flatnonzero(layer.cm > 0), np.flatnonzero(layer.cm == 0)
    v = _at_means(layer, v, x, gone)
    (num, den), (a, b, c) = _drives(layer, v, x), _derivatives(layer, v, x)
    ahead, back = np.eye(layer.neurons)[:, kept], np.eye(layer.neurons)[kept]
    if gone.size:
        inner = a[np.ix_(gone, gone)]
        ahead[gone] = -np.linalg.solve(inner, a[np.ix_(gone, kept)])
        back[:, gone] = -np.linalg.solve(inner.T, a[np.ix_(kept, gone)].T).T
        follows = np.zeros((layer.neurons, layer.inputs))
        follows[gone] = -np.linalg.solve(inner, c[gone])
        b = b + np.stack([_turned(layer.recurrent, v, along) for along in follows.T])
    per = layer.cm[kept, None]
    return Bilinear(v, x, back @ (num - den * v) / per[:, 0], back @ a @ ahead / per, back @ b @ ahead / per,
                    back @ c / per, kept)


def _at_means(layer: Ltc, v: F64, x: F64, gone: I64) -> F64:
    """``v`` with every neuron of ``gone`` at the mean of its drives."""
    for _ in range(SWEEPS if gone.size else 0):
        num, den = _drives(layer, v, x)
        after = v.copy()
        after[gone] = num[gone] / den[gone]
        if np.abs(after - v).max() < STILL:
            return after
        v = after
    if gone.size:
        raise Unsupported(f"{layer.names[gone[0]]} has no capacitance, and where its drives pull it does not settle "
                          "there; give another point with --around")
    return v


def _derivatives(layer: Ltc, v: F64, x: F64) -> tuple[F64, F64, F64]:
    """A, B and C of ``num - den*v``, all neurons'."""
    n, u = layer.neurons, x * layer.input_w + layer.input_b
    a, b, c = np.zeros((n, n)), np.zeros((layer.inputs, n, n)), np.zeros((n, layer.inputs))
    np.fill_diagonal(a, -_drives(layer, v, x)[1])
    s = layer.recurrent
    np.add.at(a, (s.post, s.pre), _steepness(s, v) * (s.erev - v[s.post]))
    s = layer.sensory
    gain = _steepness(s, u) * layer.input_w[s.pre]
    np.add.at(c, (s.post, s.pre), gain * (s.erev - v[s.post]))
    np.add.at(b, (s.pre, s.post, s.post), -gain)
    return a, b, c


def _turned(s: Synapses, v: F64, along: F64) -> F64:
    """How A (n, n) changes as the state moves ``along`` (n,): second derivatives of the recurrent currents."""
    changed, rise = np.zeros((len(v), len(v))), _steepness(s, v)
    bend = rise * s.sigma * (1.0 - 2.0 * _sigmoid(s, v))
    np.add.at(changed, (s.post, s.post), -rise * along[s.pre])
    np.add.at(changed, (s.post, s.pre), bend * along[s.pre] * (s.erev - v[s.post]) - rise * along[s.post])
    return changed


def _sigmoid(s: Synapses, source: F64) -> F64:
    opened: F64 = 1.0 / (1.0 + np.exp(-s.sigma * (source[s.pre] - s.mu)))
    return opened


def _steepness(s: Synapses, source: F64) -> F64:
    """How a synapse's conductance rises with its source."""
    opened = _sigmoid(s, source)
    rise: F64 = s.w * s.sigma * opened * (1.0 - opened)
    return rise
