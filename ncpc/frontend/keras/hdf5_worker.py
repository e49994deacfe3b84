"""Reads an HDF5 file in a process of its own: libhdf5 loops for ever over some damaged files, and falls over others."""

from __future__ import annotations

import io
import resource
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput

MOST_BYTES = 3 << 30
"""Of memory, beyond what the process has when it begins."""
MOST_VALUES = 1 << 26
"""Of one array; far more than any weights that ncpc compiles."""
PACKED = 1032
"""Times that deflate packs at best: an array that claims to hold more than its file does is none."""

Found = tuple[dict[str, Any], dict[str, Any]]


def commands(alive: Callable[[], None]) -> dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Found]]:
    """``read``: every group (path -> its attributes that are texts) and array of the file ``path``, or of the one whose
    bytes are ``file``.
    """
    _limit_memory()

    def read(head: Mapping[str, Any], arrays: Mapping[str, Any]) -> Found:
        import h5py

        source = io.BytesIO(arrays["file"].tobytes()) if "file" in arrays else head["path"]
        with h5py.File(source, "r") as file:
            outside = file.visititems_links(_outside)
            if outside is not None:  # opening what it leads to may take for ever
                raise BadInput(f"'{outside}' lies in another file")
            items: dict[str, Any] = {"": file}
            file.visititems(items.__setitem__)
            groups = {name: _texts(item) for name, item in items.items() if isinstance(item, h5py.Group)}
            found = {}
            for name, item in items.items():
                alive()
                if isinstance(item, h5py.Dataset):
                    found[name] = _values(name, item)
            return {"groups": groups}, found

    return {"read": read}


def _limit_memory() -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    with suppress(OSError):  # of Linux alone
        begin = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        limit = begin + MOST_BYTES if hard == resource.RLIM_INFINITY else min(hard, begin + MOST_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _outside(name: str, link: Any) -> str | None:
    """The name of a link that leads out of the file; None goes on to the next."""
    return name if type(link).__name__ == "ExternalLink" else None


def _texts(item: Any) -> dict[str, Any]:
    """Attributes that are a text or a list of texts."""
    return {str(name): text for name, value in item.attrs.items() if (text := _text(value)) is not None}


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray) and value.ndim == 1:
        found = [_text(element) for element in value]
        return None if None in found else found
    return str(value) if isinstance(value, str) else None


def _values(name: str, dataset: Any) -> Any:
    """Numbers as float64; no values for what is none. Raises BadInput for more than a network has or the file holds."""
    if dataset.external or dataset.is_virtual:
        raise BadInput(f"'{name}' lies in another file")
    stored = dataset.id.get_storage_size()
    if dataset.shape is None or dataset.dtype.kind not in "fiub":
        return np.zeros(0)
    if dataset.size > MOST_VALUES or dataset.nbytes > PACKED * stored:
        raise BadInput(f"'{name}' claims to hold {dataset.size:,} values in {stored:,} bytes")
    return np.asarray(dataset, np.float64)
