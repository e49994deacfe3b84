"""The cell in float64, unfold by unfold, and how much each state matters: what the placing of levels goes by.

``J`` below is the Jacobian of one unfold. For ``v' = N/D``: ``dv'_i/dv_j = (cm_t_i [i=j] + sum over synapses j->i of
w sigma s(1-s)(erev - v'_i)) / D_i`` with ``s`` the sigmoid; the sensory terms likewise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Synapses
from ncpc.targets.nir.front import Cell, logistic

F64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A run from reset: ``z`` (T, B, cell inputs), ``v`` (T*unfolds + 1, B, neurons), ``den`` (T*unfolds, B, neurons).

    ``v[0]`` is the reset state, ``v[(t+1)*unfolds]`` the state after step t.
    """

    z: F64
    v: F64
    den: F64


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Mean squared effect on all later outputs of an error in each state (as ``v``) and input (as ``z``)."""

    v: F64
    z: F64


def trajectory(cell: Cell, x: F64) -> Trajectory:
    """Run ``x`` (B, T, inputs) from reset."""
    ltc, cm_t = cell.ltc, cell.cm_t
    z = np.swapaxes(x @ cell.weight.T + cell.bias, 0, 1)
    v, states, dens = np.zeros((x.shape[0], ltc.neurons)), [], []
    states.append(v)
    for u in cell.sensed(z):
        num_s, den_s = currents(ltc.sensory, u, ltc.neurons)
        for _ in range(ltc.unfolds):
            num, den = currents(ltc.recurrent, v, ltc.neurons)
            total = cm_t + ltc.gleak + ltc.epsilon + den + den_s
            v = (cm_t * v + ltc.gleak * ltc.vleak + num + num_s) / total
            states.append(v)
            dens.append(total)
    return Trajectory(z, np.stack(states), np.stack(dens))


def outputs(cell: Cell, run: Trajectory) -> F64:
    """``y`` (B, T, outputs) of a run."""
    motor = run.v[cell.ltc.unfolds :: cell.ltc.unfolds, :, : cell.ltc.outputs]
    return np.swapaxes(motor @ cell.readout.T + cell.offset, 0, 1)


def currents(s: Synapses, source: F64, neurons: int) -> tuple[F64, F64]:
    """``sum w s erev`` and ``sum w s`` per postsynaptic neuron, each (B, neurons), for ``source`` (B, n)."""
    g = s.w * logistic(s.sigma * (source[:, s.pre] - s.mu))
    return _gathered(g * s.erev, s.post, neurons), _gathered(g, s.post, neurons)


def sensitivity(cell: Cell, run: Trajectory, probes: int = 6, seed: int = 0) -> Sensitivity:
    """Hutchinson's estimate: adjoint runs from random signs at every output, squared and averaged."""
    rng = np.random.default_rng(seed)
    v, z = np.zeros_like(run.v), np.zeros_like(run.z)
    u, slope = cell.sensed(run.z), _slope(cell, run.z)
    for _ in range(probes):
        _adjoint(cell, run, u, rng, v, z)
    return Sensitivity(v / probes, z * slope**2 / probes)


def _slope(cell: Cell, z: F64, h: float = 1e-4) -> F64:
    return (cell.sensed(z + h) - cell.sensed(z - h)) / (2.0 * h)


def _adjoint(cell: Cell, run: Trajectory, u: F64, rng: np.random.Generator, v2: F64, u2: F64) -> None:
    """One backward pass; adds squared adjoints of the states to ``v2`` and of ``u`` to ``u2``."""
    ltc, steps, batch = cell.ltc, u.shape[0], u.shape[1]
    a = np.zeros((batch, ltc.neurons))
    for t in range(steps - 1, -1, -1):
        signs = rng.choice([-1.0, 1.0], (batch, cell.readout.shape[0]))
        a[:, : ltc.outputs] += signs @ cell.readout
        into_u = np.zeros((batch, ltc.inputs))
        for i in range((t + 1) * ltc.unfolds - 1, t * ltc.unfolds - 1, -1):
            v2[i + 1] += a * a
            q = a / run.den[i]
            into_u += _back(ltc.sensory, u[t], run.v[i + 1], q)
            a = cell.cm_t * q + _back(ltc.recurrent, run.v[i], run.v[i + 1], q)
        u2[t] += into_u * into_u
    v2[0] += a * a


def _back(s: Synapses, source: F64, after: F64, q: F64) -> F64:
    """The transposed Jacobian of the synapses on ``q`` (B, neurons): (B, sources)."""
    g = logistic(s.sigma * (source[:, s.pre] - s.mu))
    slope = s.w * s.sigma * g * (1.0 - g) * (s.erev - after[:, s.post])
    return _gathered(slope * q[:, s.post], s.pre, source.shape[1])


def _gathered(values: F64, index: NDArray[np.int64], size: int) -> F64:
    """Sums of the columns of ``values`` (B, S) that share an index: (B, size)."""
    picks = np.zeros((index.shape[0], size))
    picks[np.arange(index.shape[0]), index] = 1.0
    return values @ picks
