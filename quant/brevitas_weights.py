"""Power-of-two scales of weight vectors, chosen by brevitas.

A layer's vectors (one element per synapse, so that absent synapses do not enter a scale) become quantized parameters
whose scale is the smallest power of two that holds the largest magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.quant.brevitas_library import brevitas_library

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
    return quantized.int(float_datatype=False).numpy().astype(np.int64).reshape(np.shape(vector)), fraction(quantized)


def fraction(quantized: Any) -> int:
    """The fraction of one of brevitas' quantized tensors whose scale is a power of two."""
    return -round(math.log2(float(quantized.scale)))


def _fraction(vector: F64, bits: int) -> int:
    if not np.any(vector):
        return bits - 1
    return min(fraction(_quantized(vector, bits)), FINEST)


def _quantized(vector: F64, bits: int) -> Any:
    """The vector as brevitas' quantized tensor, in float64."""
    library = brevitas_library()
    with library.torch.no_grad():
        data = library.torch.tensor(np.ravel(vector), dtype=library.torch.float64)
        return library.vector(data, bits, None).quant_weight()
