"""The weights of a policy as its integer program holds them: over the reals, as integers, and the grid between the two.

Nothing here knows a rule by which a scale is chosen: the policy is quantized and lowered as compiling it would, and the
grids are read off the program that comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.held_out import calibrating
from ncpc.ir.policy import F64, I64, Ltc, Policy
from ncpc.ir.program import Op, Program, statements
from ncpc.ir.quantized import QuantizedLtc, QuantizedPolicy
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.types import Fixed, Real
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.passes.weight_rows import row_weights
from ncpc.quant.brevitas_weights import brevitas_scales
from ncpc.quant.calibrate import dead_band, recorded
from ncpc.quant.ltc_rounding import CENTRE_FRAC
from ncpc.quant.policy import Choices, quantize, real_steps
from ncpc.quant.rounding import from_raw

PRODUCTS = ("matmul", "matmulshr", "conv2d", "mul", "mulshr")
"""Ops whose factors are weights."""
NEAREST, FAR = 0.5 + 2.0**-20, 4.0
"""By how many units integers miss what they stand for: at most, where each is the nearest; and in any case."""


@dataclass(frozen=True, eq=False)
class HeldWeight:
    """A weight of a program: ``data`` over the reals, ``raw`` in integers, ``unit`` what those count, alike in shape.

    ``name`` is that of the constant in the step of the layer at ``place``; integers have ``bits`` bits and
    are never the lowest that these hold. ``of_ltc``: it is of an LTC that steps by its own arithmetic. ``centre``, of
    the slopes of such: what rounding together adds to their ``-sigma*mu``.
    """

    place: int
    name: str
    data: F64
    raw: I64
    unit: F64
    bits: int
    of_ltc: bool = False
    centre: F64 | None = None

    @property
    def key(self) -> tuple[int, str]:
        """Place and name."""
        return self.place, self.name

    @property
    def where(self) -> str:
        """The weight in words."""
        return f"layer {self.place}, {self.name}"

    @property
    def lost(self) -> F64:
        """What rounding took from each element, in units of its grid."""
        lost: F64 = np.abs(self.data / self.unit - self.raw)
        return lost


def held_weights(policy: Policy, scheme: str) -> list[HeldWeight]:
    """Every weight that the integer program of ``policy`` in ``scheme`` holds; raises what quantizing it raises."""
    return held_program(policy, scheme)[1]


def held_program(policy: Policy, scheme: str) -> tuple[Program, list[HeldWeight]]:
    """The integer program of ``policy`` in ``scheme``, and every weight that it holds."""
    policy, slopes, together = calibrating(policy), dict[str, dict[str, F64]](), dict[str, dict[str, I64]]()

    def scales(position: str, given: Mapping[str, F64], bits: int) -> Mapping[str, int]:
        slopes.setdefault(position, {}).update(given)
        return brevitas_scales(position, given, bits)

    stall = dead_band(policy, SCHEMES[scheme])
    quantized = quantize(policy, scheme, policy.dt.mode, stall, recorded(Choices(scales), {}, together))
    program, steps = lower_fixed(policy, quantized), real_steps(policy, scheme, policy.dt.mode)
    for place, chosen in together.items():
        slopes.setdefault(place, {}).update({name: from_raw(raw, CENTRE_FRAC) for name, raw in chosen.items()
                                             if name.startswith("centre")})
    return program, [weight for place, step in enumerate(steps)
                     for weight in _of_layer(policy, quantized, program, (place, step), slopes.get(str(place), {}))]


def real_weights(policy: Policy, scheme: str) -> list[tuple[int, str, F64]]:
    """Place, name and data of the same weights over the reals, in the same order; those of LTCs by their own
    arithmetic are left out.
    """
    steps = real_steps(calibrating(policy), scheme, policy.dt.mode)
    return [(place, name, np.asarray(step.constants[name][1], np.float64))
            for place, step in enumerate(steps) if step is not None for name, _ in _factors(step)]


def _of_layer(policy: Policy, quantized: QuantizedPolicy, program: Program, at: tuple[int, Program | None],
              slopes: Mapping[str, F64]) -> Iterator[HeldWeight]:
    """The weights of the layer and its step over the reals (None: an LTC by its own arithmetic) that ``at`` names."""
    place, step = at
    numbers, layer = quantized.layers[place], policy.layers[place]
    if isinstance(numbers, QuantizedLtc):
        assert isinstance(layer, Ltc)
        yield from _of_ltc(layer, numbers, slopes, place)
        return
    assert step is not None
    listed = {of.name: of.rows for of in row_weights(step)}
    emitted = [op for op in statements(program.body)
               if op.kind in PRODUCTS and op.origin is not None and op.origin.place == place]
    for name, op in _factors(step):
        data = np.asarray(step.constants[name][1], np.float64)
        yield _matched(data, _emitted(op, emitted), program, (place, name), listed.get(name))


def _factors(real: Program) -> list[tuple[str, Op]]:
    """The constants that are factors of a step, each once, with the op that multiplies by it."""
    found: dict[str, Op] = {}
    for op in statements(real.body):
        for name in op.args[:1] if op.kind in ("matmul", "conv2d") else op.args if op.kind == "mul" else ():
            if name in real.constants and real.constants[name][0].axes and _is_real(real, name):
                found.setdefault(name, op)
    return list(found.items())


def _is_real(real: Program, name: str) -> bool:
    return isinstance(real.constants[name][0].type, Real)


def _emitted(op: Op, emitted: list[Op]) -> Op:
    """The integer op that was made of a real one: names of a whole program differ by a number at their ends."""
    pattern = re.compile(re.escape(op.out.name) + r"(_rows)?(_\d+)?")
    at = next(k for k, other in enumerate(emitted) if other.kind.startswith(op.kind)
              and pattern.fullmatch(other.out.name))
    return emitted.pop(at)


def _matched(data: F64, op: Op, program: Program, where: tuple[int, str], listed: I64 | None) -> HeldWeight:
    """The integers of a weight: of the op's constants the one that is called so and has its shape; ``listed`` says to
    which sum each of its elements belongs, where it is known.
    """
    pattern = re.compile(re.escape(where[1]) + r"(_\d+)?")
    name = next(name for name in op.args if name in program.constants and pattern.fullmatch(name))
    value, raw = program.constants[name]
    assert isinstance(value.type, Fixed)
    alone = np.indices(data.shape)[0] if data.ndim > 1 else np.zeros(data.shape, np.int64)
    rows = alone if listed is None else listed
    frac = fractions_of(data, raw.astype(np.int64), value.type, rows, f"layer {where[0]}, {where[1]}")
    return HeldWeight(*where, data, raw.astype(np.int64), np.exp2(-frac.astype(np.float64)), value.type.bits)


def _of_ltc(layer: Ltc, numbers: QuantizedLtc, slopes: Mapping[str, F64], place: int) -> Iterator[HeldWeight]:
    """Conductances and currents count in units that their neuron's gain divides."""
    for tag, own, part in (("_s", numbers.sensory, layer.sensory), ("", numbers.recurrent, layer.recurrent)):
        gain, form = numbers.gain[part.post], own.format
        current = np.where(own.w == 0, 0.0, part.w * part.erev)  # a synapse whose w rounds to 0 has no current
        for name, data, raw, unit, bits in (("w", part.w, own.w, 2.0**-form.w / gain, form.bits),
                                            ("we", current, own.we, 2.0**-form.we / gain, form.bits),
                                            ("sigma", slopes[f"sigma{tag}"], own.sigma,
                                             np.full(len(gain), 2.0**-form.sigma), form.sigma_bits)):
            centre = slopes.get(f"centre{tag}") if name == "sigma" else None
            yield HeldWeight(place, name + tag, data, raw, unit, bits, True, centre)


def fractions_of(data: F64, raw: I64, kind: Fixed, rows: I64, where: str) -> I64:
    """The fraction of each element of ``data`` whose integers are ``raw``: that of their type, or one for each of
    ``rows``, which says of every element where it belongs.

    Integers need not be the nearest ones: roundings may make up for each other. Raises Unsupported where they are near
    on no such grid.
    """
    frac = np.full(data.shape, kind.frac, np.int64)
    for row in np.unique(rows):
        inside = rows == row
        frac[inside] = _of_row(data[inside], raw[inside], kind.frac)
    lost = np.abs(data * np.exp2(frac.astype(np.float64)) - raw)
    if np.any(lost > FAR):
        raise Unsupported(f"{where}: the program holds this weight on no grid of one scale, nor of one for each row; "
                          "it cannot be trained on it")
    return frac


def _of_row(data: F64, raw: I64, told: int) -> int:
    """``told`` if the integers are the nearest ones on it, else the fraction that the row as a whole was multiplied by:
    large weights, whose integers err least for their size, count most.
    """
    if np.abs(data * 2.0**told - raw).max(initial=0.0) <= NEAREST:
        return told
    slope = float(raw @ data) / float(data @ data)
    return round(float(np.log2(slope))) if slope > 0 else told
