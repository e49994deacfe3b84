"""What no one foresaw: an error of ncpc's own, as one line and a file that says how to see it again."""

from __future__ import annotations

import errno
import platform
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ncpc.errors import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_INTERNAL, reason

NAME = "ncpc-crash.txt"
MACHINES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE})
"""What the machine lacks, wherever that shows: room on a disk, or files that may be open at once."""


def unforeseen(arguments: Sequence[str], error: BaseException) -> tuple[str, int]:
    """One line, or nothing, and the exit code for an error that nothing else caught."""
    if isinstance(error, SystemExit):  # click and rich leave so when standard output is a pipe that no one reads
        return "", EXIT_BROKEN_PIPE
    if isinstance(error, MemoryError):
        why = f" ({error})" if str(error) else ""
        return f"not enough memory{why}; give less data, or a smaller network", EXIT_BAD_INPUT
    if isinstance(error, OSError) and error.errno in MACHINES:
        where = error.filename or f"temporary files in {tempfile.gettempdir()}, or standard output"
        return f"{where}: cannot be written ({reason(error)}); make room, or use another place", EXIT_BAD_INPUT
    return crashed(arguments, error), EXIT_INTERNAL


def crashed(arguments: Sequence[str], error: BaseException) -> str:
    """One line on an error that nothing else caught. Versions, arguments and traceback go to NAME in the current
    folder, or in the one for temporary files where that cannot be written; the line names it.
    """
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    text = "\n".join([_versions(), f"arguments: {list(arguments)!r}", "", *traceback.format_exception(error)])
    for folder in (Path.cwd, lambda: Path(tempfile.gettempdir())):
        with suppress(OSError):
            path = folder() / NAME
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return f"internal error, {what}; please report it with {path}, which holds the details"
    return f"internal error, {what}; no folder could be written for the details"


def _versions() -> str:
    try:
        own = version("ncpc")
    except PackageNotFoundError:
        own = "uninstalled"
    return f"ncpc {own}, Python {sys.version.split()[0]}, {platform.platform()}"
