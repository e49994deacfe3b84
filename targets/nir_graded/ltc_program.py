"""One LTC layer between its integer Program and its record: read from the emitted operations, and written as such.

The operations are found by how they hang together, from the carried state backwards, as ``ncpc.proofs.invariance``
does:

    v' = v + mulshr(N - mulshr(G, v), inverse(cm_t + shr(G)))
    G, N = sums over asr(w * lut(asr(sigma*u + offset))), down to the constants they start from
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.program import Op, Origin, Port, Program, Repeat, State, Value, statements
from ncpc.ir.quantized import TABLE_SHIFT
from ncpc.ir.types import Axis, Fixed, Index
from ncpc.semantics.ops import FLAGS
from ncpc.targets.nir_graded.record import GradedLtc, IntegerSynapses

I64 = NDArray[np.int64]

ROUNDED = ("shr", "shr_full")
"""Two ways of C to the same number."""
FORM = "one fused LTC layer with a fixed dt"
WIDE = Fixed(64, 0)
"""Of what a chip's widths do not limit: products before they are shifted."""


class _OtherForm(Exception):
    """The program is not ``FORM``."""


@dataclass(frozen=True, eq=False)
class Defs:
    """A program's constants, and its ops by the name of their value."""

    constants: Mapping[str, tuple[Value, NDArray[np.float64] | I64]]
    ops: Mapping[str, Op]

    def op(self, name: str, *kinds: str) -> Op:
        """What makes ``name``, which must be one of ``kinds``."""
        if name not in self.ops or self.ops[name].kind not in kinds:
            raise _OtherForm
        return self.ops[name]

    def shifted(self, name: str, *kinds: str) -> tuple[str, int]:
        """What an op of ``kinds`` shifts to make ``name``, and by how much; ``name`` itself and 0 for another one."""
        op = self.ops.get(name)
        return (op.args[0], _k(op)) if op is not None and op.kind in kinds else (name, 0)

    def data(self, name: str) -> I64:
        """The integers of a constant."""
        if name not in self.constants:
            raise _OtherForm
        return np.asarray(self.constants[name][1], np.int64)


def record_of(program: Program) -> GradedLtc:
    """The layer's record. Raises Unsupported for a program that is not ``FORM`` in integers."""
    defs = Defs(program.constants, {op.out.name: op for op in statements(program.body)})
    repeats = [s for s in program.body if isinstance(s, Repeat)]
    try:
        if len(repeats) != 1 or len(program.states) != 1 or len(repeats[0].carried) != 1:
            raise _OtherForm
        return _record(program, defs, repeats[0])
    except _OtherForm:
        raise Unsupported(f"target 'nir-graded': policy '{program.name}' is not {FORM}; use target 'nir' or "
                          "'c'") from None


def _record(program: Program, defs: Defs, repeat: Repeat) -> GradedLtc:
    (carry,), state = repeat.carried, program.states[0]
    assert isinstance(state.inp.type, Fixed)
    assert isinstance(program.x.value.type, Fixed)
    delta = defs.op(defs.op(carry.result, "add").args[1], "mulshr")
    drive, inverse = defs.op(delta.args[0], "sub"), defs.op(delta.args[1], "inverse")
    pull = defs.op(drive.args[1], "mulshr")
    cm_t, divided = defs.op(inverse.args[0], "add").args
    total, g_shift = defs.shifted(divided, *ROUNDED)
    dens, nums = (_sums(defs, name) for name in (pull.args[0], drive.args[0]))
    if total != pull.args[0] or len(dens) != 2 or len(nums) != 2:
        raise _OtherForm
    recurrent, sensory = (_wires(defs, g, n) for g, n in zip(dens, nums, strict=True))
    limited = defs.op(_source(defs, dens[1]), "clamp")
    seen, u_shift = defs.shifted(_source(defs, dens[0]), *ROUNDED)
    if limited.args[0] != program.x.value.name or seen != carry.inner.name or carry.init != state.inp.name:
        raise _OtherForm
    y = defs.op(program.y.value.name, "add")
    motor = defs.op(y.args[0], "mulshr")
    return GradedLtc(
        sensory=sensory, recurrent=recurrent, gleak=defs.data(dens[1].args[2]), leak=defs.data(nums[1].args[2]),
        cm_t=defs.data(cm_t), x_lo=defs.data(str(limited.attrs["lo"])), x_hi=defs.data(str(limited.attrs["hi"])),
        x_frac=np.array(program.x.fracs, np.int64), x_bits=program.x.value.type.bits,
        output_w=defs.data(motor.args[1]), output_b=defs.data(y.args[1]), y_frac=np.array(program.y.fracs, np.int64),
        table=defs.data(_table(defs, dens[0]).args[1]), unfolds=repeat.count, v_frac=state.inp.type.frac,
        u_shift=u_shift, g_shift=g_shift, pull_shift=_k(pull), inverse_shift=_k(inverse), inverse_bits=0,
        delta_shift=_k(delta), y_shift=_k(motor), state_bits=state.inp.type.bits, sum_bits=32,
        names=program.labels[state.inp.axes[0].name],
    )


