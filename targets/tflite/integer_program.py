"""Program over the reals -> one that TFLite's integer kernels can follow: no division, no gather, no loop.

Everything affine is kept as sums of terms until something nonlinear reads it, so that constants reach the kernels
where they cost no precision: a 1x1 convolution whose rows have one entry each is exact at 8 bits per channel.
Quotients go through reciprocals (``division``). The result is an ordinary program: run in float64 it equals the
original but for the reciprocals' residue, and the ranges that come with it are what each tensor is scaled for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.check import check
from ncpc.ir.program import Op, Program, State, Value, statements
from ncpc.passes.fold import evaluated, fold_constants
from ncpc.passes.unroll import unroll
from ncpc.semantics.bounds import Range, hull, product, square
from ncpc.targets.tflite import affine, integer_windows
from ncpc.targets.tflite.activations import FUSED
from ncpc.targets.tflite.affine import F64, Affine
from ncpc.targets.tflite.channels_last import Order, channels_last
from ncpc.targets.tflite.division import quotient, reciprocal
from ncpc.targets.tflite.float_graph import EMITTERS as FLOATS
from ncpc.targets.tflite.histories import history, is_history
from ncpc.targets.tflite.norms import normalizations, normalized
from ncpc.targets.tflite.rewriter import Ends, Ranges, Rewriter

SIGMOID_REACH = 12.0
"""Beyond this the sigmoid is within a fifth of its last bit at 16 bits; arguments are limited to it."""
TANH_REACH = 6.0
CURVES = ("sigmoid", "tanh")
"""Their kernels prescribe the result's scale, also where it is a state."""
LARGEST_POWER = 64
"""The largest power of two among int8 weights."""


@dataclass(frozen=True, eq=False)
class IntegerProgram:
    """The rewritten program and, for each value, the range of each of its elements, (n,) and (n,).

    ``transposes`` are the gathers that transpose, with the shape they do so from.
    """

    program: Program
    ranges: Ranges
    transposes: Mapping[str, Order]


def integer_program(program: Program, boxes: Ranges, residual: float = 2.0**-17, wide: bool = True,
                    seen: Mapping[str, Ends] = MappingProxyType({})) -> IntegerProgram:
    """Rewrite a program without dt.

    ``boxes`` maps each state's name to its range; ``residual`` is how far ``d*r`` stays from 1 before rounding;
    ``wide`` spends a second convolution on what 8-bit weights leave; ``seen`` are the ranges of convolutions' results
    by name. Raises Unsupported for ops without integer kernels and for divisors that may be 0.
    """
    flat = unroll(program)
    frames = channels_last(fold_constants(flat.program))
    r = Rewriter(replace(flat, program=frames.program), boxes, residual, wide, seen, frames.transposes)
    limits = np.asarray(program.x.range, np.float64)
    x = r.input(r.source.x.value, Range(limits[:, 0], limits[:, 1]))
    states = [r.input(s.inp, boxes[s.inp.name]) for s in r.source.states]
    norms = normalizations(r.source)
    for op in statements(r.source.body):
        if op.out.name in norms.made:
            r.forms[op.out.name] = normalized(r, op, norms.made[op.out.name])
        elif op.out.name not in norms.inner:
            _rewrite(r, op)
    outs = [_settled(r, s.out) for s in r.source.states]
    y = r.value(r.form(r.source.y.value.name), "y")
    made = replace(
        r.source, x=replace(r.source.x, value=x), y=replace(r.source.y, value=y),
        constants=r.b.constants, body=r.b.body,
        states=tuple(State(v, out.name, s.init) for v, out, s in zip(states, outs, r.source.states, strict=True)),
    )
    check(made)
    return IntegerProgram(made, r.ranges, r.transposes)


