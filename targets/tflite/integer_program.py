"""Program over the reals -> one that TFLite's integer kernels can follow: no division, no gather, no loop.

Everything affine is kept as sums of terms until something nonlinear reads it, so that constants reach the kernels
where they cost no precision: a 1x1 convolution whose rows have one entry each is exact at 8 bits per channel. A
quotient N/D becomes (cN)*r with c = 1/max(D) for each element, so that cD lies in [rho, 1], and r close to 1/(cD) by
a straight line and Newton's r <- r*(2 - cD*r). The result is an ordinary program: run in float64 it equals the
original but for r, and the ranges that come with it are what each tensor is scaled for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.check import check
from ncpc.ir.program import Op, Program, State, Value, statements
from ncpc.ir.types import Axis, Real
from ncpc.passes.fold import fold_constants
from ncpc.passes.unroll import Unrolled, unroll
from ncpc.targets.tflite import affine
from ncpc.targets.tflite.affine import F64, Affine, Term

Range = tuple[F64, F64]
Ranges = Mapping[str, Range]

SIGMOID_REACH = 12.0
"""Beyond this the sigmoid is within a fifth of its last bit at 16 bits; arguments are limited to it."""
TANH_REACH = 6.0


@dataclass(frozen=True, eq=False)
class IntegerProgram:
    """The rewritten program and, for each value, the range of each of its elements, (n,) and (n,)."""

    program: Program
    ranges: Ranges


class Rewriter:
    """The new program while it grows. ``forms`` holds the affine form of each value of the old one."""

    def __init__(self, source: Unrolled, boxes: Ranges, residual: float) -> None:
        self.source = source.program
        self.residual = residual
        self.b = Builder(Real())
        self.forms: dict[str, Affine] = {}
        self.ranges: dict[str, Range] = {}
        self.boxes = {name: boxes[state] for state, names in source.carried.items() for name in (state, *names)}
        self.boxes.update({s.out: boxes[s.inp.name] for s in source.program.states})
        self._made: dict[tuple[object, ...], Value] = {}

    def form(self, name: str) -> Affine:
        """The affine form of a value of the old program."""
        if name not in self.forms:
            value, data = self.source.constants[name]
            self.forms[name] = affine.of_constant(data, value.axes)
        return self.forms[name]

    def input(self, value: Value, limits: Range) -> Value:
        """A value that no op makes."""
        made = self.b.value(value.name, value.axes)
        self.forms[value.name] = affine.of_atom(made)
        self.ranges[made.name] = limits
        return made

    def op(self, kind: str, name: str, *args: Value, limits: Range, axes: tuple[Axis, ...] | None = None) -> Value:
        """Append an op whose result stays within ``limits``; the same op on the same arguments is made once."""
        key = (kind, tuple(a.name for a in args))
        if key not in self._made:
            self._made[key] = self.b.op(kind, name, *args, axes=axes)
            self.ranges[self._made[key].name] = limits
        return self._made[key]

    def constant(self, name: str, data: F64, axes: tuple[Axis, ...]) -> Value:
        """A constant, made once for equal data."""
        key = ("constant", data.shape, data.tobytes(), axes)
        if key not in self._made:
            self._made[key] = self.b.const(name, data, axes)
            self.ranges[self._made[key].name] = (data.reshape(-1), data.reshape(-1))
        return self._made[key]

    def bounds(self, form: Affine) -> Range:
        """The range of an affine form: each term at its extremes."""
        lo, hi = form.bias.copy(), form.bias.copy()
        for term in form.terms:
            low, high = _times(term, self.ranges[term.atom.name])
            lo, hi = lo + low, hi + high
        return lo, hi

    def value(self, form: Affine, name: str, limits: Range | None = None) -> Value:
        """The form as a tensor: each term one op, summed in order, the bias in the first convolution."""
        if form.atom is not None and limits is None:
            return form.atom
        limits = limits or self.bounds(form)
        order = sorted(form.terms, key=lambda t: t.diagonal)
        if not order:
            return self.constant(name, form.bias, form.axes)
        head = Affine(form.axes, (order[0],), form.bias)
        total = self._single(head, name, limits if len(order) == 1 else self.bounds(head))
        for k, term in enumerate(order[1:], 2):
            head = Affine(form.axes, (*head.terms, term), form.bias)
            part = Affine(form.axes, (term,), np.zeros(form.size))
            one = self._single(part, f"{name}/term{k}", self.bounds(part))
            total = self.op("add", f"{name}/sum{k}", total, one,
                            limits=limits if k == len(order) else self.bounds(head))
        return total

    def _single(self, form: Affine, name: str, limits: Range) -> Value:
        """One term and the bias."""
        term = form.terms[0]
        if term.diagonal:
            return self._elementwise(form, name, limits)
        weight = self.constant(f"{name}/weight", term.factor, (*form.axes, *self._columns(term.atom)))
        bias = self.constant(f"{name}/bias", form.bias, form.axes)
        return self.op("matmul", name, weight, term.atom, bias, limits=limits, axes=form.axes)

    def _elementwise(self, form: Affine, name: str, limits: Range) -> Value:
        term, biased = form.terms[0], bool(np.any(form.bias))
        total = term.atom
        if np.any(term.factor != 1.0):
            part = Affine(form.axes, (term,), np.zeros(form.size))
            within = self.bounds(part) if biased else limits
            factor = self.constant(f"{name}/factor", term.factor, form.axes)
            total = self.op("mul", f"{name}/scaled" if biased else name, total, factor, limits=within)
        if biased:
            total = self.op("add", name, total, self.constant(f"{name}/offset", form.bias, form.axes), limits=limits)
        return total

    def _columns(self, atom: Value) -> tuple[Axis, ...]:
        return atom.axes or (Axis("one", 1),)


def integer_program(program: Program, boxes: Ranges, residual: float = 2.0**-17) -> IntegerProgram:
    """Rewrite a program without dt. ``boxes`` maps each state's name to its range; ``residual`` is how close cD*r
    comes to 1 before rounding. Raises Unsupported for ops without integer kernels and divisors that may be 0.
    """
    flat = unroll(program)
    r = Rewriter(replace(flat, program=fold_constants(flat.program)), boxes, residual)
    limits = np.asarray(program.x.range, np.float64)
    x = r.input(r.source.x.value, (limits[:, 0], limits[:, 1]))
    states = [r.input(s.inp, boxes[s.inp.name]) for s in r.source.states]
    for op in statements(r.source.body):
        _rewrite(r, op)
    outs = [_settled(r, s.out) for s in r.source.states]
    y = r.value(r.form(r.source.y.value.name), "y")
    made = replace(
        r.source, x=replace(r.source.x, value=x), y=replace(r.source.y, value=y),
        constants=r.b.constants, body=r.b.body,
        states=tuple(State(v, out.name, s.init) for v, out, s in zip(states, outs, r.source.states, strict=True)),
    )
    check(made)
    return IntegerProgram(made, r.ranges)


def _rewrite(r: Rewriter, op: Op) -> None:
    if op.kind not in RULES:
        raise Unsupported(f"target tflite: op '{op.kind}' ({op.out.name}) has no integer kernel that LiteRT and TFLite "
                          f"Micro both run; use --quant float32, or supported: {', '.join(sorted(RULES))}")
    if len(op.out.axes) > 1:
        raise Unsupported(f"target tflite: '{op.out.name}' has {len(op.out.axes)} axes; one is supported")
    form = RULES[op.kind](r, op)
    if op.out.name in r.boxes:
        form = affine.of_atom(r.value(form, op.out.name, r.boxes[op.out.name]))
    r.forms[op.out.name] = form


def _settled(r: Rewriter, name: str) -> Value:
    """The value a state leaves with: one that was made for it, in its own range."""
    atom = r.form(name).atom
    assert atom is not None
    return atom


def _times(term: Term, limits: Range) -> Range:
    if term.diagonal:
        low, high = term.factor * limits[0], term.factor * limits[1]
        return np.minimum(low, high), np.maximum(low, high)
    up, down = np.maximum(term.factor, 0.0), np.minimum(term.factor, 0.0)
    return up @ limits[0] + down @ limits[1], up @ limits[1] + down @ limits[0]


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
    limits = r.boxes.get(op.out.name) or _product(r.ranges[left.name], r.ranges[right.name])
    return affine.of_atom(r.op("mul", op.out.name, left, right, limits=limits))


def _product(a: Range, b: Range) -> Range:
    corners = [u * v for u in a for v in b]
    return np.minimum.reduce(corners), np.maximum.reduce(corners)


def _div(r: Rewriter, op: Op) -> Affine:
    """N/D = (cN) * r; the constants c are spread into whatever N and D are made of."""
    n, d = r.form(op.args[0]), affine.widen(r.form(op.args[1]), op.out.axes, _size(op.out))
    if d.constant:
        return affine.scale(n, 1.0 / d.bias, op.out.axes)
    lo, hi = r.bounds(d)
    if np.any(lo <= 0):
        raise Unsupported(f"target tflite: the divisor of '{op.out.name}' may be {lo.min():.3g}: integers need a "
                          f"positive one; use --quant float32")
    divisor = r.value(affine.scale(d, 1.0 / hi, op.out.axes), f"{op.out.name}/divisor")
    inverse = _reciprocal(r, divisor, float((lo / hi).min()), op.out.name)
    top = affine.scale(n, 1.0 / hi, op.out.axes)
    if top.constant:
        return affine.scale(affine.of_atom(inverse), top.bias, op.out.axes)
    dividend = r.value(top, f"{op.out.name}/dividend")
    limits = r.boxes.get(op.out.name) or _product(r.ranges[dividend.name], (lo / lo, hi / lo))
    return affine.of_atom(r.op("mul", op.out.name, dividend, inverse, limits=limits))


def _reciprocal(r: Rewriter, d: Value, rho: float, name: str) -> Value:
    """1/d for d in [rho, 1]: k*(rho + 1 - d) leaves |1 - d*r| <= e = 1 - k*rho, and each Newton step squares it."""
    ones = np.ones(int(np.prod(d.shape, dtype=np.int64)))
    k = 8.0 / ((rho + 1) ** 2 + 4 * rho)
    error = 1.0 - k * rho
    slope = r.op("mul", f"{name}/line", d, r.constant("newton/slope", k * ones, d.axes),
                 limits=(k * rho * ones, k * ones))
    guess = r.op("sub", f"{name}/guess", r.constant("newton/intercept", k * (rho + 1) * ones, d.axes), slope,
                 limits=(k * rho * ones, k * ones))
    step = 0
    while error > r.residual:
        step += 1
        near = r.op("mul", f"{name}/near_one{step}", d, guess, limits=((1 - error) * ones, (1 + error) * ones))
        gap = r.op("sub", f"{name}/two_minus{step}", r.constant("newton/two", 2 * ones, d.axes), near,
                   limits=((1 - error) * ones, (1 + error) * ones))
        guess = r.op("mul", f"{name}/reciprocal{step}", guess, gap, limits=(0 * ones, ones / rho))
        error *= error
    return guess


def _sigmoid(r: Rewriter, op: Op) -> Affine:
    return _curve(r, op, SIGMOID_REACH, (0.0, 1.0))


def _tanh(r: Rewriter, op: Op) -> Affine:
    return _curve(r, op, TANH_REACH, (-1.0, 1.0))


def _curve(r: Rewriter, op: Op, reach: float, limits: tuple[float, float]) -> Affine:
    form = r.form(op.args[0])
    lo, hi = r.bounds(form)
    inside: Range = (np.clip(lo, -reach, reach), np.clip(hi, -reach, reach))
    z = r.value(form, f"{op.out.name}/argument", inside if form.atom is None else None)
    ones = np.ones(form.size)
    return affine.of_atom(r.op(op.kind, op.out.name, z, limits=(limits[0] * ones, limits[1] * ones)))


def _mix(r: Rewriter, op: Op) -> Affine:
    """``a + t*(b - a)``, which lies between a and b."""
    a, b = r.form(op.args[0]), r.form(op.args[1])
    span = affine.add(b, affine.scale(a, np.array([-1.0]), a.axes), op.out.axes)
    t, width = r.value(r.form(op.args[2]), f"{op.out.name}/t"), r.value(span, f"{op.out.name}/span")
    way = r.op("mul", f"{op.out.name}/way", t, width, limits=_product(r.ranges[t.name], r.ranges[width.name]))
    ends = [end for form in (a, b) for end in r.bounds(affine.widen(form, op.out.axes, _size(op.out)))]
    limits = r.boxes.get(op.out.name) or (np.minimum.reduce(ends), np.maximum.reduce(ends))
    return affine.of_atom(r.op("add", op.out.name, r.value(a, f"{op.out.name}/from"), way, limits=limits))


def _relu(r: Rewriter, op: Op) -> Affine:
    return _limited(r, op, 0.0, None)


def _limited(r: Rewriter, op: Op, lo: float | None, hi: float | None) -> Affine:
    """max and min against numbers; the result keeps the argument's scale, as these kernels demand."""
    value = r.value(r.form(op.args[0]), f"{op.out.name}/argument")
    low, high = r.ranges[value.name]
    for kind, bound in (("max", lo), ("min", hi)):
        if bound is not None:
            data = np.full(low.shape, bound)
            value = r.op(kind, op.out.name, value, r.constant(f"{op.out.name}/{kind}", data, op.out.axes),
                         limits=(low, high))
    return affine.of_atom(value)


