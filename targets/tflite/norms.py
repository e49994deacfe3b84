"""Division by a root of squares without a root: a vector is brought to length 1 by gains that its own squares give.

``f*off / sqrt(sum(off**2) + least)`` is f times what the longer vector u = (off, sqrt(least)) is at length 1, and a
gain on all of u changes nothing of that. So u is multiplied, step by step, by a function of S = |u|**2: chords of
1/sqrt(S), which bring short vectors near the length of long ones, then cubic steps ``u <- u*(a - b*S)`` (Newton's
iteration for 1/sqrt(S), scaled), which bring all to 1. What a step rounds its gain by, the next makes up for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.program import Op, Program, Value, statements
from ncpc.ir.types import Axis
from ncpc.semantics.bounds import Range, size, square
from ncpc.targets.tflite import affine
from ncpc.targets.tflite.affine import F64, Affine, AffineTerm
from ncpc.targets.tflite.rewriter import Ball, Rewriter

OCTAVES = 4.0
"""log2 of the range of lengths that one step of chords makes even. Squares of the shortest still have 7 of 16 bits."""
CHORDS = 8
"""Chords of one step: lengths then differ by a twentieth, which two cubic steps settle."""
ROOM = 0.99
"""Share of the largest length that chords aim at."""
LEAST = 16.0
"""The least length that counts, in residuals: at 16 bits 1/8192 of the largest, below which values are rounding."""
MOST = 2048
"""Values of one layer beyond which the weights of its deviations, one for each two values, are too many."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """``factor * off / sqrt(sum of off**2 within its part + least)``: ``member`` has the part of each element, (n,)."""

    off: str
    source: str | None
    member: NDArray[np.int64]
    parts: int
    least: float
    factor: float


@dataclass(frozen=True, eq=False)
class Normalizations:
    """By the name of the result; ``inner`` are the names of what leads there."""

    made: Mapping[str, Normalization]
    inner: frozenset[str]


@dataclass(frozen=True, eq=False)
class Gain:
    """``floor + sum of max(tops - slopes*S, 0)``, of elements no larger than ``peak``: an S beyond changes nothing.

    What was shorter becomes at most ``reach`` long.
    """

    slopes: F64
    tops: F64
    floor: float
    peak: float
    reach: float

    def at(self, s: float) -> float:
        """The gain where the squares' sum is ``s``."""
        return self.floor + float(np.maximum(self.tops - self.slopes * s, 0.0).sum())


def normalizations(program: Program) -> Normalizations:
    """Those of a flat program. A root that is part of nothing like it is left as it is."""
    ops = {op.out.name: op for op in statements(program.body)}
    readers: dict[str, list[Op]] = {}
    for op in ops.values():
        for name in set(op.args):
            readers.setdefault(name, []).append(op)
    found = [_around(op, ops, readers, program) for op in ops.values() if op.kind == "sqrt"]
    whole = [one for one in found if one]
    for name, norm, _ in whole:
        _refuse_large(name, norm)
    inner = frozenset(one for *_, names in whole for one in names)
    return Normalizations({name: norm for name, norm, _ in whole}, inner)


def _refuse_large(name: str, norm: Normalization) -> None:
    if norm.member.size > MOST:
        raise Unsupported(f"target tflite: '{name}' normalizes {norm.member.size:,} values, integers at most {MOST:,}, "
                          "as each two of them have a weight; use --quant float32, or target 'c' for integers")


def _around(root: Op, ops: Mapping[str, Op], readers: Mapping[str, list[Op]],
            program: Program) -> tuple[str, Normalization, list[str]] | None:
    """The result's name, how it is made, and what leads there; None where the root is part of something else."""
    back, name = [], root.args[0]
    for kind in ("max", "add", "segment_sum", "mul"):
        if name not in ops or ops[name].kind != kind:
            return None
        back.append(ops[name])
        name = ops[name].args[0]
    on, last = [], root
    for kind in ("div", "gather", "mul"):
        after = readers.get(last.out.name, [])
        if [op.kind for op in after] != [kind]:
            return None
        last = after[0]
        on.append(last)
    held, spread, total, squares = back
    quotient, spread_out, result = on
    inner = [op.out.name for op in (*back, root, *on[:-1])]
    known = program.constants
    whole = (squares.args == (name, name) and result.args == (name, spread_out.out.name)
             and total.args[1] == spread_out.args[1] and held.args[1] == spread.args[1] and held.args[1] in known
             and quotient.args[0] in known and all(len(readers[one]) == 1 for one in inner))
    if not whole:
        return None
    source = _centred(name, total.args[1], ops, program)
    least, factor = (float(known[one][1].reshape(-1)[0]) for one in (held.args[1], quotient.args[0]))
    member = np.asarray(known[total.args[1]][1], np.int64)
    return result.out.name, Normalization(name, source, member, total.out.axes[0].size, least, factor), inner


def normalized(r: Rewriter, op: Op, norm: Normalization) -> Affine:
    """The value of ``op``, the product of ``norm``'s deviations and their gain."""
    off, n, name = _deviations(r, norm), norm.member.size, op.out.name
    if off.constant:
        squares = np.bincount(norm.member, off.bias**2, norm.parts) + norm.least
        return affine.scale(off, norm.factor / np.sqrt(squares[norm.member]), op.out.axes)
    u, least = _unit(r, off, norm, name)
    of = np.eye(norm.parts)[np.concatenate([norm.member, np.arange(norm.parts)])]
    for k, gain in enumerate(gains(least, r.residual), 1):
        u = _multiplied(r, u, gain, of, f"{name}/step{k}")
    r.balls[u.name] = Ball(np.zeros(len(of)), np.eye(len(of)), of)
    return affine.scale(affine.select(affine.of_atom(u), np.arange(n), op.out.axes), np.array([norm.factor]),
                        op.out.axes)


