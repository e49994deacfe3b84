"""C identifiers: the names of a program's values, kept as they are where C allows it."""

from __future__ import annotations

import re
from collections.abc import Iterable

CPP = """
    alignas alignof and and_eq bitand bitor catch char16_t char32_t compl const_cast constexpr decltype dynamic_cast
    explicit export friend mutable namespace noexcept not not_eq nullptr or or_eq reinterpret_cast static_assert
    static_cast thread_local throw try typeid using virtual wchar_t xor xor_eq linux unix
"""
"""More words of C++, whose compilers read the header too; and two macros that gcc has on a PC."""
KEYWORDS = frozenset(
    [
        *CPP.split(),
        "auto",
        "break",
        "case",
        "char",
        "const",
        "continue",
        "default",
        "do",
        "double",
        "else",
        "enum",
        "extern",
        "float",
        "for",
        "goto",
        "if",
        "inline",
        "int",
        "long",
        "register",
        "restrict",
        "return",
        "short",
        "signed",
        "sizeof",
        "static",
        "struct",
        "switch",
        "typedef",
        "union",
        "unsigned",
        "void",
        "volatile",
        "while",
        "asm",
        "bool",
        "true",
        "false",
        "class",
        "new",
        "delete",
        "this",
        "template",
        "typename",
        "operator",
        "private",
        "public",
        "protected",
    ]
)
TAKEN = frozenset(
    [
        "s",
        "x",
        "y",
        "dt",
        "status",
        "abs",
        "div",
        "exp",
        "tanh",
        "sin",
        "cos",
        "log",
        "pow",
        "sqrt",
        "floor",
        "index",
        "remainder",
        "signbit",
        "main",
    ]
)
"""The step function's parameters, and functions that compilers know."""


def identifier(text: str) -> str:
    """``text`` as a C identifier: other characters become ``_``."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII) or "_"
    return f"_{name}" if name[0].isdigit() else name


class Names:
    """Unique identifiers of one C file: the first to ask for a name gets it, the others a longer one. Nobody gets
    one of ``taken``.
    """

    def __init__(self, reserved: Iterable[str] = (), taken: Iterable[str] = TAKEN) -> None:
        self._taken: set[str] = {*KEYWORDS, *taken, *reserved}
        self._given: dict[str, str] = {}

    def fix(self, key: str, name: str) -> None:
        """``key`` is called ``name``, a name that is taken already: a parameter."""
        self._given[key] = name

    def __setitem__(self, key: str, name: str) -> None:
        self._given[key] = name

    def __getitem__(self, key: str) -> str:
        if key not in self._given:
            kind, _, name = key.rpartition(":")
            self._given[key] = self.fresh(f"{name}_{kind}" if kind else name)
        return self._given[key]

    def fresh(self, wanted: str) -> str:
        """A name nobody has, close to ``wanted``."""
        base = identifier(wanted)
        name, n = base, 1
        while name in self._taken:
            n += 1
            name = f"{base}_value" if n == 2 else f"{base}_value{n}"
        self._taken.add(name)
        return name
