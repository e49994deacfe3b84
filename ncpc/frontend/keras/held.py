"""The layers that a file of Keras 2 holds: groups in the order of ``layer_names``, arrays of ``weight_names``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.keras.hdf5 import Hdf5Group, read_hdf5
from ncpc.frontend.keras.model import F64

Named = tuple[tuple[str, F64], ...]


@dataclass(frozen=True)
class HeldLayer:
    """A layer's name and its weights, in the order in which Keras made them, by their full names."""

    name: str
    weights: Named

    @property
    def words(self) -> str:
        """``dense (kernel 4x3, bias 3)``."""
        parts = [f"{last_name(path)} {'x'.join(map(str, array.shape))}" for path, array in self.weights]
        return f"{self.name} ({', '.join(parts) or 'without weights'})"


def last_name(path: str) -> str:
    """``rnn/ltc_cell/gleak:0`` as ``gleak``."""
    return path.rpartition("/")[2].partition(":")[0]


def held_layers(path: Path) -> tuple[HeldLayer, ...]:
    """The layers in a file of weights, or in the weights of a whole-model file, those without weights too.

    Raises ``BadInput`` for a file of another form.
    """
    file = read_hdf5(path)
    root = file.get("model_weights", file)
    names = listed(root, "layer_names")
    if names is None:
        raise BadInput(f"{path}: has no layer_names; give weights that save_weights wrote as .h5 in Keras 2, or the "
                       "whole model")
    return tuple(HeldLayer(name, tuple(_weights(root, name, path))) for name in names)


def listed(group: Any, name: str) -> list[str] | None:
    """A list of texts among the attributes; a long one lies in parts, ``layer_names0``, ``layer_names1``, ..."""
    attrs = group.attrs
    if name in attrs:
        return list(attrs[name])
    parts: list[str] = []
    for i in count():
        if f"{name}{i}" not in attrs:
            return parts or None
        parts += attrs[f"{name}{i}"]
    return None


def _weights(root: Any, name: str, path: Path) -> Iterator[tuple[str, F64]]:
    """A single number is no weight that anything is computed with (the ``count`` of a Normalization)."""
    group = root.get(name, None)
    if not isinstance(group, Hdf5Group):
        raise BadInput(f"{path}: lacks the group '{name}' that layer_names names; the file is damaged")
    for weight in listed(group, "weight_names") or ():
        try:
            yield weight, group.array(weight)
        except KeyError:
            if last_name(weight) != "count":
                raise BadInput(f"{path}: layer '{name}' lacks the weight '{weight}' that weight_names names; the file "
                               "is damaged") from None
