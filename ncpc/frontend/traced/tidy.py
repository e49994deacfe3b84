"""Layers without what nothing reads, and fewer of the same meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ncpc.frontend.heads import merged
from ncpc.ir.heads import History
from ncpc.ir.policy import INPUT, InitialState, Layer, Tap, Taps


def tidied(layers: Sequence[Layer], wires: Sequence[Taps], initial: Sequence[InitialState]
           ) -> tuple[tuple[Layer, ...], tuple[Taps, ...], tuple[InitialState, ...]]:
    """The layers that the outputs depend on; a layer and its only reader are one where ``merged`` makes them one."""
    kept, taps = list(layers), list(wires)
    for k, layer in enumerate(kept):
        if isinstance(layer, History):
            kept[k], taps = _shortened(layer, k, taps)
    for k in range(1, len(kept)):
        while (before := _only(taps, kept, k)) is not None and len(fewer := merged([kept[before], kept[k]])) == 1:
            kept[k], taps[k], taps[before] = fewer[0], taps[before], ()
    return _without(kept, taps, initial)


def _shortened(layer: History, position: int, wires: list[Taps]) -> tuple[History, list[Taps]]:
    """The history with those delays alone that are read, and wires that read them there."""
    width = layer.width
    read = {row for taps in wires for tap in taps if tap.source == position
            for row in range(tap.start // width, (tap.stop - 1) // width + 1)}
    rows = sorted(read | {max((row for row in read if layer.delays[row]), default=0)})
    place = {row: k for k, row in enumerate(rows)}

    def moved(tap: Tap) -> Tap:
        if tap.source != position:
            return tap
        by = (place[tap.start // width] - tap.start // width) * width
        return Tap(position, tap.start + by, tap.stop + by)

    return replace(layer, delays=layer.delays[rows]), [_joined(map(moved, taps)) for taps in wires]


def _joined(taps: Iterable[Tap]) -> Taps:
    """The same channels, those that follow each other by one tap."""
    found: list[Tap] = []
    for tap in taps:
        if found and (found[-1].source, found[-1].stop) == (tap.source, tap.start):
            tap = replace(found.pop(), stop=tap.stop)
        found.append(tap)
    return tuple(found)


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
