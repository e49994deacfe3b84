"""One neuron's error inequality as the prover evaluates it: float64, all multipliers and slices at once."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from ncpc.ir.policy import F64
from ncpc.ir.quantized import S_FRAC, Z_HALF
from ncpc.proofs.errors.certificate import Row
from ncpc.proofs.errors.facts import Facts, Set

MULTIPLIERS = np.array([0.0, 0.15, 0.4, 0.8, 1.6, -0.15, -0.4, -0.8, -1.6])
BEND = 0.09623


def _sigmoid(z: F64) -> F64:
    value: F64 = 0.5 * (1.0 + np.tanh(z / 2.0))
    return value


@dataclass(frozen=True, eq=False)
class _Table:
    edges: F64
    low: F64
    high: F64
    error: F64
    gentle: F64
    steep: F64


def _table(held: Facts) -> _Table:
    return _tabulated(held.table.astype(np.int64).tobytes())


@lru_cache(maxsize=4)
def _tabulated(raw: bytes) -> _Table:
    """The table in cells, as ``ncpc.proofs.errors.cells`` has it, in plain float64."""
    values = np.frombuffer(raw, np.int64) * 2.0**-S_FRAC
    size = len(values) - 1
    edges = np.linspace(-Z_HALF, Z_HALF, size + 1)
    real = _sigmoid(edges)
    off = np.abs(values - real)
    chord = BEND * (2 * Z_HALF / size) ** 2 / 8 + 2.0 ** -(S_FRAC + 1)
    error = np.concatenate([[max(off[0], values[0])], np.maximum(off[:-1], off[1:]) + chord, [1 - values[-2]]])
    slope = real * (1 - real)
    steep = np.maximum(slope[:-1], slope[1:])
    gentle = np.minimum(slope[:-1], slope[1:])
    low = np.concatenate([values[:1], np.minimum(values[:-1], values[1:]), values[-2:-1]])
    high = np.concatenate([values[:1], np.maximum(values[:-1], values[1:]), values[-1:]])
    return _Table(edges, low, high, error, np.concatenate([[0.0], gentle, [0.0]]),
                  np.concatenate([slope[:1], steep, slope[-1:]]))


@dataclass(frozen=True, eq=False)
class _Synapse:
    """A synapse over the cells it can meet: table values, distance of s^ from s, and for one's own the slopes."""

    w: float
    pull: F64
    off: F64
    low: F64
    high: F64
    far: F64
    near: F64
    own: bool
    sigma: float
    reach: F64
    met: F64
    step_g: float
    step_n: float


