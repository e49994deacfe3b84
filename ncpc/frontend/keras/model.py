"""A Keras model as its reader found it, whatever it was stored in: layers in order, options, weights by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Weights = Mapping[str, F64]

LTC, CFC, WIRED, MIXED = "LTCCell", "CfCCell", "WiredCfCCell", "MixedMemoryRNN"


@dataclass(frozen=True)
class Wiring:
    """``roles`` of all neurons; of each layer of a wired CfC, its neurons and its mask (from inputs and itself)."""

    roles: tuple[str, ...]
    outputs: int
    stages: tuple[tuple[tuple[int, ...], F64], ...] = ()


@dataclass(frozen=True)
class KerasLayer:
    """One layer: a recurrent layer is known by its cell's class.

    ``weights`` are named by the variable, those of a part by ``part/variable``: ``time_a/kernel``,
    ``backbone0/kernel``, ``stage1/ff1_weight``, ``memory/bias``. ``wiring`` is None where the file lacks it.
    """

    kind: str
    name: str
    options: Mapping[str, Any]
    weights: Weights
    wiring: Wiring | None = None
    memory: bool = False


@dataclass(frozen=True)
class KerasModel:
    """``shape`` is that of one step's input, None where the file does not say."""

    layers: tuple[KerasLayer, ...]
    shape: tuple[int, ...] | None
    provenance: Mapping[str, object] = field(default_factory=dict)
