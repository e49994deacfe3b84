"""Code of the user's that is run because it was named."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
    """The kind of an exception and what it says, in one line of at most 300 characters."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
