"""One neuron's error inequality, in outward-rounded arithmetic: see ``ncpc.proofs.errors.check``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.policy import F64
from ncpc.proofs.errors.cells import Cells
from ncpc.proofs.errors.certificate import Certificate, Row
from ncpc.proofs.errors.facts import Facts, Set
from ncpc.proofs.errors.outward import Bounds, around, bounds, growth, larger, per, sigmoid, smaller

ONE = bounds(1.0)
OUTSIDE = 1e6
"""Ends of the cells beyond the table; states are limited to their box anyway."""


@dataclass(frozen=True, eq=False)
class Synapse:
    """One synapse onto the neuron. ``argument`` is the exact network's, ``off`` the most that quantization moves it,
    ``far`` the same with the presynaptic error, which ``before`` gives over the presynaptic state; ``own`` says that it
    comes from the neuron itself.

    ``w``, ``we`` as deployed, ``real_w``, ``erev``, ``sigma`` as trained; ``s`` the range of the exact sigmoid.
    """

    own: bool
    argument: Bounds
    off: Bounds
    far: Bounds
    w: float
    we: float
    real_w: float
    erev: float
    sigma: float
    mu: float
    s: Bounds
    step_g: float
    step_n: float
    before: Row | None


def synapses_of(held: Facts, c: Certificate, neuron: int) -> list[Synapse]:
    """All synapses onto a neuron, recurrent ones first."""
    found = [_recurrent(held, c, int(j), neuron) for j in np.flatnonzero(held.recurrent.real.post == neuron)]
    return found + [_sensory(held, int(j)) for j in np.flatnonzero(held.sensory.real.post == neuron)]


def _recurrent(held: Facts, c: Certificate, j: int, neuron: int) -> Synapse:
    part, pre = held.recurrent, int(held.recurrent.real.pre[j])
    range_ = Bounds(c.box[pre, 0], c.box[pre, 1])
    sigma, mu, e = bounds(part.real.sigma[j]), float(part.real.mu[j]), float(c.error[pre])
    deployed = range_ + around(e)
    drift = (bounds(part.slope[j]) - sigma) * deployed + (bounds(part.centre[j] - part.floor / 2) + sigma * mu)
    off = drift.size() + bounds(abs(part.slope[j])) * held.half_u + part.floor / 2
    before = None if pre == neuron else c.rows[pre]
    return _synapse(part, j, (pre == neuron, before), sigma * (range_ - mu), off, off + sigma.size() * e)


def _sensory(held: Facts, j: int) -> Synapse:
    part, pre = held.sensory, int(held.sensory.real.pre[j])
    range_, layer = Bounds(held.x_range[pre, 0], held.x_range[pre, 1]), held.layer
    sigma, mu = bounds(part.real.sigma[j]), float(part.real.mu[j])
    slope, shift = sigma * layer.input_w[pre], sigma * (bounds(layer.input_b[pre]) - mu)
    drift = (bounds(part.slope[j]) - slope) * range_ + (bounds(part.centre[j] - part.floor / 2) - shift)
    off = drift.size() + bounds(abs(part.slope[j])) * float(held.x_error[pre]) + part.floor / 2
    return _synapse(part, j, (False, None), slope * range_ + shift, off, off)


def _synapse(part: Set, j: int, source: tuple[bool, Row | None], z: Bounds, off: Bounds, far: Bounds) -> Synapse:
    real = part.real
    return Synapse(source[0], z, off, far, float(part.w[j]), float(part.we[j]), float(real.w[j]), float(real.erev[j]),
                   float(real.sigma[j]), float(real.mu[j]), sigmoid(z), part.step_g, part.step_n, source[1])


@dataclass(frozen=True, eq=False)
class Points:
    """Where the inequality is evaluated, arrays (P, 1): the next state x, the state v before, the multiplier nu, the
    sign of the error after and before the update, the piece of the state's range that v belongs to.

    ``start`` bounds the error before from above, by the line through the slice of x; ``room`` is H at x.
    """

    x: F64
    v: F64
    nu: F64
    sign: F64
    before: F64
    piece: F64
    start: Bounds
    room: Bounds


def points_of(held: Facts, row: Row, own: bool) -> Points:
    """Both ends of each slice and piece, either sign; without a synapse onto itself an error only keeps its sign."""
    pieces, slices = len(row.pieces) - 1, len(row.levels) - 1
    grid = np.stack(np.meshgrid(range(pieces), range(slices), (0, 1), (0, 1) if own else (0,), (0, 1), (0, 1),
                                indexing="ij"), axis=-1).reshape(-1, 6)
    p, k, sign, before, right, after = grid.T
    columns = (row.levels[k + right], row.pieces[p + after], row.multipliers[p, k, sign, before], 1.0 - 2.0 * sign,
               1.0 - 2.0 * before, p)
    flat = [np.asarray(c, np.float64)[:, None] for c in columns]
    left, height = row.levels[k][:, None], bounds(row.errors[k][:, None])
    slope = per(bounds(row.errors[k + 1][:, None]) - height, bounds(row.levels[k + 1][:, None]) - left)
    room = bounds(row.errors[k + right][:, None]) - _lost(held, float(row.errors.max()))
    x, v, nu, sign_, before_, piece = flat
    return Points(x, v, nu, sign_, before_, piece, height + slope * (bounds(v) - left), Bounds(room.lo, room.lo))


def row_excess(held: Facts, table: Cells, synapses: list[Synapse], width: float, neuron: int, row: Row) -> float:
    """An upper bound of (largest numerator) - H*D^; the inequality holds where it is not above 0."""
    at = points_of(held, row, any(s.own for s in synapses))
    divisor = _conductance(held, synapses, neuron, 0) + held.cm_least[neuron]
    if (at.room.lo < 0.0).any() or not float(divisor.lo) > 0.0:
        return float("inf")
    total = _fixed(held, table, synapses, at, width, float(row.errors.max()), neuron)
    for synapse in synapses:
        total = total + _share(table, synapse, at, row)
    return float(total.hi.max())


def _lost(held: Facts, error: float) -> Bounds:
    """What the state's rounding and the reciprocal take of an error after the division."""
    return (bounds(error) * 2.0 + held.half_v) * held.recip + held.half_v


