"""What every frontend gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncpc.ir.policy import Layer


@dataclass(frozen=True)
class Imported:
    """A model as read: its layers in order, and where they came from as plain JSON."""

    layers: tuple[Layer, ...]
    provenance: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model as ``ncpc.save`` takes it, and the module whose own forward it is compared with, where there is
    one (``like``).
    """

    model: Any
    like: Any = None
