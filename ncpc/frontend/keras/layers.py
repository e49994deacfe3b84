"""A layer's config and weights as a ``KerasLayer``, whichever version of Keras or ncps wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.keras import chain
from ncpc.frontend.keras.model import WIRED, KerasLayer, Weights, Wiring
from ncpc.frontend.keras.wiring import roles_of, staged, wiring_of

NOTHING = ("InputLayer", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout",
           "AlphaDropout")
"""What a layer of these classes computes at inference: its input."""

_BACKWARDS = "runs backwards in time and cannot run step by step; train it with go_backwards=False"
_NOT_STEPWISE = {
    "Bidirectional": "reads the future and cannot run step by step; train the layer inside it alone",
    "Masking": "skips the steps whose inputs all have its mask_value, which no compiled policy does; leave it out of "
               "the model that is read (weights stay as they are)",
}
"""By class: why it cannot run as one step after the other."""


def layer_of(spec: chain.Spec, weights: Weights, where: str) -> KerasLayer | None:
    """The layer of one config; None where it computes nothing."""
    outer = spec.get("config", {})
    kind, memory, options = chain.cell_of(spec)
    if kind in NOTHING:
        return None
    wiring = _wiring(kind, memory, outer, options, weights, where)
    return KerasLayer(kind, str(outer.get("name", kind)), _plain(outer, options), weights, wiring, memory)


def _plain(outer: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's options, with its memory's forget bias, which stands one level up."""
    cell = outer.get("cell")
    around = cell.get("config", {}) if isinstance(cell, Mapping) else {}
    bias = {"forget_gate_bias": around["forget_gate_bias"]} if "forget_gate_bias" in around else {}
    return {**options, **bias}


def require_steps(kind: str, config: Mapping[str, Any], where: str) -> None:
    """Raises ``Unsupported`` for a layer, as the model holds it, that does not run step by step."""
    said = _NOT_STEPWISE.get(kind) or (_BACKWARDS if config.get("go_backwards") else None)
    if said is None and kind.endswith(("1D", "2D")) and kind not in NOTHING:
        said = "works across the steps of time; wrap it in TimeDistributed to work within each"
    if said is not None:
        raise Unsupported(f"{where}: layer '{config.get('name')}' ({kind}) {said}")


def _wiring(
    kind: str, memory: bool, outer: Mapping[str, Any], options: Mapping[str, Any], weights: Weights, where: str
) -> Wiring | None:
    config = wiring_of(options) or wiring_of({"wiring": outer.get("units")})
    if kind != WIRED:
        return None if config is None else roles_of(config)
    units = sum(array.shape[-1] for name, array in weights.items() if name.endswith("ff1_bias"))
    inputs = units if memory else weights["stage0/ff1_weight"].shape[0] - weights["stage0/ff1_bias"].shape[0]
    return staged(config, inputs, where)
