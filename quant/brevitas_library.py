"""The only module that imports brevitas, when first asked: its quantizers, with this compiler's rounding.

All scales are powers of two, one per tensor or one per channel. Rounding is floor(x + 1/2), as in the integer programs;
brevitas itself rounds halves to even.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from ncpc.errors import MissingTool
from ncpc.system.torch_library import torch_module


@dataclass(frozen=True, eq=False)
class Brevitas:
    """What the rest of ncpc uses of brevitas.

    ``vector(data, bits, fraction)``: a trainable vector (n,) seen through a signed, narrow quantizer
    (``quant_weight()``); its scale follows the largest magnitude, or is 2**-fraction where that is not None.
    ``activation(bits, channels)``: a quantizer of values (..., channels) with one scale per channel, or of values of
    any shape with one scale where ``channels`` is None. ``calibrating(module)``: within it, quantizers only observe.
    ``rounding(scale, bits, values)``: values as multiples of ``scale`` that ``bits`` bits hold, element by element,
    without the lowest, as programs hold weights; the gradient is the identity's.
    """

    torch: ModuleType
    vector: Callable[[Any, int, int | None], Any]
    activation: Callable[[int, int | None], Any]
    calibrating: Callable[[Any], Any]
    rounding: Callable[[Any, Any, Any], Any]


@cache
def brevitas_library() -> Brevitas:
    """torch, brevitas and the quantizers; raises ``MissingTool`` when either is not installed."""
    torch = torch_module()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # optional accelerators that brevitas misses and nobody here needs
            from brevitas.graph.calibrate import calibration_mode
            from brevitas.nn import QuantIdentity
    except ImportError:
        raise MissingTool("quantization: brevitas is not installed; pip install 'ncpc[torch]', or compile with "
                          "--quant float32") from None
    half_up = _rounding(torch)
    per_tensor, per_channel = _activations(half_up)

    def activation(bits: int, channels: int | None) -> Any:
        common = {"bit_width": bits, "dtype": torch.float64, "return_quant_tensor": False}
        if channels is None:
            return QuantIdentity(act_quant=per_tensor, **common)
        return QuantIdentity(act_quant=per_channel, per_channel_broadcastable_shape=(1, channels), **common)

    return Brevitas(torch, _vectors(torch, half_up), activation, calibration_mode, _grids(torch, half_up))


def _rounding(torch: ModuleType) -> Any:
    class RoundHalfUp(torch.nn.Module):  # type: ignore[misc, name-defined]
        """floor(x + 1/2), with the identity's gradient. brevitas' injector needs the constructor spelled out."""

        def __init__(self) -> None:
            super().__init__()

        def forward(self, x: Any) -> Any:
            return x + (torch.floor(x + 0.5) - x).detach()

    return RoundHalfUp


def _vectors(torch: ModuleType, half_up: Any) -> Any:
    """The class of quantized weight vectors."""
    from brevitas.inject.enum import ScalingImplType
    from brevitas.nn.mixin.parameter import QuantWeightMixin
    from brevitas.quant.fixed_point import Int8WeightPerTensorFixedPoint

    class PowerOfTwoWeight(Int8WeightPerTensorFixedPoint):  # type: ignore[misc]
        """Signed, narrow range; the scale is the smallest power of two that holds the largest magnitude."""

        float_to_int_impl = half_up

    class QuantVector(torch.nn.Module, QuantWeightMixin):  # type: ignore[misc, name-defined]
        """A trainable vector seen through a quantizer: ``quant_weight()``."""

        output_channel_dim = 0

        def __init__(self, data: Any, bits: int, fraction: int | None = None) -> None:
            torch.nn.Module.__init__(self)
            self.weight = torch.nn.Parameter(data)
            self.out_channels = data.shape[0]
            fixed = {} if fraction is None else {
                "weight_scaling_impl_type": ScalingImplType.CONST, "weight_scaling_init": 2.0 ** (bits - 1 - fraction)}
            QuantWeightMixin.__init__(self, weight_quant=PowerOfTwoWeight, weight_bit_width=bits, **fixed)
            self.eval()

    return QuantVector


def _grids(torch: ModuleType, half_up: Any) -> Callable[[Any, Any, Any], Any]:
    """brevitas' integer quantizers for scales that are given."""
    from brevitas.core.function_wrapper import Identity, TensorClampSte
    from brevitas.core.quant import IntQuant

    narrowed = IntQuant(True, True, Identity(), half_up(), TensorClampSte())

    def rounding(scale: Any, bits: Any, values: Any) -> Any:
        return narrowed(scale, torch.zeros((), dtype=values.dtype), bits, values)

    return rounding


def _activations(half_up: Any) -> tuple[Any, Any]:
    """Quantizers whose scales come from the largest magnitude observed: one per tensor, one per channel."""
    from brevitas.inject.enum import ScalingPerOutputType, StatsOp
    from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint

    class PowerOfTwo(Int8ActPerTensorFixedPoint):  # type: ignore[misc]
        """Signed, all codes used."""

        float_to_int_impl = half_up
        scaling_stats_op = StatsOp.MAX
        high_percentile_q = None

    class PowerOfTwoPerChannel(PowerOfTwo):
        """The same with one scale for each column of (n, channels)."""

        scaling_per_output_type = ScalingPerOutputType.CHANNEL
        scaling_stats_permute_dims = (1, 0)

    return PowerOfTwo, PowerOfTwoPerChannel
