"""Layers without what nothing reads, and fewer of the same meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ncpc.frontend.heads import merged
from ncpc.ir.policy import INPUT, InitialState, Layer, Tap, Taps


def tidied(layers: Sequence[Layer], wires: Sequence[Taps], initial: Sequence[InitialState]
           ) -> tuple[tuple[Layer, ...], tuple[Taps, ...], tuple[InitialState, ...]]:
    """The layers that the outputs depend on; a layer and its only reader are one where ``merged`` makes them one."""
    kept, taps = list(layers), list(wires)
    for k in range(1, len(kept)):
        while (before := _only(taps, kept, k)) is not None and len(fewer := merged([kept[before], kept[k]])) == 1:
            kept[k], taps[k], taps[before] = fewer[0], taps[before], ()
    return _without(kept, taps, initial)


def _only(taps: Sequence[Taps], layers: Sequence[Layer], position: int) -> int | None:
    """The layer that this one alone reads, wholly and alone."""
    if len(taps[position]) != 1:
        return None
    (tap,) = taps[position]
    if tap.source == INPUT or (tap.start, tap.stop) != (0, layers[tap.source].outputs):
        return None
    others = sum(other.source == tap.source for wire in taps for other in wire)
    return tap.source if others == 1 else None


def _without(layers: Sequence[Layer], wires: Sequence[Taps], initial: Sequence[InitialState]
             ) -> tuple[tuple[Layer, ...], tuple[Taps, ...], tuple[InitialState, ...]]:
    needed, todo = set[int](), [tap.source for tap in wires[-1]]
    while todo:
        k = todo.pop()
        if k != INPUT and k not in needed:
            needed.add(k)
            todo += [tap.source for tap in wires[k]]
    order = sorted(needed)
    place = {INPUT: INPUT, **{k: i for i, k in enumerate(order)}}

    def renumbered(taps: Taps) -> Taps:
        return tuple(Tap(place[tap.source], tap.start, tap.stop) for tap in taps)

    return (tuple(layers[k] for k in order), tuple(renumbered(wires[k]) for k in (*order, len(layers))),
            tuple(replace(start, layer=place[start.layer]) for start in initial if start.layer in needed))
