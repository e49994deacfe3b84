"""Convolutions and pooling for integer kernels: which tensors they become, and the ranges of those."""

from __future__ import annotations

import numpy as np

from ncpc.ir.program import Op, Value
from ncpc.semantics.bounds import Range, exactly, image
from ncpc.targets.tflite import affine
from ncpc.targets.tflite.affine import F64, Affine
from ncpc.targets.tflite.rewriter import WORDS, Rewriter
from ncpc.targets.tflite.weights import split


def conv2d(r: Rewriter, op: Op) -> Affine:
    """One convolution, or two and their sum where 8-bit weights leave something that 16-bit results show.

    Its range is the one that was observed, twice, where calibration says so, not the worst that could be.
    """
    weight, bias = (np.asarray(r.source.constants[op.args[i]][1], np.float64) for i in (0, 2))
    limits = _ends(r, op, weight, bias)
    if op.out.name in r.seen:
        limits = limits.clip(*r.seen[op.out.name])
    held, rest = split(weight) if r.wide else (weight, np.zeros(1))
    if not np.any(rest):
        return affine.of_atom(_convolve(r, op, op.out.name, (weight, bias), limits))
    low = _ends(r, op, rest, 0 * bias).clip(-limits.most, limits.most)
    high = Range(limits.lo - low.most, limits.hi + low.most)
    parts = [_convolve(r, op, f"{op.out.name}/{word}", numbers, ends, 0) for word, numbers, ends
             in zip(WORDS, ((held, bias), (rest, 0 * bias)), (high, low), strict=True)]
    if not op.attrs["relu"]:
        return affine.of_atom(r.op("add", op.out.name, *parts, limits=limits))
    total = r.op("add", f"{op.out.name}/sum", *parts, limits=limits)
    return affine.of_atom(r.op("relu", op.out.name, total, limits=limits))


def _convolve(r: Rewriter, op: Op, name: str, numbers: tuple[F64, F64], limits: Range,
              relu: int | None = None) -> Value:
    """``numbers`` are weights and bias."""
    source = r.value(r.form(op.args[1]), f"{op.out.name}/frame")
    axes = r.source.constants[op.args[0]][0].axes
    weight = r.constant(f"{name}/weight", numbers[0], axes)
    bias = r.constant(f"{name}/bias", numbers[1], axes[:1])
    attrs = op.attrs if relu is None else {**op.attrs, "relu": relu}
    return r.op("conv2d", name, weight, source, bias, limits=limits, axes=op.out.axes, **attrs)


def _ends(r: Rewriter, op: Op, weight: F64, bias: F64) -> Range:
    """The range of the sums with these weights, whatever the frame holds."""
    source = r.bounds(r.form(op.args[1]))
    return image(op, [exactly(weight), source, exactly(bias)], {})


def pool(r: Rewriter, op: Op) -> Affine:
    """The kernel keeps its argument's scale."""
    source = r.value(r.form(op.args[0]), f"{op.out.name}/frame")
    limits = image(op, [r.ranges[source.name]], {})
    return affine.of_atom(r.op("pool", op.out.name, source, limits=limits, axes=op.out.axes, **op.attrs))


def transpose(r: Rewriter, op: Op) -> Affine:
    """A gather that transposes stays one."""
    source, (index, data) = r.value(r.form(op.args[0]), f"{op.out.name}/frame"), r.source.constants[op.args[1]]
    order = np.asarray(data, np.int64)
    limits = Range(*(end[order] for end in r.ranges[source.name]))
    made = r.op("gather", op.out.name, source, r.b.const(index.name, order, index.axes, index.type), limits=limits)
    r.transposes[made.name] = r.turned[op.out.name]
    return affine.of_atom(made)
