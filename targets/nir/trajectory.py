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


@dataclass(frozen=True, eq=False)
class SynapseSums:
    """A synapse set, its sums as products by 0-1 matrices: ``onto_post`` (S, neurons), ``onto_pre`` (S, sources)."""

    synapses: Synapses
    onto_post: F64
    onto_pre: F64

    def sigmoids(self, source: F64) -> F64:
        """(..., S) for ``source`` (..., sources)."""
        s = self.synapses
        return logistic(s.sigma * (source[..., s.pre] - s.mu))

    def currents(self, source: F64) -> tuple[F64, F64]:
        """``sum w s erev`` and ``sum w s`` per postsynaptic neuron, each (..., neurons)."""
        g = self.synapses.w * self.sigmoids(source)
        return (g * self.synapses.erev) @ self.onto_post, g @ self.onto_post

    def slopes(self, source: F64, after: F64) -> F64:
        """``w sigma s(1-s)(erev - v')`` (..., S): what N - v'D gains per unit of the source."""
        s, g = self.synapses, self.sigmoids(source)
        return s.w * s.sigma * g * (1.0 - g) * (s.erev - after[..., s.post])

    def back(self, slopes: F64, q: F64) -> F64:
        """The transposed Jacobian on ``q`` (..., neurons): (..., sources)."""
        return (slopes * q[..., self.synapses.post]) @ self.onto_pre


def wired(s: Synapses, sources: int, neurons: int) -> SynapseSums:
    """``s`` between ``sources`` and ``neurons``."""
    return SynapseSums(s, np.eye(neurons)[s.post], np.eye(sources)[s.pre])


def trajectory(cell: Cell, x: F64) -> Trajectory:
    """Run ``x`` (B, T, inputs) from reset."""
    ltc, cm_t = cell.ltc, cell.cm_t
    sensory, recurrent = wired(ltc.sensory, ltc.inputs, ltc.neurons), wired(ltc.recurrent, ltc.neurons, ltc.neurons)
    z = np.swapaxes(x @ cell.weight.T + cell.bias, 0, 1)
    v, states, dens = np.zeros((x.shape[0], ltc.neurons)), [], []
    states.append(v)
    for u in cell.sensed(z):
        num_s, den_s = sensory.currents(u)
        for _ in range(ltc.unfolds):
            num, den = recurrent.currents(v)
            total = cm_t + ltc.gleak + ltc.epsilon + den + den_s
            v = (cm_t * v + ltc.gleak * ltc.vleak + num + num_s) / total
            states.append(v)
            dens.append(total)
    return Trajectory(z, np.stack(states), np.stack(dens))


def outputs(cell: Cell, run: Trajectory) -> F64:
    """``y`` (B, T, outputs) of a run."""
    motor = run.v[cell.ltc.unfolds :: cell.ltc.unfolds, :, : cell.ltc.outputs]
    return np.swapaxes(cell.readout(motor), 0, 1)


def sensitivity(cell: Cell, run: Trajectory, probes: int = 6, seed: int = 0) -> Sensitivity:
    """Hutchinson's estimate: adjoint runs from random signs at every output, squared and averaged over ``probes``."""
    ltc, rng = cell.ltc, np.random.default_rng(seed)
    sensory, recurrent = wired(ltc.sensory, ltc.inputs, ltc.neurons), wired(ltc.recurrent, ltc.neurons, ltc.neurons)
    u, v2, u2 = cell.sensed(run.z), np.zeros_like(run.v), np.zeros_like(run.z)
    a = np.zeros((probes, u.shape[1], ltc.neurons))
    for t in range(u.shape[0] - 1, -1, -1):
        signs = rng.choice([-1.0, 1.0], (*a.shape[:2], len(cell.readout.offset)))
        a[..., : ltc.outputs] += cell.readout.back(run.v[(t + 1) * ltc.unfolds, :, : ltc.outputs], signs)
        into_u = np.zeros((*a.shape[:2], ltc.inputs))
        for i in range((t + 1) * ltc.unfolds - 1, t * ltc.unfolds - 1, -1):
            v2[i + 1] = (a * a).mean(axis=0)
            q = a / run.den[i]
            into_u += sensory.back(sensory.slopes(u[t], run.v[i + 1]), q)
            a = cell.cm_t * q + recurrent.back(recurrent.slopes(run.v[i], run.v[i + 1]), q)
        u2[t] = (into_u * into_u).mean(axis=0)
    v2[0] = (a * a).mean(axis=0)
    return Sensitivity(v2, u2 * _slope(cell, run.z) ** 2)


def _slope(cell: Cell, z: F64, h: float = 1e-4) -> F64:
    """du/dz."""
    return (cell.sensed(z + h) - cell.sensed(z - h)) / (2.0 * h)
