"""Power-of-two scales of a policy's inputs, states and outputs, as brevitas calibrates them on recorded values.

They say what the data alone would have chosen. What is compiled holds on the proved range instead, and the report puts
the two side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.ir.policy import F64, Policy
from ncpc.ir.schemes import NumberScheme
from ncpc.quant.brevitas_library import brevitas_library
from ncpc.quant.observe import observed_values

UNUSED = 1e-9
"""A channel that stays below this says nothing about its scale; it gets the fraction ``bits - 1``."""


def brevitas_activations(policy: Policy, scheme: NumberScheme) -> dict[str, list[int]]:
    """Fractions on the policy's calibration data: of ``x`` and ``y`` per channel, of each state by its name.

    States have the width of the view that synapses read. Raises ``MissingTool`` without brevitas.
    """
    (x, states, y), bits, inside = observed_values(policy), scheme.activation_bits, scheme.state_bits
    inner = {name: activation_fractions(values, inside, per_channel=False) for name, values in states.items()}
    return {"x": activation_fractions(x, bits), **inner, "y": activation_fractions(y, bits)}


def activation_fractions(values: F64, bits: int, per_channel: bool = True) -> list[int]:
    """Fractions of ``values`` (n, channels), one per channel, or a single one for all."""
    quantizer = calibrated(values, bits, per_channel)
    scale = quantizer.act_quant.scale().detach().numpy().reshape(-1)
    most = np.abs(values).max(axis=0 if per_channel else None, initial=0.0).reshape(-1)
    return [int(-round(np.log2(s))) if m > UNUSED else bits - 1 for s, m in zip(scale, most, strict=True)]


def calibrated(values: F64, bits: int, per_channel: bool = True) -> Any:
    """brevitas' quantizer (a torch module in float64, its scale fixed) after it saw ``values`` (n, channels)."""
    library = brevitas_library()
    torch = library.torch
    quantizer = library.activation(bits, values.shape[1] if per_channel else None)
    # A power-of-two scale lets the largest value reach code 2**(bits - 1), one more than there are: leave room for it.
    room = 2.0 ** (bits - 1) / (2.0 ** (bits - 1) - 1)
    with torch.no_grad(), library.calibrating(quantizer):
        quantizer(torch.tensor(np.abs(values) * room, dtype=torch.float64))
    for parameter in quantizer.parameters():
        parameter.requires_grad_(False)
    return quantizer.eval()
