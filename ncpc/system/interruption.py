"""Ctrl-C that is not lost: what swallows KeyboardInterrupt (extensions do, while they are imported) only delays it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_seen = threading.Event()


@contextmanager
def watched() -> Iterator[None]:
    """Remembers each SIGINT of the block, which is raised as KeyboardInterrupt as ever. For the main thread only."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    _seen.clear()
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    _seen.set()
    raise KeyboardInterrupt


def seen() -> bool:
    """Whether there was a SIGINT, whatever became of its KeyboardInterrupt."""
    return _seen.is_set()


def check() -> None:
    """Raises the KeyboardInterrupt that somebody has swallowed."""
    if seen():
        raise KeyboardInterrupt
