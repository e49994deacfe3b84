"""Policy -> quantized policy: formats at the boundary, then layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ncpc.ir.policy import F64, I64, Activation, Dense, Layer, Ltc, Policy, Taps
from ncpc.ir.program import Program, statements
from ncpc.ir.quantized import (
    FINE_SIZE,
    TABLE_ERROR,
    TABLE_SIZE,
    QuantizedGeneric,
    QuantizedLayer,
    QuantizedPolicy,
    joined_type,
    sigmoid_table,
)
from ncpc.ir.schemes import SCHEMES, NumberScheme
from ncpc.ir.types import Fixed
from ncpc.ir.wires import readers, taps_of
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.lower import lower
from ncpc.passes.lower_heads import WIDE
from ncpc.passes.weight_rows import RowWeights
from ncpc.quant.gates import bounded_below
from ncpc.quant.generic import NARROWEST, quantize_generic
from ncpc.quant.inputs import boundary
from ncpc.quant.ltc import Demand, Incoming, Timespans, quantize_ltc
from ncpc.quant.ltc_rounding import LtcReading, rounded_together
from ncpc.quant.matrix_rounding import rounded_rows
from ncpc.quant.observe import observed_signals, observed_step
from ncpc.quant.rounding import fraction_for, to_raw

HIDDEN_BITS = 16
"""Width of what one layer hands to the next, in every scheme."""
SPREAD = 8.0
"""How many times the largest weight may exceed a row's or a column's before rows have scales of their own."""
ROUNDED = 2.0**-10
"""By what share of a bound weights of 16 bits and what is rounded on the way may carry a layer's result beyond it."""
ARGUMENT_BITS = 31
"""Width of what a layer hands to an activation function, which takes a 32-bit sum as it is, and of what one hands to
weight matrices alone, if it is one-sided; one bit of headroom.
"""
ONE_SIDED = ("silu", "gelu", "softplus", "hard_silu", "elu", "leaky_relu")
"""Functions whose results lie further above 0 than below, and are no entries of a table."""

Scales = Callable[[str, Mapping[str, F64], int], Mapping[str, int]]
"""Fractions of a layer's vectors: (layer's position, vectors, bits) -> fractions. Brevitas, or a stored choice."""
Integers = Callable[[str, Mapping[str, int], Callable[[], Mapping[str, I64]]], Mapping[str, I64]]
"""Integers of a layer's vectors of few bits: (layer's position, how many of each, what computes them) -> integers, or a
stored choice."""


def computed(position: str, sizes: Mapping[str, int], make: Callable[[], Mapping[str, I64]]) -> Mapping[str, I64]:
    """Integers that are stored nowhere."""
    return make()


@dataclass(frozen=True)
class Choices:
    """Who decides about weights: fractions of whole tensors, and how each of few bits is rounded."""

    scales: Scales
    integers: Integers = computed


def quantize(policy: Policy, scheme: str, dt_mode: str, dead_band: float, choices: Choices) -> QuantizedPolicy:
    """The policy in integers.

    ``dead_band`` is the largest stall of a state that is acceptable, in physical units; where the errors of an LTC's
    sigmoids could move a state by twice as much, their table has twice the entries.

    Raises ``ProofFailed`` when no format closes and ``Unsupported`` for a layer without integer form.
    """
    numbers = SCHEMES[scheme]
    x = boundary(policy, numbers)
    given = [Incoming(x.type, x.fracs, x.raw)]
    timespans, table = _timespans(policy, dt_mode), table_size(policy, dead_band, numbers.table)
    layers = []
    for position, layer in enumerate(policy.layers):
        incoming = _tapped(given, taps_of(policy)[position])
        out_bits = _handed(policy, position, numbers)
        demand = Demand(numbers.weight_bits, out_bits, dead_band, numbers.state_bits, table, numbers.sigma_bits,
                        numbers.together, numbers.activation_bits > NARROWEST)
        quantized = _quantized(policy, position, incoming, timespans, demand, choices)
        layers.append(quantized)
        given.append(_outgoing(layer, quantized))
    dt = None if timespans.frac is None else Fixed(32, timespans.frac, signed=False)
    limits = None if dt is None else (int(to_raw(timespans.lo, dt.frac)), int(to_raw(timespans.hi, dt.frac)))
    return QuantizedPolicy(scheme, x.type, x.fracs, x.raw, x.range, x.note, dt, limits, sigmoid_table(table),
                           tuple(layers))