def _rewrite(r: Rewriter, op: Op) -> None:
    if op.kind not in RULES:
        instead = "--quant float32, or target 'c' for integers" if op.kind in FLOATS else "target 'c'"
        raise Unsupported(f"target tflite: '{op.out.name}' is made by '{op.kind}', for which LiteRT and TFLite Micro "
                          f"have no integer kernel in common; use {instead}")
    if len(op.out.axes) > 1:
        raise Unsupported(f"target tflite: '{op.out.name}' has {len(op.out.axes)} axes, one is supported; use "
                          "target 'c'")
    form = _constant(r, op) or (history(r, op) if is_history(op) else RULES[op.kind](r, op))
    if op.out.name in r.boxes and op.kind not in CURVES:
        form = affine.of_atom(r.value(form, op.out.name, r.boxes[op.out.name]))
    r.forms[op.out.name] = form


def _constant(r: Rewriter, op: Op) -> Affine | None:
    """What an op makes of forms without terms (0*x + 1), which no kernel reads; None where one varies."""
    if not all(r.form(name).constant for name in op.args):
        return None
    given = {name: r.source.constants[name][1] if name in r.source.constants else
             np.broadcast_to(r.form(name).bias, int(np.prod(r.table[name].shape))).reshape(r.table[name].shape)
             for name in op.args}
    return affine.of_constant(evaluated(op, r.table, given).reshape(-1), op.out.axes)


def _settled(r: Rewriter, name: str) -> Value:
    """The value a state leaves with: one that was made for it, in its own range."""
    atom = r.form(name).atom
    assert atom is not None
    return atom


def _add(r: Rewriter, op: Op) -> Affine:
    return affine.add(r.form(op.args[0]), r.form(op.args[1]), op.out.axes)


def _sub(r: Rewriter, op: Op) -> Affine:
    b = r.form(op.args[1])
    return affine.add(r.form(op.args[0]), affine.scale(b, np.array([-1.0]), b.axes), op.out.axes)


def _neg(r: Rewriter, op: Op) -> Affine:
    return affine.scale(r.form(op.args[0]), np.array([-1.0]), op.out.axes)


def _mul(r: Rewriter, op: Op) -> Affine:
    a, b = r.form(op.args[0]), r.form(op.args[1])
    if a.constant or b.constant:
        return affine.scale(a, b.bias, op.out.axes) if b.constant else affine.scale(b, a.bias, op.out.axes)
    left, right = r.value(a, f"{op.out.name}/left"), r.value(b, f"{op.out.name}/right")
    ends = square(r.ranges[left.name]) if left == right else product(r.ranges[left.name], r.ranges[right.name])
    return affine.of_atom(r.op("mul", op.out.name, left, right, limits=r.boxes.get(op.out.name) or ends))


def _sigmoid(r: Rewriter, op: Op) -> Affine:
    return _curve(r, op, SIGMOID_REACH, (0.0, 1.0))


def _tanh(r: Rewriter, op: Op) -> Affine:
    return _curve(r, op, TANH_REACH, (-1.0, 1.0))


def _curve(r: Rewriter, op: Op, reach: float, limits: tuple[float, float]) -> Affine:
    form = r.form(op.args[0])
    inside = r.bounds(form).clip(-reach, reach)
    z = r.value(form, f"{op.out.name}/argument", inside if form.atom is None else None)
    ones = np.ones(form.size)
    return affine.of_atom(r.op(op.kind, op.out.name, z, limits=Range(limits[0] * ones, limits[1] * ones)))


def _mix(r: Rewriter, op: Op) -> Affine:
    """``a + t*(b - a)``, which lies between a and b."""
    a, b = r.form(op.args[0]), r.form(op.args[1])
    span = affine.add(b, affine.scale(a, np.array([-1.0]), a.axes), op.out.axes)
    t, width = r.value(r.form(op.args[2]), f"{op.out.name}/t"), r.value(span, f"{op.out.name}/span")
    way = r.op("mul", f"{op.out.name}/way", t, width, limits=product(r.ranges[t.name], r.ranges[width.name]))
    ends = [r.bounds(affine.widen(form, op.out.axes, _size(op.out))) for form in (a, b)]
    limits = r.boxes.get(op.out.name) or hull(*ends)
    return affine.of_atom(r.op("add", op.out.name, r.value(a, f"{op.out.name}/from"), way, limits=limits))


