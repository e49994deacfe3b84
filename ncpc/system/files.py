"""Files that are either there whole or not there at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from ncpc.errors import BadInput, reason
from ncpc.system import places

PROBE = 1 << 20
"""Bytes by which ``require_room`` finds out whether there is room."""


def is_file(path: str | Path) -> bool:
    """Whether a file is there; False for what can be no path, such as a name that is too long."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def write(path: Path, data: bytes) -> None:
    """``path.write_bytes(data)``, whose OSError names the path always: the system does so only where opening fails,
    and leaves it out where the disk is full.
    """
    try:
        path.write_bytes(data)
    except OSError as error:
        error.filename = str(path)
        raise


def require_room(folder: Path) -> None:
    """Raises OSError, with the folder's name, where a MiB more cannot be written to it: what a tool was missing that
    failed there without a clear word.
    """
    probe = places.neighbour(folder / "room", "tmp")
    try:
        write(probe, bytes(PROBE))
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        _discard(probe)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write ``data`` to a temporary neighbour of ``path``, then rename it into place; a link stays one.

    Raises ``BadInput`` when the folder is missing or cannot be written, or what stands there is no file (a folder, a
    device); nothing is left behind then.
    """
    write_all_atomically({path: data})


def require_writable(path: str | Path) -> None:
    """Raises ``BadInput`` where ``write_atomically`` would: for what takes long before it writes."""
    target = _target(path)
    probe = places.neighbour(target, "tmp")
    try:
        probe.write_bytes(b"")
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({reason(error)}); give a path in a writable folder") from None
    finally:
        _discard(probe)


def write_all_atomically(files: Mapping[str | Path, bytes]) -> None:
    """The same for several files: the first is put into place when all of them are written."""
    ready: dict[Path, Path] = {}
    path: str | Path = ""
    try:
        for path, data in files.items():
            target = _target(path)
            places.sweep(target)
            ready[target] = places.neighbour(target, "tmp")
            ready[target].write_bytes(data)
        for target, temporary in ready.items():
            os.replace(temporary, target)
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({reason(error)}); give a path in a writable folder") from None
    finally:
        for temporary in ready.values():
            _discard(temporary)


def _target(path: str | Path) -> Path:
    try:
        target = Path(os.path.realpath(path))
        wrong = target.exists() and not target.is_file()
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(path)!r}: cannot be written ({reason(error)}); give another path") from None
    if wrong or not target.name:
        raise BadInput(f"{path}: exists and is no file; give another path")
    return target


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # nothing was made if the folder itself is missing or closed to us
        path.unlink(missing_ok=True)
