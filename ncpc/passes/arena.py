"""Where the large arrays of a step lie: in the instance, those that do not live at the same time in the same bytes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ncpc.ir.loops import Buffer, Nest, Stream, Times, Window, storages
from ncpc.ir.types import Axis, Fixed, Type

ALIGN = 4
LARGE = 64
"""Elements of an array that is too large for the stack."""


@dataclass(frozen=True)
class Slot:
    """A buffer and its first byte in the arena."""

    buffer: Buffer
    offset: int

    @property
    def end(self) -> int:
        return self.offset + size_of(self.buffer)


def in_arena(nest: Nest) -> Nest:
    """Where windows slide over frames: the nest with its large local arrays in the arena instead of on the stack.

    Arrays that are exchanged between passes of a repeat stay where they are.
    """
    windows = [node for node in nest.body if isinstance(node, Window | Stream)]
    if not windows:
        return nest
    touched = {name for node in windows for name in storages(node)}
    faces = {name for node in nest.body if isinstance(node, Times) for p in node.pairs for name in (p.first, p.second)}
    moved = tuple(
        dataclasses.replace(b, place="arena")
        if b.place == "local" and (b.name in touched or (_count(b.axes) >= LARGE and b.name not in faces)) else b
        for b in nest.buffers
    )
    return dataclasses.replace(nest, buffers=moved)


def slots_of(nest: Nest) -> tuple[Slot, ...]:
    """Offsets: the largest first, each at the lowest place that no other array takes during its life."""
    lives = {b.name: _life(nest, b.name) for b in nest.buffers if b.place == "arena"}
    placed: list[Slot] = []
    for buffer in sorted((b for b in nest.buffers if b.name in lives), key=lambda b: (-size_of(b), b.name)):
        rivals = [s for s in placed if _meet(lives[s.buffer.name], lives[buffer.name])]
        placed.append(Slot(buffer, _lowest(buffer, rivals)))
    order = {b.name: i for i, b in enumerate(nest.buffers)}
    return tuple(sorted(placed, key=lambda s: order[s.buffer.name]))


def _lowest(buffer: Buffer, rivals: list[Slot]) -> int:
    at = 0
    for slot in sorted(rivals, key=lambda s: s.offset):
        if at + size_of(buffer) <= slot.offset:
            break
        at = max(at, slot.end)
    return at


def _life(nest: Nest, name: str) -> tuple[int, int]:
    """The first and the last statement that touch it."""
    found = [i for i, node in enumerate(nest.body) if name in storages(node)]
    return (found[0], found[-1]) if found else (0, len(nest.body))


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]


def size_of(buffer: Buffer) -> int:
    """Bytes, rounded up so that what follows is aligned."""
    raw = _count(buffer.axes) * _bytes(buffer.type)
    return raw + -raw % ALIGN


def _count(axes: tuple[Axis, ...]) -> int:
    total = 1
    for axis in axes:
        total *= axis.size
    return total


def _bytes(type_: Type) -> int:
    return -(-type_.bits // 8) if isinstance(type_, Fixed) else 4


def arena_bytes(slots: tuple[Slot, ...]) -> int:
    """The whole arena."""
    return max((slot.end for slot in slots), default=0)