def _exp(r: Rewriter, op: Op) -> Affine:
    """``e**z = e**top * (1/sigmoid(top - z) - 1)`` with top the largest z: the divisor lies in [1/2, 1]."""
    form = r.form(op.args[0])
    top = float(r.bounds(form)[1].max())
    below = replace(affine.scale(form, np.array([-1.0]), form.axes), bias=top - form.bias)
    ones = np.ones(form.size)
    inside = Range(0 * ones, np.minimum(r.bounds(below).hi, SIGMOID_REACH))
    z = r.value(below, f"{op.out.name}/argument", inside)
    s = r.op("sigmoid", f"{op.out.name}/sigmoid", z, limits=Range(0.5 * ones, ones))
    inverse = affine.of_atom(reciprocal(r, s, 0.5 * ones, ones, r.residual, op.out.name))
    return affine.scale(replace(inverse, bias=-ones), np.exp(top) * ones, op.out.axes)


def _relu(r: Rewriter, op: Op) -> Affine:
    return affine.of_atom(_positive(r, r.form(op.args[0]), op.out.name))


def _positive(r: Rewriter, form: Affine, name: str) -> Value:
    """``max(form, 0)``: part of the operator that makes the form, where that can be."""
    value = r.value(form, f"{name}/argument")
    if form.atom is not None or r.kind(value) not in FUSED:
        return _limited(r, form, name, 0.0, np.inf)
    return r.op("relu", name, value, limits=r.ranges[value.name].clip(0.0, np.inf))


def _limited(r: Rewriter, form: Affine, name: str, lo: float, hi: float) -> Value:
    """max and min against numbers, where the form leaves them; the result keeps the argument's scale, as these kernels
    demand. An argument made for this may saturate beyond them.
    """
    bounds = r.bounds(form)
    inside = bounds.clip(lo, hi)
    value = r.value(form, f"{name}/argument", inside if form.atom is None else None)
    for kind, bound, leaves in (("max", lo, bounds[0].min() < lo), ("min", hi, bounds[1].max() > hi)):
        if leaves:
            number = r.constant(f"{name}/{kind}", np.array(bound), ())
            value = r.op(kind, name, value, number, limits=inside, axes=form.axes)
    return value


def _clamp(r: Rewriter, op: Op) -> Affine:
    lo, hi = op.attrs["lo"], op.attrs["hi"]
    if isinstance(lo, str) or isinstance(hi, str):
        raise Unsupported(f"target tflite: '{op.out.name}' is limited by arrays, integers need numbers; use --quant "
                          "float32, or target 'c'")
    low, high = float(lo or 0), float(hi or 0)
    readers = {reader.kind for reader in statements(r.source.body) if op.out.name in reader.args}
    # An exponential sees no further than its sigmoid does: what lies below would only cost precision.
    low = max(low, high - SIGMOID_REACH) if readers == {"exp"} else low
    form = r.form(op.args[0])
    least, most = r.bounds(form).ends
    return form if low <= least and most <= high else affine.of_atom(_limited(r, form, op.out.name, low, high))


def _max(r: Rewriter, op: Op) -> Affine:
    """``a + relu(b - a)``: kernels for the larger of two want both in one scale, sums do not."""
    return _larger(r, op, 1.0)


def _min(r: Rewriter, op: Op) -> Affine:
    return _larger(r, op, -1.0)


def _larger(r: Rewriter, op: Op, sign: float) -> Affine:
    """The larger of a and b, or the smaller for a negative ``sign``: ``a + sign*relu(sign*(b - a))``.

    Where one of them is always that, it is the result: a relu that is always 0 would need a scale that XNNPACK refuses.
    """
    a, b = sorted((affine.widen(r.form(name), op.out.axes, _size(op.out)) for name in op.args),
                  key=lambda form: form.constant)
    if b.constant and np.all(b.bias == b.bias[0]):
        number = float(b.bias[0])
        lo, hi = (number, np.inf) if sign > 0 else (-np.inf, number)
        return affine.of_atom(_limited(r, a, op.out.name, lo, hi))
    further = affine.add(affine.scale(b, np.array([sign]), op.out.axes), affine.scale(a, np.array([-sign]), a.axes),
                         op.out.axes)
    least, most = r.bounds(further)
    if most.max() <= 0.0 or least.min() >= 0.0:
        return a if most.max() <= 0.0 else b
    gain, first = _positive(r, further, f"{op.out.name}/gain"), r.value(a, f"{op.out.name}/first")
    limits = Range(*map(np.maximum if sign > 0 else np.minimum, r.bounds(a), r.bounds(b)))
    return affine.of_atom(r.op("add" if sign > 0 else "sub", op.out.name, first, gain, limits=limits))


