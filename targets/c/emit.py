"""Interface -> NAME.c and NAME.h: the product, alone and deterministic."""

from __future__ import annotations

from ncpc.targets.c.header import PLAIN, HeaderFacts, header
from ncpc.targets.c.interface import Interface
from ncpc.targets.c.source import source
from ncpc.targets.c.vectors import vectors_of


def emit_c(
    face: Interface, facts: HeaderFacts = PLAIN, fpu: bool = False, long_products: bool = True
) -> dict[str, bytes]:
    """File name -> text, for a program in binary32 or integers; the header tells the ``facts``.

    ``fpu``: floats refuse to be compiled for a microcontroller without an FPU, or with another calling convention.
    Without ``long_products`` no product has 64 bits: for cores that have no instruction for one.
    Raises Unsupported for what C cannot hold.
    """
    text = source(face, vectors_of(face.program), fpu, long_products)
    return {f"{face.name}.c": text.encode(), f"{face.name}.h": header(face, facts).encode()}
