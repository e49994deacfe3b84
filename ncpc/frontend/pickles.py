"""Whether the pickles of a torch checkpoint are what torch writes, seen without running them.

Of a file that names something it does not know, torch looks through its own message by a regular expression, which
takes a time that grows with the square of the name: hours for a name of some megabytes, which damage makes easily.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ZIP = b"PK\x03\x04"
OLD = 5
"""Pickles one behind the other in a file of torch before 1.6: magic number, protocol, system, content, storages' keys.
"""
MOST_BYTES = 1 << 24
"""Of a pickle in a zip file; tensors lie beside it."""
LONGEST_NAME = 1000
NAMES = ("GLOBAL", "INST")
BROKEN = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, OSError, OverflowError, RuntimeError, MemoryError)
"""What pickletools and zipfile raise over damaged files; of an encrypted one RuntimeError, of a seek to -1 OSError, of
a length of some gigabytes MemoryError.
"""


def readable(path: Path) -> bool:
    """Whether every pickle that torch will read comes to its end, and names nothing at length."""
    with path.open("rb") as file:
        try:
            return all(map(_short, _pickles(file)))
        except BROKEN:
            return False


def _pickles(file: IO[bytes]) -> Iterator[IO[bytes]]:
    begin = file.read(len(ZIP))
    file.seek(0)
    if begin != ZIP:
        yield from (file for _ in range(OLD))
        return
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.filename.endswith("/data.pkl"):
                with archive.open(entry) as member:
                    yield io.BytesIO(member.read(MOST_BYTES))


def _short(pickle: IO[bytes]) -> bool:
    """Reads one pickle to its end. Raises ValueError where it has none."""
    named = (str(argument) for op, argument, _ in pickletools.genops(pickle) if op.name in NAMES)
    return all(len(name) <= LONGEST_NAME for name in named)