def table_size(policy: Policy, dead_band: float, least: int = TABLE_SIZE) -> int:
    """Intervals of the LTCs' sigmoid table: ``least``, or as many more as its errors need.

    A sigmoid that is off by e moves a resting state by at most e times its distance from the reversal potential, in all
    synapses alike: about e times the largest of those. Half the intervals err up to four times as much.
    """
    reach = max((float(np.abs(np.concatenate([layer.sensory.erev, layer.recurrent.erev])).max(initial=0.0))
                 for layer in policy.layers if isinstance(layer, Ltc) and _has_own_arithmetic(layer)), default=0.0)
    size = least
    while size < FINE_SIZE and TABLE_ERROR * max(TABLE_SIZE / size, 1.0)**2 * reach > 2.0 * dead_band:
        size *= 2
    return size


def _handed(policy: Policy, position: int, numbers: NumberScheme) -> int:
    """Bits of what the layer at ``position`` gives."""
    layer, after = policy.layers[position], [k for k in readers(policy, position) if k < len(policy.layers)]
    if not after:
        return numbers.activation_bits
    if _has_own_arithmetic(layer) or len(after) < len(readers(policy, position)):
        return HIDDEN_BITS
    curved = all(_is_curved(policy.layers[k]) and len(taps_of(policy)[k]) == 1 for k in after)
    weighed = _is_one_sided(layer) and all(_weighs(policy, k, numbers.weight_bits) for k in after)
    return ARGUMENT_BITS if curved or weighed else HIDDEN_BITS


def _is_curved(layer: Layer) -> bool:
    return isinstance(layer, Activation) and layer.function != "relu"


def _is_one_sided(layer: Layer) -> bool:
    return isinstance(layer, Activation) and layer.function in ONE_SIDED


def _weighs(policy: Policy, position: int, bits: int) -> bool:
    """Whether a layer's input meets nothing but weight matrices, which read it less its centre."""
    if _has_own_arithmetic(policy.layers[position]) or len(taps_of(policy)[position]) > 1:
        return False
    real = _alone(policy, position, bits)
    return all(op.kind == "matmul" for op in statements(real.body) if real.x.value.name in op.args)


def _has_own_arithmetic(layer: Layer) -> bool:
    return isinstance(layer, Ltc) and layer.solver == "fused"


def largest_fractions(position: str, vectors: Mapping[str, F64], bits: int) -> dict[str, int]:
    """The largest fraction at which each vector's largest magnitude fits; needs no calibration."""
    return {name: fraction_for(float(np.abs(v).max(initial=0.0)), bits) for name, v in vectors.items()}


def _timespans(policy: Policy, dt_mode: str) -> Timespans:
    if dt_mode == "fixed":
        return Timespans(policy.dt.nominal, policy.dt.nominal, None)
    wanted = max(16, 16 + math.ceil(-math.log2(policy.dt.lo)))
    return Timespans(policy.dt.lo, policy.dt.hi, min(wanted, fraction_for(policy.dt.hi, 32)))


def _outgoing(layer: Layer, q: QuantizedLayer) -> Incoming:
    """What the next layer receives, per channel: what the type holds, and of that what the bounds allow."""
    limits = np.array([[q.y.lo, q.y.hi]] * layer.outputs, np.int64)
    if isinstance(q, QuantizedGeneric) and _bounds_hold(q):
        lo, hi = q.ranges[q.real.y.value.name]
        room = 1.0 + ROUNDED * np.maximum(np.abs(lo), np.abs(hi)) * 2.0**q.y.frac
        wide = np.stack([np.floor(lo * 2.0**q.y.frac - room), np.ceil(hi * 2.0**q.y.frac + room)], axis=-1)
        limits = np.clip(wide, q.y.lo, q.y.hi).astype(np.int64)
    return Incoming(q.y, q.y_fracs, limits)