class Trial:
    """A neuron's inequality with the errors of all others given; ``closes(e)`` for its own.

    ``shapes`` (neurons, slices + 1) and ``shape`` are the errors' values at the levels of the state, as shares of e.
    """

    def __init__(self, held: Facts, box: F64, errors: F64, shapes: F64, i: int, shape: F64, pieces: int) -> None:
        self.held, self.box, self.errors, self.shapes, self.i, self.shape = held, box, errors, shapes, i, shape
        own = (held.recurrent.real.post == i) & (held.recurrent.real.pre == i)
        self.pieces = levels_of(box[i], pieces if own.any() else 1)
        self.levels = levels_of(box[i], len(shape) - 1)
        self.at = np.stack([self.levels[:-1], self.levels[1:]], axis=1)
        self.steep = np.diff(shape) / np.diff(self.levels)
        self.sides = np.array([1.0, -1.0]) if own.any() else np.array([1.0])
        self.width = float(box[i, 1] - box[i, 0])

    def closes(self, e: float) -> bool:
        """Whether every slice and piece has a multiplier with which the inequality holds."""
        if e * float(self.shape.min()) < self._lost(e):
            return False
        return bool((self._worst(e).min(axis=2) <= 0.0).all())

    def _lost(self, e: float) -> float:
        """What rounding takes of an error after the division; H must not be negative."""
        return self.held.half_v + (2 * e + self.held.half_v) * self.held.recip

    def row(self, e: float) -> Row:
        """The splits and the best multiplier of each part: (pieces, slices, sign, before)."""
        least = self._worst(e).argmin(axis=2)
        slices = np.arange(least.shape[1])[None, :, None, None]
        best = np.broadcast_to(self._multipliers(e)[slices, least], (*least.shape[:3], 2)).copy()
        return Row(self.levels, concave(self.levels, self.shape * e), self.pieces, best)

    def needs(self, most: float, slopes: F64) -> F64:
        """(levels, slopes): the least error at each level where the error has each slope, ``most`` bounding it all;
        infinite beyond four times ``most``. The multiplier is the one that cancels the slope.
        """
        held = self.held
        x, t = self.levels[None, :, None, None, None, None], slopes[None, None, None, :, None, None]
        sign = np.array([1.0, -1.0])[None, None, None, None, :, None]
        before = self.sides[None, None, None, None, None, :]
        synapses = [*_synapses(self, held.recurrent, most, self.levels[:, None]),
                    *_synapses(self, held.sensory, most, self.levels[:, None])]
        lost = self._lost(most)

        def excess(error: F64) -> F64:
            return self._sum(synapses, (x, -t, sign, before), most, error, error - lost, t)

        low = np.full((len(self.pieces) - 1, len(self.levels), 1, len(slopes), 2, len(self.sides)), lost)
        high = np.full_like(low, 4.0 * most)
        never = excess(high) > 0.0
        for _ in range(13):
            middle = (low + high) / 2
            over = excess(middle) > 0.0
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        needed: F64 = np.where(never, np.inf, high).max(axis=(0, 2, 4, 5))
        return needed

    def _multipliers(self, e: float) -> F64:
        """(slices, multipliers): around the one that cancels the error's slope."""
        return e * (MULTIPLIERS[None, :] - self.steep[:, None])

    def _worst(self, e: float) -> F64:
        """(pieces, slices, multipliers, sign, before): the larger of a slice's two ends."""
        worst: F64 = self._value(e).max(axis=2)
        return worst

    def _value(self, e: float) -> F64:
        """(pieces, slices, ends, multipliers, sign, before)."""
        held = self.held
        x = self.at[None, :, :, None, None, None]
        nu = self._multipliers(e)[None, :, None, :, None, None]
        sign = np.array([1.0, -1.0])[None, None, None, None, :, None]
        before = self.sides[None, None, None, None, None, :]
        height = e * np.stack([self.shape[:-1], self.shape[1:]], axis=1)[None, :, :, None, None, None]
        h = height - self._lost(e)
        synapses = [*_synapses(self, held.recurrent, e, self.at), *_synapses(self, held.sensory, e, self.at)]
        return self._sum(synapses, (x, nu, sign, before), e, height, h, e * self.steep[None, :, None, None, None, None])

    def _sum(self, synapses: list[_Synapse], point: tuple[F64, F64, F64, F64], e: float, height: F64, h: F64,
             slope: F64) -> F64:
        """The numerator less H*D^ over pieces and their ends; ``height`` is the error at x, ``slope`` its line's."""
        x, nu, sign, before = point
        total = self._fixed(synapses, x, nu, sign, e, h)
        for s in synapses:
            if not s.own:
                total = total + _share(s, x, nu, sign, h)
        ends = []
        for edge in (self.pieces[:-1], self.pieces[1:]):
            v = edge[:, None, None, None, None, None]
            start = height + slope * (v - x)
            moved = total + self._inertia(x, nu, before, start, h, v)
            for s in synapses:
                if s.own:
                    moved = moved + _own_share(s, x, nu, sign, before, start, h)
            ends.append(moved)
        most: F64 = np.maximum(*ends)
        return most

    def _fixed(self, synapses: list[_Synapse], x: F64, nu: F64, sign: F64, e: float, h: F64) -> F64:
        held, i, layer = self.held, self.i, self.held.layer
        conductance = layer.gleak[i] + layer.epsilon
        least, most, extra = self._conductances(synapses)
        extra += abs(held.gleak[i] - conductance) + held.half_d + held.cm_error[i]
        swollen = 1 + held.cm_share[i] + extra / (least + held.cm_least[i])
        off = held.leak[i] - layer.gleak[i] * layer.vleak[i] - (held.gleak[i] - conductance) * x
        rounding = (self.width + 2 * e) * held.half_d + held.half_n
        moved = self.width * most * swollen * held.recip
        late = self.width * (min(held.cm_most[i], most) * held.cm_share[i] + held.cm_error[i])
        value: F64 = off * sign - h * held.gleak[i] + rounding + moved + late + nu * (
            layer.gleak[i] * layer.vleak[i] - conductance * x)
        return value

    def _conductances(self, synapses: list[_Synapse]) -> tuple[float, float, float]:
        i, layer = self.i, self.held.layer
        least = most = layer.gleak[i] + layer.epsilon
        extra = 0.0
        for part, low, high in self._activities():
            mine = part.real.post == i
            least += float((part.real.w * low)[mine].sum())
            most += float((part.real.w * high)[mine].sum())
            extra += float(np.abs(part.w - part.real.w)[mine].sum()) + part.step_g * float(mine.sum())
        extra += sum(s.w * float(s.far.max()) for s in synapses)
        return least, most, extra

    def _activities(self) -> list[tuple[Set, F64, F64]]:
        found = []
        layer = self.held.layer
        u = self.held.x_range * layer.input_w[:, None] + layer.input_b[:, None]
        for part, source in ((self.held.recurrent, self.box), (self.held.sensory, u)):
            z = part.real.sigma[:, None] * (source[part.real.pre] - part.real.mu[:, None])
            activity = np.sort(_sigmoid(z), axis=1)
            found.append((part, activity[:, 0], activity[:, 1]))
        return found

    def _inertia(self, x: F64, nu: F64, before: F64, start: F64, h: F64, v: F64) -> F64:
        held, i = self.held, self.i
        kept = before * start - h
        ends = [kept * cm + np.abs(kept) * (cm * held.cm_share[i] + held.cm_error[i]) + nu * cm * (v - x)
                for cm in (float(held.cm_least[i]), float(held.cm_most[i]))]
        most: F64 = np.maximum(*ends)
        return most


