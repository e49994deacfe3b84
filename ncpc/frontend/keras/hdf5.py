"""What an HDF5 file holds, read in a worker process: groups, arrays, and attributes that are texts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput, MissingTool, ProofFailed
from ncpc.frontend.keras.model import F64
from ncpc.worker.process import Service, borrowed

SERVICE = Service(str(Path(__file__).with_name("hdf5_worker.py")), patience=10.0)


@dataclass(frozen=True)
class Hdf5Group:
    """A group: members by name, each a group or an array (float64), and attributes. ``group["a/b"]`` is a path."""

    attrs: Mapping[str, Any] = field(default_factory=dict)
    members: dict[str, Hdf5Group | F64] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Any:
        """Raises KeyError."""
        found: Hdf5Group | F64 = self
        for name in path.strip("/").split("/"):
            if not isinstance(found, Hdf5Group) or name not in found.members:
                raise KeyError(path)
            found = found.members[name]
        return found

    def array(self, path: str) -> F64:
        """Raises KeyError where there is none."""
        found = self[path]
        if isinstance(found, Hdf5Group):
            raise KeyError(path)
        return np.asarray(found)

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def __iter__(self) -> Iterator[str]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def get(self, name: str, other: Any) -> Any:
        """A member, or ``other``."""
        return self.members.get(name, other)

    def arrays(self, above: str = "") -> Iterator[tuple[str, F64]]:
        """Every array below, with its path."""
        for name, member in self.members.items():
            path = f"{above}{name}"
            if isinstance(member, Hdf5Group):
                yield from member.arrays(f"{path}/")
            else:
                yield path, member


def read_hdf5(path: Path, content: bytes | None = None) -> Hdf5Group:
    """The file at ``path``, or ``content`` where it lies inside another. Raises BadInput, or MissingTool without h5py.
    """
    if importlib.util.find_spec("h5py") is None:
        raise MissingTool(f"{path}: h5py is not installed; run: pip install 'ncpc[keras]'")
    arrays = {} if content is None else {"file": np.frombuffer(content, np.uint8)}
    try:
        with borrowed(SERVICE, "h5py") as worker:
            found = worker.ask("read", {"path": str(path.absolute())}, arrays)
    except (BadInput, ProofFailed) as error:
        why = str(error).removeprefix("h5py failed: ")
        raise BadInput(f"{path}: not a readable HDF5 file ({why}); a TensorFlow checkpoint (.index, .data) must be "
                       "saved as .h5 first") from None
    return _tree(found.head["groups"], found.arrays)


def _tree(groups: Mapping[str, Mapping[str, Any]], arrays: Mapping[str, F64]) -> Hdf5Group:
    root = Hdf5Group(groups[""])
    weights = {path: array for path, array in arrays.items() if array.ndim}  # a single number is no cell's weight
    members = {path: Hdf5Group(texts) for path, texts in groups.items() if path}
    items: Mapping[str, Hdf5Group | F64] = {**members, **weights}
    for path in sorted(items, key=lambda path: (path.count("/"), path)):
        above, _, name = path.rpartition("/")
        (root[above] if above else root).members[name] = items[path]
    return root
