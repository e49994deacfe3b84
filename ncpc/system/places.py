"""A folder takes the place of another in one step: a process may be killed at any moment, and one of them is there.

Linux exchanges two names at once (``renameat2`` with RENAME_EXCHANGE, since 3.15). Where that cannot be had the old
folder steps aside under a name that ``sweep`` knows; it goes back if the process died before the new one was in place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_AT_FDCWD, _EXCHANGE = -100, 2
_NOT_HAD = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)
"""What renameat2 says where the kernel, the file system or a sandbox does not have it."""
_RETRIES = 100
_COUNT = itertools.count()


def neighbour(place: Path, kind: str) -> Path:
    """A name beside ``place`` that no other process or thread takes, and that ``sweep`` knows; ``tmp`` or ``old``."""
    return place.with_name(f".{place.name}.{os.getpid()}.{next(_COUNT)}.{kind}")


@contextlib.contextmanager
def stage(place: Path) -> Iterator[Path]:
    """A new folder beside ``place``, gone after the block; its lock tells others that its process lives."""
    folder = neighbour(place, "tmp")
    folder.mkdir()
    lock = _locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no other process is in such a block for ``folder``; others are kept out until it ends."""
    lock = _locked(folder)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def take_place(stage: Path, place: Path) -> None:
    """``stage`` becomes ``place``; a folder that stood there is gone afterwards. Other processes may do the same.

    Raises OSError; ``stage`` and what stood there are then as before.
    """
    for _ in range(_RETRIES):
        if _renamed(stage, place) or _replaced(stage, place):
            return
    raise OSError(errno.EBUSY, "other processes keep replacing it", str(place))


def _renamed(stage: Path, place: Path) -> bool:
    """Rename onto nothing or an empty folder; False where there is more."""
    try:
        stage.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _replaced(stage: Path, place: Path) -> bool:
    """The folder at ``place`` goes, ``stage`` takes its place; False where another process was faster."""
    try:
        if _exchange(stage, place):
            shutil.rmtree(stage, ignore_errors=True)
            return True
        old = neighbour(place, "old")
        place.rename(old)
    except FileNotFoundError:
        return False
    try:
        done = _renamed(stage, place)
    except OSError:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return done


def _exchange(one: Path, other: Path) -> bool:
    """Swap two names at once; False where that cannot be had."""
    try:
        rename: Any = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0:
        return True
    error = ctypes.get_errno()
    if error in _NOT_HAD:
        return False
    raise OSError(error, os.strerror(error), str(one), None, str(other))


def sweep(place: Path) -> None:
    """Takes away what killed processes left beside ``place``; a folder they had moved aside goes back if none is there.

    Only what no living process holds: by its process number, and by the lock on it where processes do not see each
    other (containers that share a folder). In a container every process may have the number of the killed one.
    """
    pattern = re.compile(rf"\.{re.escape(place.name)}\.(\d+)\.(?:\d+\.)?(tmp|old)")
    with contextlib.suppress(OSError):
        for path in sorted(place.parent.iterdir()):
            found = pattern.fullmatch(path.name)
            if found and not _others(int(found[1])) and _unlocked(path):
                _take_away(path, place, aside=found[2] == "old")


def _take_away(path: Path, place: Path, aside: bool) -> None:
    with contextlib.suppress(OSError):
        if aside and not place.exists():
            path.rename(place)
        elif path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _others(process: int) -> bool:
    """Whether it is the number of another process that lives."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _unlocked(path: Path) -> bool:
    lock = _locked(path)
    if lock is None:
        return False
    os.close(lock)
    return True


def _locked(path: Path) -> int | None:
    """A descriptor of ``path`` that holds the lock on it; None where another process has it."""
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
