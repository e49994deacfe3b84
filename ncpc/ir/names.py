"""What may be a name: of a policy, its inputs, outputs and neurons. All reach C, JSON, HTML and the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ncpc.ir.problems import Problems

MOST = 100
"""Characters; a file system takes 255, and endings are added."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TYPES = re.compile(r"u?int((_least|_fast)?\d+|max|ptr)|s?size|ptrdiff|wchar|wint|char\d+|max_align|l?l?div")
"""With _t behind it, a type of the C library, as NAME_t is the policy's own."""
_HEADERS = frozenset((
    "assert", "complex", "ctype", "errno", "fenv", "float", "inttypes", "iso646", "limits", "locale", "math",
    "setjmp", "signal", "stdalign", "stdarg", "stdatomic", "stdbool", "stddef", "stdint", "stdio", "stdlib",
    "stdnoreturn", "string", "tgmath", "threads", "time", "uchar", "wchar", "wctype",
))
"""NAME.h would be taken for the C library's."""
_DEVICES = re.compile(r"con|prn|aux|nul|com\d|lpt\d", re.IGNORECASE)
"""No files can be called so on Windows."""


def identifiers(names: Sequence[str], count: int, what: str) -> Problems:
    """``count`` different names of letters, digits and _."""
    if len(names) != count:
        yield f"{what}: {len(names)} given, expected {count}"
    for name in names:
        if not _IDENTIFIER.match(name):
            yield f"{what}: {_shown(name)} is not an identifier (letters, digits and _, no digit first)"
        if len(name) > MOST:
            yield f"{what}: {_shown(name)} has {len(name):,} characters, more than {MOST}"
    if len(set(names)) != len(names):
        yield f"{what}: {next(n for n in names if list(names).count(n) > 1)!r} is given twice"


def policy_name(name: str) -> Problems:
    """An identifier that makes file and C names of its own: NAME.c, NAME.h, NAME_t, NAME_step."""
    yield from identifiers([name], 1, "policy name")
    for taken, why in ((_TYPES.fullmatch(name), f"{name}_t is a type"), (name in _HEADERS, f"{name}.h is a header")):
        if taken:
            yield f"policy name: {name!r} is taken, {why} of the C library; give another with name="
    if _DEVICES.fullmatch(name):
        yield f"policy name: {name!r} is a device on Windows, where no file can be called so; give another with name="


def _shown(name: str) -> str:
    return ascii(name if len(name) <= MOST else f"{name[:MOST]}...")