def _sums(defs: Defs, name: str) -> list[Op]:
    """The sums over synapses that ``name`` is, from the last one down to what starts from a constant."""
    found = []
    while name in defs.ops:
        total = defs.op(name, "segment_sum")
        found.append(total)
        name = total.args[2] if len(total.args) == 3 else name
    return found


def _product(defs: Defs, total: Op) -> tuple[Op, int]:
    """Weights times what the table returns, and how far that is shifted before it is summed."""
    name, k = defs.shifted(total.args[0], "asr")
    return defs.op(name, "mul"), k


def _table(defs: Defs, total: Op) -> Op:
    return defs.op(_product(defs, total)[0].args[1], "lut")


def _argument(defs: Defs, total: Op) -> tuple[Op, Op, int]:
    """``slope + offset``, the slope's product, and z_shift, of the table's argument."""
    name, k = defs.shifted(_table(defs, total).args[0], "asr")
    biased = defs.op(name, "add")
    slope, wide = defs.shifted(biased.args[0], "shl")
    return biased, defs.op(slope, "mul"), k - wide


def _source(defs: Defs, total: Op) -> str:
    """What the synapses of a sum read."""
    return defs.op(_argument(defs, total)[1].args[1], "gather").args[0]


def _wires(defs: Defs, den: Op, num: Op) -> IntegerSynapses:
    (w, den_shift), (we, num_shift) = _product(defs, den), _product(defs, num)
    biased, slope, z_shift = _argument(defs, den)
    gathered = defs.op(slope.args[1], "gather")
    if w.args[1] != we.args[1] or den.args[1] != num.args[1]:
        raise _OtherForm
    size = len(defs.data(w.args[0]))
    return IntegerSynapses(
        pre=defs.data(gathered.args[1]), post=defs.data(den.args[1]), sigma=defs.data(slope.args[0]),
        offset=defs.data(biased.args[1]), w=defs.data(w.args[0]), we=defs.data(we.args[0]),
        den_shift=np.full(size, den_shift), num_shift=np.full(size, num_shift), z_shift=z_shift,
    )


def _k(op: Op) -> int:
    return int(op.attrs["k"] or 0)