def _gather(r: Rewriter, op: Op) -> Affine:
    if op.out.name in r.turned:
        return integer_windows.transpose(r, op)
    return affine.select(r.form(op.args[0]), r.source.constants[op.args[1]][1].astype(np.int64), op.out.axes)


def _slice(r: Rewriter, op: Op) -> Affine:
    start = int(op.attrs["start"] or 0)
    return affine.select(r.form(op.args[0]), np.arange(start, start + _size(op.out)), op.out.axes)


def _segment_sum(r: Rewriter, op: Op) -> Affine:
    post = r.source.constants[op.args[1]][1]
    incidence = (post[None, :] == np.arange(_size(op.out))[:, None]).astype(np.float64)
    return _matrix(r, op, incidence, op.args[0])


def _matmul(r: Rewriter, op: Op) -> Affine:
    return _matrix(r, op, np.asarray(r.source.constants[op.args[0]][1], np.float64), op.args[1])


def _matrix(r: Rewriter, op: Op, matrix: F64, source: str) -> Affine:
    """``matrix @ source + start``. Sums multiply through a selection only: elsewhere 8 bits would lose the factors."""
    form = r.form(source)
    if not (form.selects or form.constant):
        sizes = _sizes(matrix, form)
        part = affine.scale(form, 1.0 / sizes, form.axes)
        matrix, form = matrix * sizes, affine.of_atom(r.value(part, source))
    total = affine.product(matrix, form, op.out.axes)
    return affine.add(r.form(op.args[2]), total, op.out.axes) if len(op.args) > 2 else total


def _sizes(matrix: F64, form: Affine) -> F64:
    """Powers of two, as large as each element's factor, that the matrix can take over without rounding.

    A product rounds all its elements by the same amount; scaled to one size, each is rounded as fits its own.
    """
    ones = np.ones(form.size)
    if len(form.terms) != 1 or not form.terms[0].diagonal or np.any(form.bias):
        return ones
    factor, entries = np.abs(form.terms[0].factor), np.abs(matrix)
    if np.any(np.count_nonzero(entries, axis=0) > 1) or not np.all((entries == 0) | (entries == 1)):
        return ones
    size = 2.0 ** np.ceil(np.log2(np.maximum(factor, 2.0**-30)))
    # Every element belongs to one row; a row of int8 weights holds powers of two up to 64.
    largest = (entries * size).max(axis=1, initial=0.0) @ entries
    held: F64 = np.where(largest > 0, np.maximum(size, largest / LARGEST_POWER), ones)
    return held


def _concat(r: Rewriter, op: Op) -> Affine:
    return affine.concatenate([r.form(a) for a in op.args], op.out.axes)


def _cast(r: Rewriter, op: Op) -> Affine:
    return r.form(op.args[0])


def _size(value: Value) -> int:
    return int(np.prod(value.shape, dtype=np.int64))


RULES: dict[str, Callable[[Rewriter, Op], Affine]] = {
    "add": _add, "sub": _sub, "neg": _neg, "mul": _mul, "div": quotient, "sigmoid": _sigmoid, "tanh": _tanh,
    "relu": _relu, "clamp": _clamp, "gather": _gather, "slice": _slice, "segment_sum": _segment_sum,
    "matmul": _matmul, "concat": _concat, "cast": _cast, "mix": _mix,
    "exp": _exp, "max": _max, "min": _min, "conv2d": integer_windows.conv2d, "pool": integer_windows.pool,
}
"""How each op is rewritten; an op that is not here is refused by name."""

