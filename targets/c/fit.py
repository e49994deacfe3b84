"""Does a step fit a core? Told from the program, before anything is built, where its arrays alone are too large."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import numpy as np

from ncpc.cores import Core, Region
from ncpc.cores.boards import PAGE, Board, roomier
from ncpc.cores.boards.clock import board_of
from ncpc.errors import BadInput, ProofFailed
from ncpc.ir.program import Program
from ncpc.ir.types import Fixed, Index, Type
from ncpc.targets.c.interface import Interface
from ncpc.targets.c.numbers import NIBBLE, halves_byte

AUTO = "auto"
MEMORIES = ("flash", "ram")
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}
SPARE = 1 << 16
"""Bytes beyond twice a memory: both are whole pages, so that a region behind another one begins at a page."""


def with_memories(core: Core, sizes: Mapping[str, str]) -> Core:
    """The core in a chip of other memories, or in that of a board. Raises ``BadInput`` for what is no size, or memories
    that would overlap.
    """
    board = board_of(sizes)
    if board is not None:
        core = dataclasses.replace(core, flash=Region(core.flash.origin, board.flash_bytes),
                                   ram=Region(core.ram.origin, board.ram_bytes))
    chip = dataclasses.replace(core, flash=_region(core.flash, "flash", sizes), ram=_region(core.ram, "ram", sizes))
    low, high = sorted((chip.flash, chip.ram), key=lambda region: region.origin)
    if low.end > high.origin:
        raise BadInput(f"{core.name}: {low.size:,} bytes from 0x{low.origin:08x} on reach into the other memory at "
                       f"0x{high.origin:08x}; ask for {high.origin - low.origin:,} at most")
    return chip


def require_memory(core: Core, name: str, text: str) -> None:
    """Raises ``BadInput`` for the size ``text`` of one memory, as ``with_memories`` does."""
    with_memories(core, {name: text})


def roomy(chip: Core) -> Core:
    """The chip with memories that also hold the self test and what it needs, which deployed code may leave out."""
    flash, ram = (dataclasses.replace(region, size=2 * region.size + SPARE) for region in (chip.flash, chip.ram))
    if ram.origin > flash.origin:
        ram = dataclasses.replace(ram, origin=max(ram.origin, flash.end))
    return dataclasses.replace(chip, flash=flash, ram=ram)


def _region(own: Region, name: str, sizes: Mapping[str, str]) -> Region:
    text = sizes.get(name, AUTO)
    return own if text == AUTO else Region(own.origin, _size(name, text))


def _size(name: str, text: str) -> int:
    found = re.fullmatch(r"(\d+)([kM]?)", text)
    size = int(found[1]) * UNITS[found[2].lower()] if found else 0
    if not size or size % PAGE:
        raise BadInput(f"--{name} {text}: give a multiple of {PAGE} bytes, such as 256k or 2M")
    return size


def require_fit(face: Interface, core: Core, board: Board | None = None) -> None:
    """Raises ``ProofFailed`` with the numbers when the arrays of a step exceed the core's RAM or the weights its flash.

    In RAM are the instance and the arrays that its caller passes.
    """
    program = face.program
    passed = face.inputs * face.x.bytes + face.outputs * face.y.bytes
    needs = {"RAM": (face.struct_bytes() + passed, core.ram.size), "flash": (_weights(program), core.flash.size)}
    for what, (used, has) in needs.items():
        if used > has:
            parts = f" ({face.arena_bytes():,} of them working memory of one step, {passed:,} inputs and outputs)"
            name, own = (core.name, f"give the chip's own size (--{what.lower()})") if board is None else (
                board.name, roomier(needs["flash"][0], needs["RAM"][0]))
            raise ProofFailed(f"{program.name} needs at least {used:,} bytes of {what}"
                              f"{parts if what == 'RAM' and face.arena else ''}, {name} has {has:,}; {own}, compile "
                              "it for 'c', or train smaller layers")


def _weights(program: Program) -> int:
    """Bytes of the constants at the width of their types, index maps left out."""
    kept = [(value.type, data) for value, data in program.constants.values() if not isinstance(value.type, Index)]
    return sum(_bits(kind) * int(np.size(data)) for kind, data in kept if np.ndim(data) == 2) // 8


def _bits(kind: Type) -> int:
    """What a number takes: whole bytes, or half of one."""
    if not isinstance(kind, Fixed):
        return 32
    return NIBBLE if halves_byte(kind) else kind.bits + -kind.bits % 8
