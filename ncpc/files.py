"""Files that are either there whole or not there at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ncpc.errors import BadInput


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write ``data`` to a temporary neighbour of ``path``, then rename it into place.

    Raises ``BadInput`` when the folder is missing or cannot be written; nothing is left behind then.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, target)
    except OSError as error:
        _discard(temporary)
        raise BadInput(f"{target}: cannot be written ({error.strerror}); give a path in a writable folder") from None
    except BaseException:
        _discard(temporary)
        raise


def _discard(path: Path) -> None:
    with contextlib.suppress(OSError):  # nothing was made if the folder itself is missing or closed to us
        path.unlink(missing_ok=True)
