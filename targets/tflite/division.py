"""Quotients without a division: normalized denominators, reciprocals by Newton's iteration.

``N/D`` is ``(cN) * r`` with a factor c for each element and r close to 1/(cD). Where N holds a multiple of a state, as
in the fused step ``v' = (a*v + ...)/(a + ...)``, the quotient is taken as ``v' = v + (N - D*v)/D`` instead: a cancels,
and the rounding of r matters only while v moves.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.program import Op, Value
from ncpc.semantics.bounds import Range, product
from ncpc.targets.tflite import affine
from ncpc.targets.tflite.affine import F64, Affine, AffineTerm
from ncpc.targets.tflite.rewriter import Rewriter

SPREAD = 8.0
"""How far apart the scales of two neurons' denominators may be, which share one tensor; 8 bits have no room for it."""
SMALLEST = 2.0**-20
"""A range that is taken for one of a network that does not move at all."""


def quotient(r: Rewriter, op: Op) -> Affine:
    """The value of a ``div``. Raises Unsupported where the divisor may be 0 or negative."""
    size = int(np.prod(op.out.shape, dtype=np.int64))
    n, d = (affine.widen(r.form(a), op.out.axes, size) for a in op.args)
    if d.constant:
        return affine.scale(n, 1.0 / d.bias, op.out.axes)
    held, limits = _held(r, n, op), r.bounds(d)
    if np.any(limits.lo <= 0):
        raise Unsupported(f"target tflite: the divisor of '{op.out.name}' may be {limits.ends[0]:.3g}: integers need a "
                          f"positive one; use --quant float32")
    return _plain(r, op.out, n, d, limits) if held is None else _moved(r, op.out, n, d, held)


def _held(r: Rewriter, n: Affine, op: Op) -> AffineTerm | None:
    """The dividend's term that is a positive multiple of a state, where the quotient is what that state becomes."""
    if op.out.name not in r.boxes:
        return None
    states = [t for t in n.terms if t.diagonal and t.atom.name in r.boxes and np.all(t.factor > 0)]
    return states[0] if len(states) == 1 else None


def _plain(r: Rewriter, out: Value, n: Affine, d: Affine, limits: Range) -> Affine:
    lo, hi = limits
    divisor = r.value(affine.scale(d, 1.0 / hi, out.axes), f"{out.name}/divisor")
    inverse = reciprocal(r, divisor, lo / hi, hi / hi, r.residual, out.name)
    top = affine.scale(n, 1.0 / hi, out.axes)
    if top.constant:
        return affine.scale(affine.of_atom(inverse), top.bias, out.axes)
    dividend = r.value(top, f"{out.name}/dividend")
    within = r.boxes.get(out.name) or product(r.ranges[dividend.name], Range(1.0 + 0 * lo, hi / lo))
    return affine.of_atom(r.op("mul", out.name, dividend, inverse, limits=within))


def _moved(r: Rewriter, out: Value, n: Affine, d: Affine, held: AffineTerm) -> Affine:
    """``v + ((N - a*v) - (D - a)*v) / D``, every part divided by max(D)."""
    v, a, box = held.atom, held.factor, r.boxes[out.name]
    rest, load = replace(n, terms=tuple(t for t in n.terms if t is not held)), replace(d, bias=d.bias - a)
    lo, hi = r.bounds(d)
    width, reach = box[1] - box[0], _reach(r, rest, load, box)
    c = _normalization(reach, hi, width, SPREAD if r.wide else 1.0)
    conductance = r.value(affine.scale(load, c, out.axes), f"{out.name}/conductance")
    current = r.value(affine.scale(rest, c, out.axes), f"{out.name}/current")
    leak = r.op("mul", f"{out.name}/leak", conductance, v, limits=product(r.ranges[conductance.name], box))
    net = r.op("sub", f"{out.name}/net", current, leak, limits=Range(-c * reach, c * reach))
    capacitance = r.constant(f"{out.name}/capacitance", a * c, out.axes)
    divisor = r.op("add", f"{out.name}/divisor", conductance, capacitance, limits=Range(lo * c, hi * c))
    # Where v rests the reciprocal's error has no effect, and where it moves it acts on the change alone.
    inverse = reciprocal(r, divisor, lo * c, hi * c, r.residual**0.5, out.name)
    largest = np.minimum(width, reach / lo)  # a slow neuron moves by little at a time: its change gets a finer scale
    change = r.op("mul", f"{out.name}/change", net, inverse, limits=Range(-largest, largest))
    return affine.of_atom(r.op("add", out.name, v, change, limits=box))


def _normalization(reach: F64, hi: F64, width: F64, spread: float) -> F64:
    """What each neuron's sums are multiplied by, so that N - D*v uses the same range for all, slow or fast.

    No denominator is magnified by more than ``spread`` beside another. The common range has the mantissa of the widest
    box: the product that becomes the change may then have just the scale that it needs.
    """
    even = np.maximum(reach, hi * max((reach / hi).max(), SMALLEST) / spread)
    widest = max(width.max(), SMALLEST)
    target = widest * 2.0 ** -np.round(np.log2(widest))
    scaled: F64 = target / even
    return scaled


def _reach(r: Rewriter, rest: Affine, load: Affine, box: Range) -> F64:
    """The largest |rest - load*v| for each element, v within its box."""
    (low, high), load_range = r.bounds(rest), r.bounds(load)
    least, most = product(load_range, box)
    return np.maximum(np.abs(low - most), np.abs(high - least))


def reciprocal(r: Rewriter, d: Value, lo: F64, hi: F64, residual: float, name: str) -> Value:
    """1/d for d in [lo, hi]: with rho = lo/hi, k*(rho + 1 - d/hi)/hi leaves |1 - d*r| <= e = 1 - k*rho, and each Newton
    step squares it.
    """
    rho = lo / hi
    k = 8.0 / ((rho + 1) ** 2 + 4 * rho)
    error = 1.0 - k * rho
    line = Range(k * rho / hi, k / hi)
    slope = r.op("mul", f"{name}/line", d, r.constant("newton/slope", k / hi**2, d.axes), limits=line)
    guess = r.op("sub", f"{name}/guess", r.constant("newton/intercept", k * (rho + 1) / hi, d.axes), slope,
                 limits=line)
    step = 0
    while error.max() > residual:
        step += 1
        near = r.op("mul", f"{name}/near_one{step}", d, guess, limits=Range(1 - error, 1 + error))
        gap = r.op("sub", f"{name}/two_minus{step}", r.constant("newton/two", 2 + 0 * rho, d.axes), near,
                   limits=Range(1 - error, 1 + error))
        guess = r.op("mul", f"{name}/reciprocal{step}", guess, gap, limits=Range(0 * rho, 1 / lo))
        error = error**2
    return guess
