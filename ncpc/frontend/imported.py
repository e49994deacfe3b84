"""What every frontend gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ncpc.ir.policy import Layer


@dataclass(frozen=True)
class Imported:
    """A model as read: its layers in order, and where they came from as plain JSON."""

    layers: tuple[Layer, ...]
    provenance: Mapping[str, object]