def levels_of(box: F64, slices: int) -> F64:
    """A neuron's range in equal slices, its ends exact."""
    return np.linspace(float(box[0]), float(box[1]), slices + 1)


def concave(levels: F64, errors: F64) -> F64:
    """The errors, raised by a few units in the last place where rounding has bent them the wrong way."""
    for _ in range(len(errors)):
        if _falling(levels, errors):
            return errors
        slopes = np.minimum.accumulate(np.diff(errors) / np.diff(levels))
        errors = errors[0] + np.concatenate([[0.0], np.cumsum(slopes * np.diff(levels))])
        middle = (levels[0] + levels[-1]) / 2
        errors = errors + 1e-13 * errors.max() * (1 - ((levels - middle) / (levels[-1] - middle)) ** 2)
    return np.full(len(errors), errors.max())


def _falling(levels: F64, errors: F64) -> bool:
    at, value = ([Fraction(float(v)) for v in part] for part in (levels, errors))
    slopes = [(value[k + 1] - value[k]) / (at[k + 1] - at[k]) for k in range(len(at) - 1)]
    return all(after <= before for before, after in pairwise(slopes))


def _synapses(t: Trial, part: Set, e: float, x: F64) -> list[_Synapse]:
    return [_synapse(t, part, int(j), e, x) for j in np.flatnonzero(part.real.post == t.i)]


