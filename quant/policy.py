"""Policy -> quantized policy: formats at the boundary, then layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.policy import F64, I64, Activation, Dense, Layer, Policy
from ncpc.ir.quantized import (
    TABLE_SIZE,
    Z_FRAC,
    Z_HALF,
    QuantizedActivation,
    QuantizedDense,
    QuantizedLayer,
    QuantizedPolicy,
    sigmoid_table,
)
from ncpc.ir.types import Fixed
from ncpc.quant.ltc import Demand, Fractions, Incoming, Timespans, quantize_ltc
from ncpc.quant.rounding import fraction_for, to_raw

BITS = {"int16": 16, "int8": 8}
"""Width of weights, inputs and outputs by scheme."""
HIDDEN_BITS = 16
"""Width of what one layer hands to the next, in every scheme."""


Scales = Callable[[str, Mapping[str, F64], int], Mapping[str, int]]
"""Fractions of a layer's vectors: (layer's position, vectors, bits) -> fractions. Brevitas, or a stored choice."""


def quantize(policy: Policy, scheme: str, dt_mode: str, dead_band: float, scales: Scales) -> QuantizedPolicy:
    """The policy in integers. ``dead_band`` is the largest stall of a state that is acceptable, physical units.

    Raises ``ProofFailed`` when no format closes and ``Unsupported`` for a layer without integer form.
    """
    bits = BITS[scheme]
    x = _boundary(policy, bits)
    timespans = _timespans(policy, dt_mode)
    incoming, layers = x, []
    for position, layer in enumerate(policy.layers):
        out_bits = bits if layer is policy.layers[-1] else HIDDEN_BITS
        demand = Demand(bits, out_bits, dead_band)
        quantized = _quantizer(layer)(layer, incoming, timespans, demand, partial(scales, str(position)))
        layers.append(quantized)
        incoming = _outgoing(layer, quantized, incoming)
    dt = None if timespans.frac is None else Fixed(32, timespans.frac, signed=False)
    limits = None if dt is None else (int(to_raw(timespans.lo, dt.frac)), int(to_raw(timespans.hi, dt.frac)))
    return QuantizedPolicy(scheme, x.type, x.fracs, x.range, dt, limits, sigmoid_table(), tuple(layers))


def largest_fractions(position: str, vectors: Mapping[str, F64], bits: int) -> dict[str, int]:
    """The largest fraction at which each vector's largest magnitude fits; needs no calibration."""
    return {name: fraction_for(float(np.abs(v).max(initial=0.0)), bits) for name, v in vectors.items()}


def _boundary(policy: Policy, bits: int) -> Incoming:
    """Per channel the largest fraction that holds its declared range."""
    limits = np.abs(policy.input_range).max(axis=1)
    fracs = tuple(fraction_for(float(m), bits, most=bits + 8) for m in limits)
    kind = Fixed(bits, bits - 1)
    raw = to_raw(policy.input_range * np.exp2(np.array(fracs, np.float64))[:, None], 0)
    return Incoming(kind, fracs, raw)


def _timespans(policy: Policy, dt_mode: str) -> Timespans:
    if dt_mode == "fixed":
        return Timespans(policy.dt.nominal, policy.dt.nominal, None)
    wanted = max(16, 16 + math.ceil(-math.log2(policy.dt.lo)))
    return Timespans(policy.dt.lo, policy.dt.hi, min(wanted, fraction_for(policy.dt.hi, 32)))


def _quantize_dense(layer: Dense, source: Incoming, dt: Timespans, demand: Demand,
                    fractions: Fractions) -> QuantizedDense:
    """Weights per tensor, with as much fraction as the integer sum allows; the result's from the sum's exact range."""
    weight = layer.weight * np.exp2(source.type.frac - np.array(source.fracs, np.float64))
    frac = fractions({"dense_w": weight}, demand.bits)["dense_w"]
    reach = np.abs(source.range).max(axis=1)
    while _dense_sum(weight, layer.bias, frac, source.type.frac, reach) >= SUM_LIMIT:
        frac -= 1
    total = frac + source.type.frac
    most = _dense_sum(weight, layer.bias, frac, source.type.frac, reach) * 2.0**-total
    widest = fraction_for(most * (1 + 2.0**-12), demand.out_bits, most=demand.out_bits + 8)
    y = Fixed(demand.out_bits, min(total, widest))
    raw, bias = to_raw(weight, frac), to_raw(layer.bias, total)
    return QuantizedDense(raw, bias, Fixed(demand.bits, frac), total - y.frac, y, (y.frac,) * layer.outputs)


SUM_LIMIT = (1 << 31) - (1 << 16)
"""Sums stay below it, so that adding half a unit before a shift cannot overflow int32."""


def _dense_sum(weight: F64, bias: F64, frac: int, x_frac: int, reach: I64) -> int:
    """The largest magnitude of the integer sum over inputs up to ``reach``."""
    return int((np.abs(to_raw(weight, frac)) @ reach + np.abs(to_raw(bias, frac + x_frac))).max())


def _quantize_activation(layer: Activation, source: Incoming, dt: Timespans, demand: Demand,
                         fractions: Fractions) -> QuantizedActivation:
    frac = source.type.frac
    if set(source.fracs) != {frac}:
        raise Unsupported(f"activation '{layer.function}' on the inputs has no integer form; put a Linear before it")
    if layer.function == "relu":
        return QuantizedActivation("relu", None, 0, 0, source.type, source.fracs)
    y = Fixed(demand.out_bits, demand.out_bits - 2)
    z = np.linspace(-Z_HALF, Z_HALF, TABLE_SIZE + 1)
    curve = np.tanh(z) if layer.function == "tanh" else 1.0 / (1.0 + np.exp(-z))
    k = frac - Z_FRAC
    offset = (Z_HALF << max(frac, Z_FRAC)) + (1 << max(k, 0) >> 1)
    return QuantizedActivation(layer.function, to_raw(curve, y.frac), offset, k, y, (y.frac,) * layer.width)


def _outgoing(layer: Layer, q: QuantizedLayer, incoming: Incoming) -> Incoming:
    """What the next layer receives: the whole range of the type, per channel."""
    limits = np.array([[q.y.lo, q.y.hi]] * layer.outputs, np.int64)
    return Incoming(q.y, q.y_fracs, limits)


_QUANTIZERS: dict[str, Callable[[Any, Incoming, Timespans, Demand, Fractions], QuantizedLayer]] = {
    "ltc": quantize_ltc,
    "dense": _quantize_dense,
    "activation": _quantize_activation,
}


def _quantizer(layer: Layer) -> Callable[[Any, Incoming, Timespans, Demand, Fractions], QuantizedLayer]:
    if layer.kind not in _QUANTIZERS:
        kinds = ", ".join(sorted(_QUANTIZERS))
        raise Unsupported(f"layer kind '{layer.kind}' has no integer form; use --quant float32, or one of: {kinds}")
    return _QUANTIZERS[layer.kind]
