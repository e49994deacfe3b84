"""A layer's config and weights as a ``KerasLayer``, whichever version of Keras or ncps wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.keras import chain
from ncpc.frontend.keras.model import WIRED, KerasLayer, Weights, Wiring
from ncpc.frontend.keras.wiring import roles_of, staged, wiring_of

NOTHING = ("InputLayer", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout",
           "AlphaDropout", "Masking")
"""What a layer of these classes computes at inference: its input."""


def layer_of(spec: chain.Spec, weights: Weights, where: str) -> KerasLayer | None:
    """The layer of one config; None where it computes nothing."""
    outer = spec.get("config", {})
    kind, memory, options = chain.cell_of(spec)
    if kind in NOTHING:
        return None
    require_forwards(outer, where)
    wiring = _wiring(kind, memory, outer, options, weights, where)
    return KerasLayer(kind, str(outer.get("name", kind)), _plain(outer, options), weights, wiring, memory)


def _plain(outer: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's options, with its memory's forget bias, which stands one level up."""
    cell = outer.get("cell")
    around = cell.get("config", {}) if isinstance(cell, Mapping) else {}
    bias = {"forget_gate_bias": around["forget_gate_bias"]} if "forget_gate_bias" in around else {}
    return {**options, **bias}


def require_forwards(config: Mapping[str, Any], where: str) -> None:
    """Raises ``Unsupported`` for a layer that reads the future."""
    if config.get("go_backwards"):
        raise Unsupported(f"{where}: layer '{config.get('name')}' runs backwards in time and cannot run step by step; "
                          "train it with go_backwards=False")


def _wiring(
    kind: str, memory: bool, outer: Mapping[str, Any], options: Mapping[str, Any], weights: Weights, where: str
) -> Wiring | None:
    config = wiring_of(options) or wiring_of({"wiring": outer.get("units")})
    if kind != WIRED:
        return None if config is None else roles_of(config)
    units = sum(array.shape[-1] for name, array in weights.items() if name.endswith("ff1_bias"))
    inputs = units if memory else weights["stage0/ff1_weight"].shape[0] - weights["stage0/ff1_bias"].shape[0]
    return staged(config, inputs, where)
