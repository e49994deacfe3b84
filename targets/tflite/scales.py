"""Scales of integer tensors: from ranges, so that LiteRT and TFLite Micro compute the same multipliers.

LiteRT multiplies two tensors by a factor computed in binary32, TFLite Micro by one computed in binary64 (equal only if
s_a*s_b/s_out needs no rounding). So in every 16-bit product at most one factor has a scale that is no power of two, and
the result has a power of two or that factor's scale times one. An 8-bit product has so few values that all are tried:
its result's scale is the next with which both round every one alike. Convolutions, sums and curves take any scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Op, Program, Value, statements
from ncpc.semantics.bounds import Range
from ncpc.targets.tflite.graph import Quant
from ncpc.targets.tflite.rewriter import Ranges
from ncpc.targets.tflite.rounding import multipliers, quantize_multiplier, rescaler

F64 = NDArray[np.float64]

SMALLEST = 2.0**-40
"""A tensor that is always 0 gets this scale."""

LIMITING = ("max", "min")
MOVING = ("pool", "gather", "slice", "concat")
"""Kernels that keep their argument's scale: those that limit it by a number, and those that move it about."""

FIXED: dict[tuple[str, str], Quant] = {
    ("sigmoid", "int16"): Quant(np.array([2.0**-15], np.float32)),
    ("sigmoid", "int8"): Quant(np.array([2.0**-8], np.float32), -128),
    ("tanh", "int16"): Quant(np.array([2.0**-15], np.float32)),
    ("tanh", "int8"): Quant(np.array([2.0**-7], np.float32)),
}
"""Scales that kernels demand of their results."""


NEXT_SCALES, ROUNDS = 1000, 20
"""So many next larger scales of an 8-bit product's result are tried, no more than 0.012 % more; and how often anew for
states that products make."""


@dataclass(frozen=True)
class Format:
    """How reals become integers: ``dtype`` of activations, ``bias`` of biases; ``symmetric``: 0 is the integer 0."""

    dtype: str
    bias: str
    symmetric: bool

    @property
    def top(self) -> int:
        return int(np.iinfo(self.dtype).max)

    def scale(self, limits: Range, fine: bool) -> Quant:
        """The scale for ``limits``, 0 included; without ``fine`` a power of two. The end may saturate by one unit."""
        lo, hi = min(limits.ends[0], 0.0), max(limits.ends[1], 0.0)
        if self.symmetric:
            step = max(-lo, hi, SMALLEST) / (self.top + 1)
            return Quant(_step(step if fine else power_of_two(step)))
        step = float(np.float32(max(hi - lo, SMALLEST) / (2 * self.top + 1)))
        zero = round(-self.top - 1 - lo / step)
        return Quant(_step(step), max(-self.top - 1, min(zero, self.top)))

    def constant(self, data: F64, fine: bool = True) -> Quant:
        """The scale of a constant that is multiplied or added element by element."""
        step = max(float(np.abs(data).max(initial=0.0)), SMALLEST) / self.top
        return Quant(_step(step if fine else power_of_two(step)))


INT16 = Format("int16", "int64", True)
INT8 = Format("int8", "int32", False)
FORMATS: Mapping[int, Format] = {16: INT16, 8: INT8}
"""By the bits of activations."""


def plan(program: Program, ranges: Ranges, form: Format) -> dict[str, Quant]:
    """The scale of every value by name, and of elementwise constants by ``constant_key``."""
    fine = _fine(program) if form.symmetric else set(ranges)
    given = {v.name: form.scale(ranges[v.name], v.name in fine) for v in _inputs(program)} | _prescribed(program, form)
    for _ in range(ROUNDS):  # a state that a product makes enters with the scale that the product could take
        found = _from(given, program, ranges, form, fine)
        moved = {s.inp.name: found[s.out] for s in program.states if not _same(found[s.inp.name], found[s.out])}
        if not moved:
            return found
        assert not form.symmetric, f"{', '.join(moved)}: not the scale of what the state becomes"
        given |= moved
    raise AssertionError(f"{', '.join(moved)}: no scale with which every runtime rounds alike")


def _from(
    given: Mapping[str, Quant], program: Program, ranges: Ranges, form: Format, fine: set[str]
) -> dict[str, Quant]:
    """From the scales of inputs and states those of all values."""
    found, tied = dict(given), {state.out: state.inp.name for state in program.states}
    for op in statements(program.body):
        _scale_constants(op, program, form, found)
        held = found.get(tied.get(op.out.name, ""))
        found[op.out.name] = _result(op, ranges[op.out.name], form, found, op.out.name in fine, held)
    return found


def _same(a: Quant, b: Quant) -> bool:
    return a.step == b.step and a.zero_point == b.zero_point


def _prescribed(program: Program, form: Format) -> dict[str, Quant]:
    """States that leave a kernel which prescribes its result's scale enter with that scale."""
    made = {op.out.name: op.kind for op in statements(program.body)}
    return {state.inp.name: FIXED[made[state.out], form.dtype] for state in program.states
            if (made.get(state.out, ""), form.dtype) in FIXED}


def _inputs(program: Program) -> list[Value]:
    return [program.x.value, *(state.inp for state in program.states)]


