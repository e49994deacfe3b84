"""Code of the user's that is run because it was named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 300
"""Characters of what somebody else's exception says."""


@contextmanager
def folder_on_path() -> Iterator[None]:
    """A console script does not see the folder it was started in; the user's own code is usually there."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def one_line(error: BaseException) -> str:
    """The kind of an exception and what it says, in one line; what is longer than ``LONGEST`` ends behind a word."""
    text = " ".join(str(error).split())
    if len(text) > LONGEST:
        text = f"{text[:LONGEST].rpartition(' ')[0] or text[:LONGEST]} ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
