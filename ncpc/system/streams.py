"""Standard streams as they are found: closed, full, of any encoding. How something is said never changes what is done.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ncpc.errors import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, reason

PLAIN = {"✓": "+", "✗": "x", "≤": "<=", "→": "->", "…": "..."}
"""What stands for the signs that ncpc prints where an encoding has none of them."""
OUTPUT = "standard output"
PLAINLY = "ncpc.plain"
"""Name of the codecs' error handler that writes so."""


class NamedStream(io.TextIOWrapper):
    """A stream whose OSError names it: the system does not, and what calls may be deep in the writing of a build."""

    def write(self, text: str, /) -> int:
        with _named():
            return super().write(text)

    def flush(self) -> None:
        with _named():
            super().flush()


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = OUTPUT
        raise


def prepare() -> None:
    """Make standard streams usable: a closed one leads nowhere, and no character is one too many for any of them.

    A closed descriptor is taken here, or the next file to be opened would get its number and a child's output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(number))
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        setattr(sys, name, NamedStream(old.detach(), old.encoding, PLAINLY, line_buffering=old.line_buffering))
    warnings.showwarning = _told


def flushed(code: int) -> int:
    """``code`` once everything is printed; 141 where no one reads it any more, 2 where it cannot be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter tries again as it ends
        if isinstance(error, BrokenPipeError):
            return EXIT_BROKEN_PIPE
        say(f"ncpc: {OUTPUT}: cannot be written ({reason(error)})")
        return EXIT_BAD_INPUT
    return code


def say(line: str) -> None:
    """One line on standard error, or nothing where that cannot be written."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def _nowhere(number: int) -> io.TextIOWrapper:
    descriptor = os.open(os.devnull, os.O_RDWR)
    if descriptor != number:
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.set_inheritable(number, True)
    return open(number, "w" if number else "r", encoding="utf-8", closefd=False)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or ascii(c)[1:-1] for c in text), error.end


codecs.register_error(PLAINLY, _plainly)


def _told(message: Warning | str, *_: object, **__: object) -> None:
    say(f"ncpc: warning: {' '.join(str(message).split())}")
