"""Builds the integer program: affine forms in, as few tensors and roundings as possible out, with their ranges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ncpc.ir.build import Builder
from ncpc.ir.program import Attr, Value, values
from ncpc.ir.types import Axis, Real
from ncpc.passes.unroll import Unrolled
from ncpc.semantics.bounds import Range, exactly, meet, weighted
from ncpc.targets.tflite import affine
from ncpc.targets.tflite.affine import F64, Affine, AffineTerm
from ncpc.targets.tflite.channels_last import Order
from ncpc.targets.tflite.weights import split

Ranges = Mapping[str, Range]
Ends = tuple[float, float]


WORDS = ("upper", "lower")
"""The two convolutions of a matrix that 8 bits do not hold."""


@dataclass(frozen=True, eq=False)
class Ball:
    """Where a value lies: ``centre + matrix @ u``, each part of u no longer than 1; ``of`` is (elements of u, parts), 1
    where one belongs to the other. A sum of such elements is bounded by a root of squares, not by a sum of sizes.
    """

    centre: F64
    matrix: F64
    of: F64

    def seen(self, term: AffineTerm, offset: F64) -> Ball:
        """Where the term's product with the value, and the offset, lies."""
        apply = np.multiply if term.diagonal else np.matmul
        factor = term.factor[:, None] if term.diagonal else term.factor
        return Ball(apply(term.factor, self.centre) + offset, apply(factor, self.matrix), self.of)

    @property
    def range(self) -> Range:
        reach = np.sqrt(self.matrix**2 @ self.of).sum(axis=1)
        return Range(self.centre - reach, self.centre + reach)


class Rewriter:
    """The new program while it grows. ``forms`` holds the affine form of each value of the old one.

    ``residual`` is how close reciprocals come to 1; ``wide``: what 8-bit weights leave of a matrix is added by a second
    convolution; ``seen``: the ranges of convolutions' results by name, from calibration; ``turned``: the gathers of
    the old program that transpose, ``transposes`` those of the new one.
    """

    def __init__(self, source: Unrolled, boxes: Ranges, residual: float, wide: bool, seen: Mapping[str, Ends],
                 turned: Mapping[str, Order]) -> None:
        self.source = source.program
        self.table = values(source.program)
        self.seen, self.turned = seen, turned
        self.transposes: dict[str, Order] = {}
        self.residual = residual
        self.wide = wide
        self.b = Builder(Real())
        self.forms: dict[str, Affine] = {}
        self.ranges: dict[str, Range] = {}
        self.balls: dict[str, Ball] = {}
        self.boxes = {name: boxes[state] for state, names in source.carried.items() for name in (state, *names)}
        self.boxes.update({s.out: boxes[s.inp.name] for s in source.program.states})
        self._made: dict[tuple[object, ...], Value] = {}
        self._kinds: dict[str, str] = {}

    def kind(self, value: Value) -> str | None:
        """The kind of the op that makes a value of the new program; None for inputs and constants."""
        return self._kinds.get(value.name)

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

    def op(self, kind: str, name: str, *args: Value, limits: Range, axes: tuple[Axis, ...] | None = None,
           **attrs: Attr) -> Value:
        """Append an op whose result stays within ``limits``; the same op on the same arguments is made once."""
        key = (kind, tuple(a.name for a in args), tuple(sorted(attrs.items(), key=str)))
        if key not in self._made:
            made = self.b.op(kind, name, *args, axes=axes, type_=None, **attrs)
            self._made[key], self._kinds[made.name], self.ranges[made.name] = made, kind, limits
        return self._made[key]

    def constant(self, name: str, data: F64, axes: tuple[Axis, ...]) -> Value:
        """A constant, made once for equal data."""
        key = ("constant", data.shape, data.tobytes(), axes)
        if key not in self._made:
            self._made[key] = self.b.const(name, data, axes)
            self.ranges[self._made[key].name] = exactly(data.reshape(-1))
        return self._made[key]

    def bounds(self, form: Affine) -> Range:
        """The range of an affine form: each term at its extremes."""
        parts = [self._range(term) for term in form.terms]
        return Range(sum((part.lo for part in parts), form.bias), sum((part.hi for part in parts), form.bias))

    def _range(self, term: AffineTerm) -> Range:
        source = term.atom.name
        ends = weighted(np.multiply if term.diagonal else np.matmul, term.factor, self.ranges[source])
        return meet(ends, self.balls[source].seen(term, 0 * ends.lo).range) if source in self.balls else ends

    def value(self, form: Affine, name: str, limits: Range | None = None) -> Value:
        """The form as a tensor."""
        made = self._value(form, name, limits)
        if len(form.terms) == 1 and form.terms[0].atom.name in self.balls:
            self.balls[made.name] = self.balls[form.terms[0].atom.name].seen(form.terms[0], form.bias)
        return made

    def _value(self, form: Affine, name: str, limits: Range | None) -> Value:
        """Each term one op, summed in order, the bias in the first convolution."""
        if form.atom is not None and (limits is None or _equal(limits, self.ranges[form.atom.name])):
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
        held, rest = split(term.factor) if self.wide else (term.factor, np.zeros(1))
        if not np.any(rest):
            return self._convolve(form, name, limits)
        upper = Affine(form.axes, (AffineTerm(term.atom, held),), form.bias)
        lower = Affine(form.axes, (AffineTerm(term.atom, rest),), 0 * form.bias)
        parts = [self._convolve(part, f"{name}/{word}", self.bounds(part)) for part, word in zip((upper, lower), WORDS,
                                                                                                strict=True)]
        return self.op("add", name, *parts, limits=limits)

    def _convolve(self, form: Affine, name: str, limits: Range) -> Value:
        atom = form.terms[0].atom
        weight = self.constant(f"{name}/weight", form.terms[0].factor, (*form.axes, *self._columns(atom)))
        bias = self.constant(f"{name}/bias", form.bias, form.axes)
        return self.op("matmul", name, weight, atom, bias, limits=limits, axes=form.axes)

    def _elementwise(self, form: Affine, name: str, limits: Range) -> Value:
        term, biased = form.terms[0], bool(np.any(form.bias))
        total = term.atom
        # A factor of 1 is an op too where the result has a range of its own: it changes the scale.
        if np.any(term.factor != 1.0) or not biased:
            part = Affine(form.axes, (term,), np.zeros(form.size))
            within = self.bounds(part) if biased else limits
            factor = self.constant(f"{name}/factor", term.factor, form.axes)
            total = self.op("mul", f"{name}/scaled" if biased else name, total, factor, limits=within)
        if biased:
            total = self.op("add", name, total, self.constant(f"{name}/offset", form.bias, form.axes), limits=limits)
        return total

    def _columns(self, atom: Value) -> tuple[Axis, ...]:
        return atom.axes or (Axis("one", 1),)


def _equal(a: Range, b: Range) -> bool:
    return np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1])