def _conductance(held: Facts, synapses: list[Synapse], neuron: int, end: int) -> Bounds:
    """The exact G of a neuron: its least (0) or its most (1)."""
    total = bounds(held.layer.gleak[neuron]) + held.layer.epsilon
    for s in synapses:
        total = total + bounds(s.real_w) * (s.s.lo if end == 0 else s.s.hi)
    return total


def _fixed(held: Facts, table: Cells, synapses: list[Synapse], at: Points, width: float, e: float,
           i: int) -> Bounds:
    """What does not depend on the synapses' activity."""
    layer, width_ = held.layer, (bounds(width) * (1.0 + 2.0**-40))
    gl, eps = bounds(layer.gleak[i]), bounds(layer.epsilon)
    leak = gl * layer.vleak[i]
    conductance = gl + eps
    off = bounds(held.leak[i]) - leak - (bounds(held.gleak[i]) - conductance) * at.x
    most = _conductance(held, synapses, i, 1)
    rounding = (width_ + bounds(e) * 2.0) * held.half_d + held.half_n
    moved = width_ * most * _swollen(held, table, synapses, i) * held.recip
    late = smaller(bounds(held.cm_most[i]), most) * width_ * held.cm_share[i] + width_ * held.cm_error[i]
    parts = off * at.sign - at.room * held.gleak[i] + rounding + moved + late
    identity_ = (leak - conductance * at.x) * at.nu
    inertia = larger(_inertia(held, at, i, held.cm_least[i]), _inertia(held, at, i, held.cm_most[i]))
    total: Bounds = parts + identity_ + inertia
    return total


def _inertia(held: Facts, at: Points, i: int, cm: float) -> Bounds:
    """cm_t^*(v^ - v - H) and the multiplier's cm_t*(v - v')."""
    kept = at.start * at.before - at.room
    spread = bounds(cm) * held.cm_share[i] + held.cm_error[i]
    total: Bounds = kept * cm + kept.size() * spread + (bounds(at.v) - at.x) * cm * at.nu
    return total


def _swollen(held: Facts, table: Cells, synapses: list[Synapse], i: int) -> Bounds:
    """An upper bound of D^/D."""
    extra = (bounds(held.gleak[i]) - held.layer.gleak[i] - held.layer.epsilon).size() + held.half_d + held.cm_error[i]
    for s in synapses:
        extra = extra + (bounds(s.w) - s.real_w).size() + bounds(s.real_w) * _worst(table, s) + s.step_g
    total: Bounds = ONE + held.cm_share[i] + per(extra, _conductance(held, synapses, i, 0) + held.cm_least[i])
    return total


