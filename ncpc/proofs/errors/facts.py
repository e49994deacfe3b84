"""What an error certificate speaks of: the policy's reals beside the integers that the emitted Program holds for them.

Everything is read from the operations of the Program, by their meaning, not from the records they were made from. With
s' the table's value, v' the state and u' its 16-bit view, in physical units:

    z' = slope*u' + centre, rounded down by at most ``floor``      s' = table(z')
    G' = gleak' + sum asr(w'*s')       N' = leak' + sum asr(we'*s')       D' = cm_t' + round(G')
    v' <- v' + round((N' - round(G'*v')) * reciprocal(D'))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.policy import F64, I64, Ltc, Policy, Synapses
from ncpc.ir.program import Op, Program, Repeat, statements
from ncpc.ir.quantized import S_FRAC, Z_HALF
from ncpc.ir.types import Fixed
from ncpc.ir.wires import only_layer
from ncpc.proofs import division

ROUNDED = ("shr", "shr_full")
"""Shifts that round to the nearest, halves up."""
HALF = Fraction(129, 256)
"""Half a unit, and what the rounding of the caller's own float arithmetic can add to it."""
WHY = "an error certificate covers one LTC layer (fused solver) in integers, alone in its policy"


@dataclass(frozen=True, eq=False)
class Set:
    """One synapse set: ``real`` as trained; the rest as the Program has it, physical, exact in float64.

    ``step_g`` and ``step_n`` are the units that ``asr`` rounds down to, 0 where it does not shift.
    """

    real: Synapses
    slope: F64
    centre: F64
    floor: float
    w: F64
    we: F64
    step_g: float
    step_n: float


@dataclass(frozen=True, eq=False)
class Facts:
    """A layer and its integer form. Vectors are over neurons, ``x_error`` over inputs, ``y_*`` over outputs.

    cm_t' lies within ``cm_share`` of the real cm_t as a fraction of it, plus ``cm_error``; real cm_t in
    [``cm_least``, ``cm_most``] over all dt. ``half_*`` are half a unit of what is rounded, 0 where nothing is.
    ``recip`` bounds |r/(1 + r)| over the relative errors r of the reciprocal. The output is within ``y_slope`` times
    the state's error, plus ``y_fixed``, plus ``y_share`` times the state's magnitude.
    """

    layer: Ltc
    names: tuple[str, ...]
    x_range: F64
    dt_range: tuple[float, float]
    x_error: F64
    table: I64
    sensory: Set
    recurrent: Set
    leak: F64
    gleak: F64
    cm_least: F64
    cm_most: F64
    cm_share: F64
    cm_error: F64
    half_u: float
    half_v: float
    half_n: float
    half_d: float
    recip: float
    y_slope: F64
    y_share: F64
    y_fixed: F64


def facts(policy: Policy, program: Program) -> Facts:
    """The facts of a build; raises ``Unsupported``, saying why, for what no certificate covers."""
    layer = only_layer(policy)
    if not isinstance(layer, Ltc) or layer.solver != "fused":
        kinds = ", ".join(f"{part.kind} ({part.solver})" if isinstance(part, Ltc) else part.kind
                          for part in policy.layers)
        raise Unsupported(f"{policy.name}: {WHY}; this one has layers {kinds}")
    if not isinstance(program.x.value.type, Fixed):
        raise Unsupported(f"{policy.name}: {WHY}; this build computes in floating point: compile with --quant int16")
    return _Reader(policy, layer, program).facts()


