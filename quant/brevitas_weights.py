"""Power-of-two scales of weight vectors by brevitas; the only module that imports it.

A layer's vectors (one element per synapse, so that absent synapses do not enter a scale) become quantized parameters
whose scale is the smallest power of two that holds the largest magnitude. Rounding is floor(x + 1/2), as in the
integer programs; brevitas itself rounds halves to even.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from ncpc.errors import MissingTool
from ncpc.ir.policy import F64, I64

FINEST = 31
"""The largest fraction a weight may have."""


def brevitas_scales(position: str, vectors: Mapping[str, F64], bits: int) -> dict[str, int]:
    """Fractions of a layer's vectors as brevitas calibrates them; raises ``MissingTool`` without brevitas.

    See ``ncpc.quant.policy.Scales``; ``position`` plays no part, each vector has its own scale.
    """
    return {name: _fraction(vector, bits) for name, vector in vectors.items()}


def brevitas_integers(vector: F64, bits: int) -> tuple[I64, int]:
    """The integers brevitas makes of a vector in float64, and their fraction."""
    quantized = _quantized(vector, bits)
    frac = -round(math.log2(float(quantized.scale)))
    return quantized.int(float_datatype=False).numpy().astype(np.int64).reshape(np.shape(vector)), frac


def _fraction(vector: F64, bits: int) -> int:
    if not np.any(vector):
        return bits - 1
    return min(-round(math.log2(float(_quantized(vector, bits).scale))), FINEST)


def _quantized(vector: F64, bits: int) -> Any:
    """The vector as brevitas' quantized tensor, in float64."""
    torch, parameter, quantizer = _library()
    with torch.no_grad():
        return parameter(torch.tensor(np.ravel(vector), dtype=torch.float64), quantizer, bits).quant_weight()


@cache
def _library() -> tuple[Any, Any, Any]:
    """torch, the class of quantized vectors, and the quantizer."""
    try:
        import torch
        from brevitas.nn.mixin.parameter import QuantWeightMixin
        from brevitas.quant.fixed_point import Int8WeightPerTensorFixedPoint
    except ImportError:
        raise MissingTool("quantization: brevitas is not installed; pip install 'ncpc[torch]', or compile with "
                          "--quant float32") from None

    class RoundHalfUp(torch.nn.Module):
        """floor(x + 1/2), with the identity's gradient. brevitas' injector needs the constructor spelled out."""

        def __init__(self) -> None:
            super().__init__()

        def forward(self, x: Any) -> Any:
            return x + (torch.floor(x + 0.5) - x).detach()

    class PowerOfTwoWeight(Int8WeightPerTensorFixedPoint):  # type: ignore[misc]
        """Signed, narrow range, one power-of-two scale for the whole vector."""

        float_to_int_impl = RoundHalfUp

    class QuantVector(torch.nn.Module, QuantWeightMixin):  # type: ignore[misc]
        """A trainable vector seen through a quantizer: ``quant_weight()``."""

        output_channel_dim = 0

        def __init__(self, data: Any, quantizer: Any, bits: int) -> None:
            torch.nn.Module.__init__(self)
            self.weight = torch.nn.Parameter(data)
            self.out_channels = data.shape[0]
            QuantWeightMixin.__init__(self, weight_quant=quantizer, weight_bit_width=bits)
            self.eval()

    return torch, QuantVector, PowerOfTwoWeight
