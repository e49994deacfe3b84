"""What generated object files may call: structure copies and, in float builds without an FPU, soft float."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from ncpc.errors import MissingTool

COPIES = re.compile(r"(mem(cpy|move|set)|__aeabi_mem(cpy|move|set|clr)[48]?)$")
"""Structure copies, which a freestanding compiler may always call; ``runtime/memory.c`` has them."""

SHIFTS_AND_PRODUCTS = re.compile(r"(__aeabi_(lmul|llsl|llsr|lasr)|__(mul|ashl|lshr|ashr)di3|__mulsi3|__clzsi2)$")
"""64-bit shifts and products, and counting zeros, on cores without the instructions: bounded, no divide."""

SOFT_FLOAT = re.compile(
    r"(__aeabi_(f(add|sub|rsub|mul|div|cmp\w+|2iz|2uiz|2d)|cf\w+|i2f|ui2f)"
    r"|__(add|sub|mul|div|neg|eq|ne|lt|le|gt|ge|unord)sf[23]|__fix(uns)?sfsi|__float(un)?sisf)$"
)
"""Single-precision arithmetic by the compiler's own library."""

LINKER = re.compile(r"(__aeabi_unwind_cpp_pr[012]|__gnu_thumb1_case_\w+)$")
"""References the Arm compilers add by themselves: unwinding personality, compressed switch tables."""


def check_symbols(objects: Mapping[str, bytes], allow_soft_float: bool = False) -> list[str]:
    """Symbols the objects (name -> object file) need from outside and may not: sorted, empty if all is well.

    Everything undefined is refused unless it is one of the few families above; so malloc, stdio, libm, and every
    library divide (``__aeabi_idiv``, ``__udivsi3``, ``__aeabi_ldivmod``, ``__divdi3``, ...) are. Soft float counts as
    allowed only with ``allow_soft_float``.
    """
    allowed = [COPIES, SHIFTS_AND_PRODUCTS, LINKER, *([SOFT_FLOAT] if allow_soft_float else [])]
    return [name for name in undefined_symbols(objects) if not any(family.match(name) for family in allowed)]


def undefined_symbols(objects: Mapping[str, bytes]) -> list[str]:
    """Sorted names that some object refers to and none defines."""
    needed: set[str] = set()
    defined: set[str] = set()
    for data in objects.values():
        for name, is_defined in _global_symbols(data):
            (defined if is_defined else needed).add(name)
    return sorted(needed - defined)


def _global_symbols(data: bytes) -> list[tuple[str, bool]]:
    try:
        from elftools.elf.elffile import ELFFile
        from elftools.elf.sections import SymbolTableSection
    except ImportError:
        raise MissingTool("reading object files needs pyelftools: pip install 'ncpc[c]'") from None
    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    symbols = list(table.iter_symbols()) if isinstance(table, SymbolTableSection) else []
    return [
        (s.name, s["st_shndx"] != "SHN_UNDEF")
        for s in symbols
        if s.name and s["st_info"]["bind"] in ("STB_GLOBAL", "STB_WEAK")
    ]