def _bounds_hold(q: QuantizedGeneric) -> bool:
    """Whether the integers keep to the bounds over the reals but for roundings that these have room for.

    A convolution is limited to what its type holds, not to its bound; weights of 8 bits are others than those of the
    bound.
    """
    kinds = {op.kind for op in statements(q.real.body)}
    return "conv2d" not in kinds and (q.bits >= HIDDEN_BITS or "matmul" not in kinds)


def _tapped(given: list[Incoming], taps: Taps) -> Incoming:
    """What a layer receives: see ``ncpc.passes.lower_fixed``, which joins the same channels."""
    parts = [(given[tap.source + 1], slice(tap.start, tap.stop)) for tap in taps]
    return Incoming(joined_type([part.type for part, _ in parts]),
                    tuple(frac for part, span in parts for frac in part.fracs[span]),
                    np.concatenate([part.range[span] for part, span in parts]))


def _quantized(policy: Policy, position: int, incoming: Incoming, dt: Timespans, demand: Demand,
               choices: Choices) -> QuantizedLayer:
    """An LTC by its own arithmetic, any other layer by that of its step over the reals."""
    layer = policy.layers[position]
    fractions, integers = partial(choices.scales, str(position)), partial(choices.integers, str(position))
    if isinstance(layer, Ltc) and _has_own_arithmetic(layer):
        def rounding(reading: LtcReading) -> Mapping[str, I64]:
            def make() -> Mapping[str, I64]:
                step = _step(policy, position, dt, demand.bits)
                state = step.states[0].inp.name
                return rounded_together(reading, state, observed_signals(policy, position, step, [state]))

            return integers(reading.sizes, make)

        starts = [start.values for start in policy.initial if start.layer == position]
        return quantize_ltc(layer, incoming, dt, demand, fractions, rounding, *starts)
    step = _step(policy, position, dt, demand.bits)
    convolves = any(op.kind == "conv2d" for op in statements(step.body))
    short = demand.out_bits <= HIDDEN_BITS
    observed = observed_step(policy, position, step) if step.states or convolves or short else {}

    def rounding_rows(weights: Sequence[RowWeights]) -> Mapping[str, I64]:
        names = [one.source for one in weights]
        return integers({one.name: one.data.size for one in weights},
                        lambda: rounded_rows(weights, demand.bits, observed_signals(policy, position, step, names)))

    return quantize_generic(step, incoming, dt, demand, fractions, observed, rounding_rows)


def real_steps(policy: Policy, scheme: str, dt_mode: str) -> list[Program | None]:
    """Each layer's step over the reals, of which ``quantize`` makes integers; None for an LTC by its own arithmetic."""
    timespans, bits = _timespans(policy, dt_mode), SCHEMES[scheme].weight_bits
    return [None if _has_own_arithmetic(layer) else _step(policy, position, timespans, bits)
            for position, layer in enumerate(policy.layers)]


def by_rows(layer: Layer, bits: int) -> bool:
    """Whether a dense layer's rows have a scale each and exact sums: in 8 bits always; in 16, where that takes more
    time, if the weights of some output or input are far smaller than others, so that one scale is too coarse for them.
    """
    if not isinstance(layer, Dense):
        return False
    size = np.abs(layer.weight)
    least = min(float(largest[largest > 0].min(initial=np.inf)) for largest in (size.max(axis=0), size.max(axis=1)))
    return bits < HIDDEN_BITS or float(size.max()) > SPREAD * least


def _step(policy: Policy, position: int, dt: Timespans, bits: int) -> Program:
    """One layer's step over the reals, dt and constants put in where they are known."""
    real = _alone(policy, position, bits)
    return bounded_below(fold_constants(fix_dt(real, dt.lo) if dt.frac is None else real))


def _alone(policy: Policy, position: int, bits: int) -> Program:
    """One layer's equations; a dense layer by rows is a convolution, in which each has a scale of its own."""
    layer = policy.layers[position]
    initial = tuple(replace(start, layer=0) for start in policy.initial if start.layer == position)
    alone = Policy(policy.name, (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)), policy.dt, initial=initial)
    return lower(alone, wide=1 if by_rows(layer, bits) else WIDE)
