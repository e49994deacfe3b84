"""Activations take the width of their neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ncpc.ir.policy import Activation, Layer


def with_widths(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """An activation is as wide as the layer before it, or after it if it comes first."""
    found = list(layers)
    known = [layer for layer in found if not isinstance(layer, Activation)]
    if not known:
        return ()
    width = known[0].inputs
    for i, layer in enumerate(found):
        if isinstance(layer, Activation):
            found[i] = replace(layer, width=width)
        width = found[i].outputs
    return tuple(found)