def _worst(table: Cells, s: Synapse) -> float:
    part = _over(table, s)
    return float(_distance(table, part, s).hi.max())


def _over(table: Cells, s: Synapse) -> slice:
    wide = s.argument + Bounds(-s.far.hi, s.far.hi)
    return table.over(float(wide.lo), float(wide.hi))


def _distance(table: Cells, part: slice, s: Synapse) -> Bounds:
    """|s^ - s| per cell: by the slope there, or by the range of s alone where that is less."""
    value, slope = table.value[part], table.slope[part]
    near = bounds(slope.hi) * growth(_apart(table, part, s)) + table.error[part]
    apart = larger(bounds(value.hi) - s.s.lo, bounds(s.s.hi) - value.lo)
    return smaller(near, apart)


def _apart(table: Cells, part: slice, s: Synapse) -> Bounds:
    """How far the deployed argument is from the exact one, at most, while it is in a cell.

    The presynaptic error is concave over the state, so each of its lines bounds it: the lowest is taken.
    """
    if s.before is None:
        return s.far
    cell = np.arange(part.start, part.stop)
    edges = np.concatenate([[-OUTSIDE], table.edges, [OUTSIDE]])
    z = Bounds(edges[cell], edges[cell + 1]) + Bounds(-s.far.hi, s.far.hi)
    state = per(z, bounds(s.sigma).size()) * float(np.sign(s.sigma)) + s.mu
    levels, errors = s.before.levels, s.before.errors
    state = Bounds(np.clip(state.lo, levels[0], levels[-1]), np.clip(state.hi, levels[0], levels[-1]))
    most = np.full(len(cell), float(errors.max()))
    for k in range(len(levels) - 1):
        slope = per(bounds(errors[k + 1]) - errors[k], bounds(levels[k + 1]) - levels[k])
        most = np.minimum(most, ((state - levels[k]) * slope + errors[k]).hi)
    total: Bounds = s.off + bounds(s.sigma).size() * np.maximum(most, 0.0)
    return total


def _share(table: Cells, s: Synapse, at: Points, row: Row) -> Bounds:
    """The largest contribution of one synapse, over the cells its argument can fall into: (P, 1)."""
    part = _over(table, s)
    value = table.value[part]
    pull = (bounds(s.erev) - at.x) * s.real_w
    size = pull.size()
    off = bounds(s.we) - bounds(s.real_w) * s.erev - (bounds(s.w) - s.real_w) * at.x
    factor = off * at.sign - at.room * s.w + pull * at.nu
    far = _distance(table, part, s)
    near = bounds(table.slope[part].hi) * growth(s.off) + table.error[part] if s.own else far
    whole = larger(factor * value.lo, factor * value.hi) + size * near + size * far * np.abs(at.nu)
    if s.own:
        whole = whole + _feedback(table, part, s, at, pull * s.sigma)
        whole = Bounds(whole.lo, np.where(_reached(table, part, s, at, row), whole.hi, -np.inf))
    down = (bounds(at.sign) * at.x + at.room) * s.step_g
    rounding = larger(down, bounds(0.0)) + np.where(at.sign < 0, s.step_n, 0.0)
    most = whole.hi.max(axis=1, keepdims=True)
    return Bounds(most, most) + rounding


def _feedback(table: Cells, part: slice, s: Synapse, at: Points, gain: Bounds) -> Bounds:
    """The neuron's own error, of the sign it has before the update, through its synapse onto itself."""
    factor = growth(s.far) + 1.0
    slope = table.slope[part]
    reach = Bounds(per(bounds(slope.lo), factor).lo, (bounds(slope.hi) * factor).hi)
    return gain * reach * (at.start * at.before)


def _reached(table: Cells, part: slice, s: Synapse, at: Points, row: Row) -> np.ndarray:
    """Whether a cell is met while the state is in the point's piece, (P, cells)."""
    ends = bounds(s.sigma) * (Bounds(row.pieces[:-1], row.pieces[1:]) - s.mu) + Bounds(-s.far.hi, s.far.hi)
    first = np.searchsorted(table.edges, ends.lo, "left")
    last = np.searchsorted(table.edges, ends.hi, "right")
    cell, piece = np.arange(part.start, part.stop)[None, :], at.piece.astype(np.int64)
    met: np.ndarray = (cell >= first[piece]) & (cell <= last[piece])
    return met