def _scale_constants(op: Op, program: Program, form: Format, found: dict[str, Quant]) -> None:
    """A constant that meets a factor of any scale gets a power of two, another one the best scale."""
    if op.kind in ("matmul", "conv2d", "gather"):
        return
    for name, other in (op.args, op.args[::-1]) if len(op.args) == 2 else ():
        if name in program.constants:
            data = np.asarray(program.constants[name][1], np.float64)
            limited = op.kind in LIMITING
            own = found[other] if limited else form.constant(data, _is_power(found[other]))
            found[constant_key(op, name)] = own


def constant_key(op: Op, name: str) -> str:
    """A constant's scale depends on what it meets: the key of its scale as an argument of ``op``."""
    return f"{op.out.name}({name})"


def _result(op: Op, limits: Range, form: Format, found: Mapping[str, Quant], fine: bool, held: Quant | None) -> Quant:
    """``held``: the scale of the state that the result becomes, from which an 8-bit product's is looked for."""
    if (op.kind, form.dtype) in FIXED:
        return FIXED[op.kind, form.dtype]
    if op.kind in (*LIMITING, *MOVING):
        return found[op.args[0]]
    if op.kind == "mul":
        factors = [found.get(a) or found[constant_key(op, a)] for a in op.args]
        if form.symmetric:
            return _product(limits, form, factors, fine)
        return alike(held or form.scale(limits, fine), *factors)
    return form.scale(_summable(op, limits, form, found), fine)


def _summable(op: Op, limits: Range, form: Format, found: Mapping[str, Quant]) -> Range:
    """The limits of a sum, widened where its result is tiny beside its arguments, as one that is always 0: kernels
    bring both to 15 or 20 bits more than the larger and end the process where the result's scale is finer still.
    """
    if op.kind not in ("add", "sub"):
        return limits
    largest = max((found.get(name) or found[constant_key(op, name)]).step for name in op.args)
    reach = 4.0 * largest / 2.0 ** (15 if form.symmetric else 20) * (form.top + 1)
    return Range(limits.lo, np.maximum(limits.hi, reach))


def _product(limits: Range, form: Format, factors: Sequence[Quant], fine: bool) -> Quant:
    """A power of two, or the odd factor's scale times one, whichever is smaller."""
    # Limits of 0.9 in 16 bits need 0.9 / 2**15 = 2.75e-5. With factors of 2**-15 and 3e-5 the odd one's scale times 1
    # is enough, and finer than the power 2**-15 = 3.05e-5; with factors of 2**-15 and 2**-14 it is that power.
    power = form.scale(limits, False)
    odd = [q for q in factors if not _is_power(q)]
    if not fine or len(odd) != 1:
        return power
    own = odd[0].step * power_of_two(form.scale(limits, True).step / odd[0].step)
    return Quant(_step(own)) if own < power.step else power


def alike(result: Quant, a: Quant, b: Quant) -> Quant:
    """The scale, or the next larger one, with which both runtimes' multipliers round every 8-bit product alike."""
    # Where s_a*s_b/s_out is 0.0075 up to rounding, 1,000 times that is 7.5 or a little less: one runtime says 8, the
    # other 7. With a scale larger by some millionths it is less in both.
    products, step = np.arange(-(255**2), 255**2 + 1), result.scale
    for _ in range(NEXT_SCALES):
        reals = multipliers(a.step, b.step, float(step[0]))
        single, double = (rescaler(*quantize_multiplier(real))(products) for real in reals)
        if np.array_equal(single, double):
            return Quant(step, result.zero_point)
        step = np.nextafter(step, np.float32(np.inf))
    return result


def _fine(program: Program) -> set[str]:
    """Values whose scale may be any number: at most one in each product, none whose kernel keeps a scale."""
    ops = list(statements(program.body))
    made = {op.out.name: op.kind for op in ops}
    tied = {state.out: state.inp.name for state in program.states}
    kept = {op.args[0] for op in ops if op.kind in LIMITING}
    fine = {*(v.name for v in _inputs(program)), *made} - kept
    fine -= {name for name, kind in made.items() if kind in (*LIMITING, "sigmoid", "tanh")}
    for op in ops:
        if op.kind == "mul" and fine.issuperset(op.args):
            fine.discard(min(op.args, key=lambda name: _worth(name, made, tied)))
    moved = [(op.out.name, name) for op in ops if op.kind in MOVING
             for name in op.args[: len(op.args) if op.kind == "concat" else 1]]
    for one, other in (*moved[::-1], *((source, out) for out, source in moved)):
        if one not in fine:
            fine.discard(other)
    coarse = {s for s in tied if s not in fine or tied[s] not in fine or made.get(s) == "mul"}
    return fine - coarse - {tied[s] for s in coarse}


def _worth(name: str, made: Mapping[str, str], tied: Mapping[str, str]) -> int:
    """States keep their fine scale first, products last: those seldom have a use for it."""
    if name in tied or name not in made:
        return 2
    return int(made[name] != "mul")


def power_of_two(step: float) -> float:
    """The smallest power of two that is no less."""
    return float(2.0 ** np.ceil(np.log2(max(step, SMALLEST))))


def _is_power(quant: Quant) -> bool:
    return bool(np.frexp(quant.step)[0] == 0.5)


def _step(step: float) -> NDArray[np.float32]:
    return np.array([step], np.float32)