def _synapse(t: Trial, part: Set, j: int, e: float, x: F64) -> _Synapse:
    held, real, table, layer = t.held, part.real, _table(t.held), t.held.layer
    pre, recurrent = int(real.pre[j]), part is t.held.recurrent
    own = recurrent and pre == t.i
    if recurrent:
        error = e if own else float(t.errors[pre])
        range_, slope, shift = t.box[pre], real.sigma[j], real.sigma[j] * -real.mu[j]
        unit = held.half_u
    else:
        error, range_ = 0.0, held.x_range[pre]
        slope = real.sigma[j] * layer.input_w[pre]
        shift = real.sigma[j] * (layer.input_b[pre] - real.mu[j])
        unit = float(held.x_error[pre])
    z = np.sort(slope * range_ + shift)
    ends = np.array([range_[0] - error, range_[1] + error])
    drift = np.abs((part.slope[j] - slope) * ends + part.centre[j] - part.floor / 2 - shift).max()
    off = float(drift + abs(part.slope[j]) * unit + part.floor / 2)
    far = off + abs(float(real.sigma[j])) * error
    first, last = _over(table, z[0] - far), _over(table, z[1] + far, "right")
    cut = slice(first, last + 1)
    value_low, value_high, s = table.low[cut], table.high[cut], _sigmoid(z)
    apart: F64 | float = far
    if recurrent and not own:
        sigma, mu = float(real.sigma[j]), float(real.mu[j])
        apart = off + abs(sigma) * _before(t, pre, sigma, mu, _ends(table, first, last), far)
    with np.errstate(over="ignore"):
        distance = np.minimum(table.steep[cut] * np.expm1(apart) + table.error[cut],
                              np.maximum(value_high - s[0], s[1] - value_low))
        near = table.steep[cut] * np.expm1(off) + table.error[cut] if own else distance
        reach = np.stack([table.gentle[cut] * np.exp(-far), table.steep[cut] * np.exp(far)])
    met = np.zeros((1, last - first + 1))
    if own:
        za = np.sort(slope * np.stack([t.pieces[:-1], t.pieces[1:]]) + shift, axis=0)
        cell = np.arange(first, last + 1)
        inside = (cell >= np.searchsorted(table.edges, za[0] - far, "left")[:, None]) & (
            cell <= np.searchsorted(table.edges, za[1] + far, "right")[:, None])
        met = np.where(inside, 0.0, -np.inf)
    pull = real.w[j] * (real.erev[j] - x)
    quantized = part.we[j] - real.w[j] * real.erev[j] - (part.w[j] - real.w[j]) * x
    return _Synapse(float(part.w[j]), pull, quantized, value_low, value_high, distance, near, own,
                    float(real.sigma[j]), reach, met, part.step_g, part.step_n)


def _ends(table: _Table, first: int, last: int) -> F64:
    """(2, cells) arguments of the cells' ends."""
    edges = np.concatenate([[-1e3], table.edges, [1e3]])
    return np.stack([edges[first : last + 1], edges[first + 1 : last + 2]])


def _before(t: Trial, pre: int, sigma: float, mu: float, ends: F64, far: float) -> F64:
    """The largest presynaptic error while the deployed argument is in a cell: by the lowest of its lines."""
    levels = levels_of(t.box[pre], t.shapes.shape[1] - 1)
    values = t.errors[pre] * t.shapes[pre]
    state = np.clip(np.sort((ends + np.array([[-far], [far]])) / sigma + mu, axis=0), levels[0], levels[-1])
    slope = np.diff(values) / np.diff(levels)
    lines = values[:-1, None] + slope[:, None] * (state[:, None, :] - levels[None, :-1, None])
    most: F64 = np.maximum(lines.max(axis=0).min(axis=0), 0.0)
    return most


def _over(table: _Table, z: float, side: str = "left") -> int:
    return int(np.searchsorted(table.edges, z, side))  # type: ignore[call-overload]


def _share(s: _Synapse, x: F64, nu: F64, sign: F64, h: F64) -> F64:
    """(1, slices, ends, multipliers, sign, 1): the largest over the cells."""
    best: F64 = _cellwise(s, nu, sign, h).max(axis=-1)
    return best + _rounding(s, x, sign, h)


def _own_share(s: _Synapse, x: F64, nu: F64, sign: F64, before: F64, start: F64, h: F64) -> F64:
    """The same of a synapse onto itself, (pieces, slices, ends, multipliers, sign, before)."""
    parts = []
    for p, met in enumerate(s.met):
        cut = met == 0.0
        whole = _cellwise(s, nu, sign, h[p : p + 1] if len(h) > 1 else h, cut)[0]
        gain = s.pull[:, :, None, None, None] * s.sigma * before[0] * start[p]
        fed = np.maximum(gain[..., None] * s.reach[0][cut], gain[..., None] * s.reach[1][cut])
        parts.append((whole + fed).max(axis=-1))
    return np.stack(parts) + _rounding(s, x, sign, h)


def _cellwise(s: _Synapse, nu: F64, sign: F64, h: F64, cut: Any = slice(None)) -> F64:
    pull = s.pull[None, :, :, None, None, None]
    factor = (s.off[None, :, :, None, None, None] * sign - h * s.w + pull * nu)[..., None]
    value: F64 = np.maximum(factor * s.low[cut], factor * s.high[cut]) + np.abs(pull)[..., None] * (
        s.near[cut] + np.abs(nu)[..., None] * s.far[cut])
    return value


def _rounding(s: _Synapse, x: F64, sign: F64, h: F64) -> F64:
    return np.maximum((sign * x + h) * s.step_g, 0.0) + np.where(sign < 0, s.step_n, 0.0)