def program_of(r: GradedLtc) -> Program:
    """The record as a Program, widths included: what ``ncpc.targets.nir_graded.split`` writes as a node.

    Where synapses have different exponents, their products are multiplied by powers of two first and then shifted all
    alike: ``asr(p, 3)`` beside ``asr(p, 5)`` is ``asr(4*p, 5)`` beside ``asr(p, 5)``. An ``inverse`` of fewer bits has
    them as ``mantissa``.
    """
    b = Builder(WIDE)
    b.origin, b.place = Origin("ltc", "v <- v + (N - G*v) / (cm_t + G)"), 0
    inputs, neurons, outputs = Axis("inputs", len(r.x_lo)), Axis("neurons", r.neurons), Axis("outputs", len(r.output_w))
    x, v = b.value("x", [inputs], Fixed(r.x_bits, 0)), b.value("v", [neurons], Fixed(r.state_bits, r.v_frac))
    lo, hi = b.const("x_lo", r.x_lo, [inputs]), b.const("x_hi", r.x_hi, [inputs])
    limited = b.op("clamp", "x_limited", x, type_=x.type, lo=lo.name, hi=hi.name, flag=FLAGS[0])
    table = b.const("sigmoid_table", r.table, [Axis("entries", len(r.table))])
    cm_t, start = b.const("cm_t", r.cm_t, [neurons]), (b.const("gleak", r.gleak, [neurons]),
                                                       b.const("leak", r.leak, [neurons]))
    base = _added(b, r, "_s", r.sensory, limited, table, start)
    with b.repeat(r.unfolds, v=(v, None)) as loop:
        u = b.op("shr", "u", loop["v"], type_=Fixed(r.state_bits, r.v_frac - r.u_shift), k=r.u_shift)
        g, n = _added(b, r, "", r.recurrent, u, table, base)
        loop.set("v", _updated(b, r, loop["v"], g, n, cm_t))
    motor = b.op("slice", "motor", loop["v"], axes=[outputs], start=0)
    scaled = b.op("mulshr", "motor_w", motor, b.const("output_w", r.output_w, [outputs]), k=r.y_shift)
    y = b.op("add", "y", scaled, b.const("output_b", r.output_b, [outputs]))
    return Program("ltc", _port(x, r.x_frac), _port(y, r.y_frac), None,
                   (State(v, loop["v"].name, np.zeros(r.neurons, np.int64)),), b.constants, b.body,
                   {neurons.name: r.names})


def _updated(b: Builder, r: GradedLtc, v: Value, g: Value, n: Value, cm_t: Value) -> Value:
    total, rounded = Fixed(r.sum_bits, 0), dict[str, Any](mantissa=r.inverse_bits) if r.inverse_bits else {}
    drive = b.op("sub", "drive", n, b.op("mulshr", "pull", g, v, k=r.pull_shift), type_=total)
    g_d = b.op("shr", "g_d", g, k=r.g_shift) if r.g_shift else g
    divisor = b.op("add", "divisor", cm_t, g_d, type_=total)
    inverse = b.op("inverse", "divisor_inverse", divisor, k=r.inverse_shift, **rounded)
    delta = b.op("mulshr", "delta", drive, inverse, k=r.delta_shift)
    return b.op("add", "v_next", v, delta, type_=v.type)


def _added(b: Builder, r: GradedLtc, tag: str, s: IntegerSynapses, source: Value, table: Value,
           base: tuple[Value, Value]) -> tuple[Value, Value]:
    """G and N with what the synapses of one set add."""
    axis, neurons = Axis(f"synapses{tag}", len(s)), base[0].axes[0]
    pre = b.const(f"pre{tag}", s.pre, [axis], Index(source.axes[0].name))
    post = b.const(f"post{tag}", s.post, [axis], Index(neurons.name))
    received = b.op("gather", f"u_pre{tag}", source, pre, type_=source.type)
    slope = b.op("mul", f"slope{tag}", b.const(f"sigma{tag}", s.sigma, [axis]), received)
    slope = b.op("shl", f"slope_wide{tag}", slope, k=-s.z_shift) if s.z_shift < 0 else slope
    index = b.op("add", f"biased{tag}", slope, b.const(f"offset{tag}", s.offset, [axis]))
    index = b.op("asr", f"z{tag}", index, k=s.z_shift) if s.z_shift > 0 else index
    sigmoid = b.op("lut", f"s{tag}", index, table, k=TABLE_SHIFT)
    each = ((f"w{tag}", s.w, s.den_shift, base[0]), (f"we{tag}", s.we, s.num_shift, base[1]))
    g, n = (b.op("segment_sum", f"sum_{name}", _weighted(b, name, weight, shift, sigmoid), post, start, axes=[neurons],
                 type_=Fixed(r.sum_bits, 0)) for name, weight, shift, start in each)
    return g, n


def _weighted(b: Builder, name: str, weight: I64, shift: I64, sigmoid: Value) -> Value:
    product, most = b.op("mul", f"{name}_s", b.const(name, weight, sigmoid.axes), sigmoid), int(shift.max(initial=0))
    if (shift != most).any():
        product = b.op("mul", f"{name}_even", product, b.const(f"{name}_power", 1 << (most - shift), sigmoid.axes))
    return b.op("asr", f"{name}_unit", product, k=most)


def _port(value: Value, fracs: I64) -> Port:
    return Port(value, (), tuple(map(int, fracs)), np.zeros((len(fracs), 2)))