def _clamp(r: Rewriter, op: Op) -> Affine:
    lo, hi = op.attrs["lo"], op.attrs["hi"]
    if isinstance(lo, str) or isinstance(hi, str):
        raise Unsupported(f"target tflite: '{op.out.name}' is limited by arrays; integers need numbers")
    return _limited(r, op, lo, hi)


def _gather(r: Rewriter, op: Op) -> Affine:
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
        form = affine.of_atom(r.value(form, source))
    total = affine.product(matrix, form, op.out.axes)
    return affine.add(r.form(op.args[2]), total, op.out.axes) if len(op.args) > 2 else total


def _concat(r: Rewriter, op: Op) -> Affine:
    return affine.concatenate([r.form(a) for a in op.args], op.out.axes)


def _cast(r: Rewriter, op: Op) -> Affine:
    return r.form(op.args[0])


def _size(value: Value) -> int:
    return int(np.prod(value.shape, dtype=np.int64))


RULES: dict[str, Callable[[Rewriter, Op], Affine]] = {
    "add": _add, "sub": _sub, "neg": _neg, "mul": _mul, "div": _div, "sigmoid": _sigmoid, "tanh": _tanh,
    "relu": _relu, "clamp": _clamp, "gather": _gather, "slice": _slice, "segment_sum": _segment_sum,
    "matmul": _matmul, "concat": _concat, "cast": _cast, "mix": _mix,
}
"""How each op is rewritten; an op that is not here is refused by name."""

