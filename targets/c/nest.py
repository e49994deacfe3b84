"""The loop nest that is written as C."""

from __future__ import annotations

from ncpc.ir.loops import Nest
from ncpc.ir.program import Program
from ncpc.passes.arena import in_arena
from ncpc.passes.fold import fold_constants
from ncpc.passes.fuse import fuse
from ncpc.passes.stream import streamed


def nest_of(program: Program) -> Nest:
    """The loop nest of a program: what follows from constants is computed beforehand, frames are streamed."""
    return in_arena(streamed(fuse(fold_constants(program))))
