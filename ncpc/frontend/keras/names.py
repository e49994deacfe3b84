"""What each class of layer calls its variables, in the order in which it makes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.keras.model import CFC, F64, LTC, MIXED, WIRED

_SYNAPSES = ("sigma", "mu", "w", "erev")
_LTC = ("gleak", "vleak", "cm", *_SYNAPSES, "sensory_sigma", "sensory_mu", "sensory_w", "sensory_erev")
_PART = re.compile(r"time_a|time_b|backbone\d+")


def variables(kind: str, options: Mapping[str, Any]) -> list[str]:
    """The variables a layer of class ``kind`` itself makes, its parts' left out."""
    if kind == LTC:
        return [*_LTC, *_mapping("input", options), *_mapping("output", options)]
    if kind == CFC:
        return ["ff1_weight", "ff1_bias", *(("w_tau", "A") if options.get("mode") == "pure" else ("ff2_weight",
                                                                                                  "ff2_bias"))]
    if kind == MIXED:
        return ["input_kernel", "recurrent_kernel", "bias"]
    if kind in ("LSTMCell", "GRUCell", "SimpleRNNCell"):
        return ["kernel", "recurrent_kernel", *_bias(options)]
    if kind == "BatchNormalization":
        own = [name for name, flag in (("gamma", "scale"), ("beta", "center")) if options.get(flag, True)]
        return [*own, "moving_mean", "moving_variance"]
    if kind == "Normalization":
        return ["mean", "variance"]
    if kind.startswith("SeparableConv"):
        return ["depthwise_kernel", "pointwise_kernel", *_bias(options)]
    return ["kernel", *_bias(options)]


def _bias(options: Mapping[str, Any]) -> list[str]:
    return ["bias"] if options.get("use_bias", True) else []


def _mapping(side: str, options: Mapping[str, Any]) -> list[str]:
    """An affine mapping has a factor and an offset, a linear one only the factor."""
    kind = options.get(f"{side}_mapping", "affine")
    return [f"{side}_w", f"{side}_b"] if kind == "affine" else [f"{side}_w"] if kind == "linear" else []


def by_path(paths: Iterable[tuple[str, F64]], kind: str, memory: bool) -> dict[str, F64]:
    """Weights by name from their full paths, in the order in which the layer made them."""
    found: dict[str, F64] = {}
    stage = -1
    for path, array in paths:
        *parents, last = path.split("/")
        name = last.partition(":")[0]
        part = parents[-1] if parents and _PART.fullmatch(parents[-1]) else ""
        if memory and not part and name in ("input_kernel", "recurrent_kernel", "bias"):
            part = "memory"
        elif kind == WIRED:
            stage += name == "ff1_weight"
            part = f"stage{stage}/{part}".rstrip("/")
        key = f"{part}/{name}" if part else name
        if key in found:
            raise Unsupported(f"keras: two variables are called '{path}'; give the model's .keras file instead")
        found[key] = array
    return found