def _centred(off: str, member: str, ops: Mapping[str, Op], program: Program) -> str | None:
    """What the deviations are taken of, where they are those from the mean of each part."""
    found = []
    for kind in ("sub", "gather", "mul", "segment_sum"):
        if off not in ops or ops[off].kind != kind:
            return None
        found.append(ops[off])
        off = ops[off].args[1 if kind == "sub" else 0]
    first, of, share, total = found
    if share.args[1] not in program.constants:
        return None
    part = np.asarray(program.constants[share.args[1]][1]) * np.bincount(program.constants[total.args[1]][1])
    return off if np.allclose(part, 1.0) and off == first.args[0] and {of.args[1], total.args[1]} == {member} else None


def _deviations(r: Rewriter, norm: Normalization) -> Affine:
    """Multiplied through: values far from 0 and near each other are not rounded before their mean is taken away."""
    if norm.source is None:
        return r.form(norm.off)
    off, of = r.form(norm.off), np.eye(norm.parts)[norm.member]
    return affine.product(np.eye(len(of)) - of @ (of / of.sum(axis=0)).T, r.form(norm.source), off.axes)


def _unit(r: Rewriter, off: Affine, norm: Normalization, name: str) -> tuple[Value, float]:
    """The deviations and, behind them, the root of ``least`` for each part, at a length of at most 1; the least length.

    The largest element of each part is the same power of two: their tensor has no finer scale, as it is squared.
    """
    most, parts = np.maximum(*map(np.abs, r.bounds(off))), range(norm.parts)
    largest = np.array([max(most[norm.member == part].max(), np.sqrt(norm.least)) for part in parts])
    whole = np.sqrt(np.array([np.sum(most[norm.member == part] ** 2) for part in parts]) + norm.least)
    length = largest * 2.0 ** np.ceil(np.log2((whole / largest).max()))
    ends = np.maximum(np.sqrt(norm.least) / length, LEAST * r.residual)
    axes = (Axis(r.b.unique(f"{name}/longer"), norm.member.size + norm.parts),)
    shares = affine.scale(off, 1.0 / length[norm.member], off.axes)
    longer = affine.concatenate([shares, affine.of_constant(ends, ())], axes)
    return r.value(longer, f"{name}/unit"), float(ends.min())


def gains(least: float, residual: float) -> list[Gain]:
    """Those that bring vectors of lengths in [least, 1] to 1, less at most ``residual``."""
    found: list[Gain] = []
    count = max(int(np.ceil((-np.log2(least) - 1.0) / OCTAVES)), 0)
    ratio = least ** (-1.0 / count) if count else 1.0
    for k in reversed(range(count)):
        found.append(chords(ratio**-k, ratio))
        least = min(least * found[-1].at(least**2), found[-1].floor * found[-1].peak)
    while 1.0 - least > residual:
        found.append(cubic(least))
        least *= found[-1].at(least**2)
    return found


def chords(peak: float, ratio: float) -> Gain:
    """A length in [peak/ratio, peak] becomes peak or little more; peak 1 becomes less. A longer one stays as it is."""
    step = ratio ** (2.0 / CHORDS)
    fall = (1.0 - step**-0.5) / (step - 1.0)
    over = 2.0 / 3.0 * (1.0 + fall) ** 1.5 / (3.0 * fall) ** 0.5  # what a chord adds, where it does so most
    share = ROOM / over if peak == 1.0 else 1.0
    knots = peak**2 * step ** np.arange(-float(CHORDS), 1.0)
    ends = share * peak / np.sqrt(knots)
    slopes = -np.diff(np.append(-np.diff(ends) / np.diff(knots), 0.0))
    return Gain(slopes, slopes * knots[1:], share, peak, share * peak * over)


def cubic(least: float) -> Gain:
    """Of ``s*(a - b*s**2)``, whose largest value on [least, 1] is 1, the one that is least equal at both ends."""
    whole = 1.0 + least + least**2
    a = 1.5 * np.sqrt(3.0 / whole)
    return Gain(np.array([a / whole]), np.array([a]), 0.0, 1.0, 1.0)


def _multiplied(r: Rewriter, u: Value, gain: Gain, of: F64, name: str) -> Value:
    """``u`` times the gain of its part; ``of`` is (elements, parts), 1 where one belongs to the other."""
    parts, count = of.shape[1], gain.tops.size
    near = r.value(affine.of_atom(u), f"{name}/near", r.ranges[u.name].clip(-gain.peak, gain.peak))
    squares = r.op("mul", f"{name}/squares", near, near, limits=square(r.ranges[near.name]))
    axes = (Axis(r.b.unique(f"{name}/chords"), count * parts),)
    falls = np.reshape(-gain.slopes[:, None, None] * of.T, (-1, len(of)))
    tops = np.repeat(gain.tops, parts)
    falling = r.value(Affine(axes, (AffineTerm(squares, falls),), tops), f"{name}/falling")
    chord = r.op("relu", f"{name}/chord", falling, limits=Range(0 * tops, tops))
    ones = np.full(len(of), gain.floor)
    held: F64 = np.tile(of, count)
    spread = Affine(u.axes, (AffineTerm(chord, held),), ones)
    factor = r.value(spread, f"{name}/gain", Range(ones, ones + gain.tops.sum()))
    before = r.ranges[u.name]
    most = np.maximum(gain.reach, size(before).hi * (gain.peak < 1.0))
    return r.op("mul", name, u, factor, limits=Range(np.where(before.lo < 0, -most, 0.0), most))
