"""How generated text is laid out: lines of at most 118 characters, comments that end where they should."""

from __future__ import annotations

import re

WIDTH = 118
INDENT = "    "


def wrapped(line: str) -> list[str]:
    """A statement or prototype on as many lines as it needs, broken after a comma or before an operator."""
    lines = [line]
    while len(lines[-1]) > WIDTH:
        text = lines[-1]
        indent = len(text) - len(text.lstrip())
        breaks = [m.start() + 1 for m in re.finditer(r"(?<=,) | (?=[-+*/^|&]|>>)", text) if indent < m.start() < WIDTH]
        if not breaks:
            break
        more = INDENT * (2 if len(lines) == 1 else 0)
        lines[-1:] = [text[: breaks[-1]].rstrip(), f"{' ' * indent}{more}{text[breaks[-1] :].lstrip()}"]
    return lines


def comment(text: str) -> str:
    """A name as part of a block comment: nothing in it ends the comment, the line or means something to C."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").replace("\\", "/")