class _Reader:
    """The Program's operations by name, and what they mean."""

    def __init__(self, policy: Policy, layer: Ltc, program: Program) -> None:
        self.policy, self.layer, self.program = policy, layer, program
        self.defs = {op.out.name: op for op in statements(program.body)}
        repeats = [stmt for stmt in program.body if isinstance(stmt, Repeat)]
        _require(len(repeats) == 1 and len(repeats[0].carried) == 1, "one repeat with one state")
        _require(repeats[0].count == layer.unfolds, "as many unfolds as the policy")
        self.carry = repeats[0].carried[0]
        state = program.states[0]
        _require(len(program.states) == 1 and self.carry.init == state.inp.name and state.out == self.carry.out.name,
                 "the repeat's state")
        _require(not np.any(state.init), "a state that starts at 0")

    def facts(self) -> Facts:
        """Follow the update from its result back to the inputs."""
        after = self._op(self.carry.result, "add")
        _require(after.args[0] == self.carry.inner.name, "v + delta")
        delta = self._op(after.args[1], "mulshr")
        drive, inverse = self._op(delta.args[0], "sub"), self._op(delta.args[1], "inverse")
        pull, divisor = self._op(drive.args[1], "mulshr"), self._op(inverse.args[0], "add")
        _require(pull.args[1] == self.carry.inner.name, "G*v")
        v, n, d, g = (_frac(op) for op in (after, drive, divisor, self.defs[pull.args[0]]))
        rounded = self.defs[divisor.args[1]]
        k_d = _k(rounded) if rounded.kind in ROUNDED else 0
        _require((rounded.args[0] if k_d else divisor.args[1]) == pull.args[0], "the same G in pull and divisor")
        scales = (_k(pull) == g + v - n, 46 + _k(inverse) - _k(delta) == v + d - n, k_d == g - d)
        _require(all(scales), "shifts that agree with the fractions")
        gleak, gs = self._sum(pull.args[0])
        leak, ns = self._sum(drive.args[0])
        x_error = self._input_error()
        recurrent = self._set(self.layer.recurrent, gs[0], ns[0], (g, n))
        sensory = self._set(self.layer.sensory, gs[1], ns[1], (g, n))
        share, error, least, most = self._cm(divisor.args[0], d)
        reader = self._reader_of(gs[0])
        worst = max(division.excess() / (1 - division.shortfall()), division.shortfall() / (1 - division.shortfall()))
        return Facts(
            self.layer, self.layer.names, np.asarray(self.policy.input_range, np.float64), self._dt_range(), x_error,
            self._table(gs[0]), sensory, recurrent, leak * 2.0**-n, gleak * 2.0**-g, least, most, share, error,
            half_u=_half(reader) if reader is not None else 0.0, half_v=2.0 ** -(v + 1),
            half_n=2.0 ** -(n + 1), half_d=2.0 ** -(d + 1) if k_d else 0.0, recip=_above(worst), **self._output(v),
        )

    def _op(self, name: str, kind: str) -> Op:
        op = self.defs.get(name)
        _require(op is not None and op.kind == kind, f"{kind} at {name}")
        assert op is not None
        return op

    def _data(self, name: str) -> I64:
        _require(name in self.program.constants, f"a constant at {name}")
        return self.program.constants[name][1].astype(np.int64)

    def _sum(self, name: str) -> tuple[F64, tuple[Op, Op]]:
        """Recurrent and sensory segment sums, and the constant they start from."""
        outer = self._op(name, "segment_sum")
        inner = self._op(outer.args[2], "segment_sum")
        return self._data(inner.args[2]).astype(np.float64), (outer, inner)

    def _parts(self, total: Op) -> tuple[I64, I64, int, Op]:
        """Of one sum: postsynaptic neurons, weights, the shift, and the table's reading."""
        product, k = self.defs[total.args[0]], 0
        if product.kind == "asr":
            product, k = self.defs[product.args[0]], _k(product)
        _require(product.kind == "mul", "weight times sigmoid")
        return self._data(total.args[1]), self._data(product.args[0]), k, self._op(product.args[1], "lut")

    def _set(self, real: Synapses, conductance: Op, current: Op, fracs: tuple[int, int]) -> Set:
        post, w, k_g, lut = self._parts(conductance)
        post_n, we, k_n, lut_n = self._parts(current)
        _require(lut is lut_n and np.array_equal(post, post_n) and np.array_equal(post, real.post),
                 "the policy's synapses in its order")
        g, n = fracs
        slope, centre, floor, pre = self._argument(lut)
        _require(np.array_equal(pre, real.pre), "the policy's presynaptic neurons")
        scaled = w.astype(np.float64) * 2.0 ** (S_FRAC - k_g - g), we.astype(np.float64) * 2.0 ** (S_FRAC - k_n - n)
        return Set(real, slope, centre, floor, *scaled,
                   2.0**-g if k_g else 0.0, 2.0**-n if k_n else 0.0)

    def _argument(self, lut: Op) -> tuple[F64, F64, float, I64]:
        """z' = slope*u + centre (u physical), the most it is rounded down by, and the presynaptic indices."""
        z = int(np.log2((len(self._data(lut.args[1])) - 1) << _k(lut))) - int(np.log2(2 * Z_HALF))
        index, k = self.defs[lut.args[0]], 0
        if index.kind == "asr":
            index, k = self.defs[index.args[0]], _k(index)
        _require(index.kind == "add", "slope*u + offset")
        if index.args[1] in self.defs:
            raise Unsupported(f"{WHY}, whose neurons share one scale; here each has its own (w8a16, w4a16): "
                              "compile with --quant int16")
        slope, wide = self.defs[index.args[0]], 0
        if slope.kind == "shl":
            slope, wide = self.defs[slope.args[0]], _k(slope)
        _require(slope.kind == "mul", "sigma*u")
        gather = self._op(slope.args[1], "gather")
        pre, channel = self._data(gather.args[1]), self._channel_fracs(gather.args[0])
        unit = np.exp2(channel[pre] + (wide - k - z))
        centre: F64 = self._data(index.args[1]).astype(np.float64) * 2.0 ** -(k + z) - Z_HALF
        steep: F64 = self._data(slope.args[0]).astype(np.float64) * unit.astype(np.float64)
        return steep, centre, 2.0**-z if k else 0.0, pre

    def _channel_fracs(self, name: str) -> F64:
        """Fractions of what synapses read: per input channel, or of the state or its view."""
        if name == self.carry.inner.name:
            return np.full(self.layer.neurons, float(_fixed(self.carry.inner.type).frac))
        op = self.defs[name]
        if op.kind in ROUNDED and op.args[0] == self.carry.inner.name:
            _require(_k(op) == _fixed(self.carry.inner.type).frac - _frac(op), "a view that agrees with the state")
            return np.full(self.layer.neurons, float(_frac(op)))
        _require(op.kind == "clamp" and op.args[0] == self.program.x.value.name, "inputs limited to their range")
        assert self.program.x.fracs is not None
        return np.array(self.program.x.fracs, np.float64)

    def _reader_of(self, conductance: Op) -> Op | None:
        """The op that makes the recurrent synapses' view of the state; None where they read the state itself."""
        index = self.defs[self._parts(conductance)[3].args[0]]
        while index.kind != "gather":
            index = self.defs[index.args[1] if index.kind == "mul" else index.args[0]]
        return self.defs.get(index.args[0]) if index.args[0] != self.carry.inner.name else None

    def _table(self, conductance: Op) -> I64:
        lut = self._parts(conductance)[3]
        return self._data(lut.args[1])

    def _dt_range(self) -> tuple[float, float]:
        dt = self.policy.dt
        return (dt.nominal, dt.nominal) if self.program.dt is None else (dt.lo, dt.hi)

    def _input_error(self) -> F64:
        """The most by which an input in its declared range differs from what the Program computes with."""
        port = self.program.x
        assert port.fracs is not None
        kind = _fixed(port.value.type)
        limits = [op for op in self.defs.values() if op.kind == "clamp" and op.args[0] == port.value.name]
        _require(len(limits) == 1, "inputs limited to their range")
        lo, hi = (self._limit(limits[0].attrs[end]) for end in ("lo", "hi"))
        found = []
        for c, frac in enumerate(port.fracs):
            least, most = (Fraction(float(end)) * 2**frac for end in self.policy.input_range[c])
            top, bottom = min(int(hi[c]), kind.hi), max(int(lo[c]), kind.lo)
            error = max(HALF, most - top, bottom - least)
            found.append(_above(error / Fraction(2) ** frac))
        return np.array(found)

    def _limit(self, end: object) -> I64:
        data = self._data(end) if isinstance(end, str) else np.array(end)
        return np.broadcast_to(data, (self.layer.inputs,)).astype(np.int64)

    def _cm(self, name: str, d: int) -> tuple[F64, F64, F64, F64]:
        """(relative error, absolute error) of cm_t', and the real cm_t's least and most over all dt, outward."""
        layer, unit = self.layer, Fraction(1, 2**d)
        cm = [Fraction(float(c)) * layer.unfolds for c in layer.cm]
        lo, hi = (Fraction(end) for end in self._dt_range())
        least, most = ([_below(c / hi) for c in cm], [_above(c / lo) for c in cm])
        if self.program.dt is None:
            error = [_above(abs(int(r) * unit - c / lo)) for r, c in zip(self._data(name), cm, strict=True)]
            return np.zeros(len(cm)), np.array(error), np.array(least), np.array(most)
        product = self._op(name, "mulshr")
        inverse = self._op(product.args[1], "inverse")
        frac = self._dt_frac(inverse, (lo, hi))
        shift, slack = 46 + _k(inverse) - _k(product) - d - frac, Fraction(1, 2 ** (frac + 1)) / lo
        _require(slack < Fraction(1, 4), "a dt finer than its smallest value")
        ends = ((1 - division.shortfall()) / (1 + slack), (1 + division.excess()) / (1 - slack))
        share = [_above(max(abs(int(r) * Fraction(2) ** shift / c * end - 1) for end in ends)) if c else 0.0
                 for r, c in zip(self._data(product.args[0]), cm, strict=True)]
        return np.array(share), np.full(len(cm), 2.0 ** -(d + 1)), np.array(least), np.array(most)

    def _dt_frac(self, inverse: Op, ends: tuple[Fraction, Fraction]) -> int:
        """The timespan's fraction; its limits are its range, rounded, so that rounding is all that happens to it."""
        port, limit = self.program.dt, self._op(inverse.args[0], "clamp")
        assert port is not None
        assert port.fracs is not None
        _require(limit.args[0] == port.value.name, "dt limited to its range")
        frac = port.fracs[0]
        for name, end in zip(("lo", "hi"), ends, strict=True):
            _require(abs(int(limit.attrs[name] or 0) - end * 2**frac) <= Fraction(1, 2), "dt's own limits")
        return frac

    def _output(self, v: int) -> Mapping[str, F64]:
        """The error of y' = round(v'*output_w') + output_b' per output; see ``Facts``."""
        port, layer = self.program.y, self.layer
        assert port.fracs is not None
        last = self._op(port.value.name, "add")
        scaled = self._op(last.args[0], "mulshr")
        motor = self._op(scaled.args[0], "slice")
        _require(motor.args[0] == self.carry.out.name and motor.attrs["start"] == 0, "the motor neurons")
        share, fixed = [], []
        rows = zip(self._data(scaled.args[1]), self._data(last.args[1]), port.fracs, layer.output_w, layer.output_b,
                   strict=True)
        for w, b, frac, real_w, real_b in rows:
            unit = Fraction(1, 2) ** frac
            share.append(_above(abs(int(w) * Fraction(2) ** (v - _k(scaled)) * unit - Fraction(float(real_w)))))
            fixed.append(_above(unit / 2 + abs(int(b) * unit - Fraction(float(real_b)))))
        return {"y_slope": np.abs(layer.output_w), "y_share": np.array(share), "y_fixed": np.array(fixed)}


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise Unsupported(f"{WHY}; in this Program it does not find {what}")


def _k(op: Op) -> int:
    return int(op.attrs["k"] or 0)


def _fixed(kind: object) -> Fixed:
    assert isinstance(kind, Fixed)
    return kind


def _frac(op: Op) -> int:
    return _fixed(op.out.type).frac


def _half(op: Op) -> float:
    """Half a unit of the view that a shift rounds to."""
    return 2.0 ** -(_frac(op) + 1)


def _above(value: Fraction) -> float:
    """A double that is not less."""
    near = float(value)
    return near if Fraction(near) >= value else float(np.nextafter(near, np.inf))


def _below(value: Fraction) -> float:
    """A double that is not more."""
    near = float(value)
    return near if Fraction(near) <= value else float(np.nextafter(near, -np.inf))
