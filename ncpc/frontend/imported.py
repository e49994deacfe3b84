"""What every frontend gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ncpc.ir.policy import ChannelGroup, InitialState, Layer, Taps


@dataclass(frozen=True)
class Imported:
    """A model as read: its layers in order, and where they came from as plain JSON; ``wires``, ``initial`` and groups
    as in ``Policy``. ``dt``: the timespan that its cells have fixed inside, None where they have none.
    """

    layers: tuple[Layer, ...]
    provenance: Mapping[str, object]
    wires: tuple[Taps, ...] = ()
    initial: tuple[InitialState, ...] = ()
    input_groups: tuple[ChannelGroup, ...] = ()
    output_groups: tuple[ChannelGroup, ...] = ()
    width: int = 0
    """Values of one step's input, where the wires do not tell."""
    dt: float | None = None

    @property
    def inputs(self) -> int:
        """Values of one step's input."""
        return self.width or self.layers[0].inputs


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model as ``ncpc.save`` takes it, and the module whose own forward it is compared with, where there is
    one (``like``).
    """

    model: Any
    like: Any = None
