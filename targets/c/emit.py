"""Program -> NAME.c and NAME.h: the product, alone and deterministic."""

from __future__ import annotations

from ncpc.ir.program import Program
from ncpc.targets.c.header import header
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.nest import nest_of
from ncpc.targets.c.source import source
from ncpc.targets.c.vectors import vectors_of


def emit_c(program: Program) -> dict[str, bytes]:
    """File name -> text, for a program in binary32 or integers. Raises Unsupported for what C cannot hold."""
    face = interface_of(program)
    text = source(nest_of(program), face, vectors_of(program))
    return {f"{face.name}.c": text.encode(), f"{face.name}.h": header(face).encode()}
