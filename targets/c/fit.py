"""Does a step fit a core? Told from the program, before anything is built, where its arrays alone are too large."""

from __future__ import annotations

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.program import Program
from ncpc.ir.types import Fixed, Index, Type
from ncpc.targets.c.cores import Core
from ncpc.targets.c.interface import interface_of


def require_fit(program: Program, core: Core) -> None:
    """Raises ``ProofFailed`` with the numbers when the instance exceeds the core's RAM or the weights its flash."""
    face = interface_of(program)
    needs = {"RAM": (face.struct_bytes(), core.ram.size), "flash": (_weights(program), core.flash.size)}
    for what, (used, has) in needs.items():
        if used > has:
            of = f" ({face.arena_bytes():,} of them working memory of one step)" if what == "RAM" and face.arena else ""
            raise ProofFailed(f"{program.name} needs at least {used:,} bytes of {what}{of}, {core.name} has {has:,}; "
                              "compile it for a larger core or for 'c', or train smaller layers")


def _weights(program: Program) -> int:
    """Bytes of the constants at the width of their types, index maps left out."""
    kept = [(value.type, data) for value, data in program.constants.values() if not isinstance(value.type, Index)]
    return sum(_bytes(kind) * int(np.size(data)) for kind, data in kept if np.ndim(data) == 2)


def _bytes(kind: Type) -> int:
    return -(-kind.bits // 8) if isinstance(kind, Fixed) else 4
