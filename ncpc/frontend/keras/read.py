"""Keras models as policies: the entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.foreign import read_or_refused
from ncpc.frontend.heads import merged
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.cells import READERS, TOLD, read_cell, resets_before
from ncpc.frontend.keras.files import SUFFIXES, read_file
from ncpc.frontend.keras.heads import Shape, read_head
from ncpc.frontend.keras.live import read_live
from ncpc.frontend.keras.model import KerasLayer, KerasModel
from ncpc.frontend.with_widths import with_widths
from ncpc.ir.policy import Layer


def is_keras_file(path: str | Path) -> bool:
    """Whether the name is that of a Keras model or of its weights."""
    return Path(path).suffix in SUFFIXES


def import_file(path: str | Path) -> Imported:
    """The model in a ``.keras`` file or a whole-model ``.h5`` file, of Keras 3 or 2; no code in it is run.

    Raises ``BadInput`` for a file that is damaged or holds only weights, ``Unsupported`` naming the layer or option
    that cannot be read.
    """
    with read_or_refused(Path(path), "Keras"):
        return _imported(read_file(Path(path)), str(path))


def import_model(model: Any) -> Imported:
    """A running Keras model, or one built layer. Raises as ``import_file`` does."""
    return _imported(read_live(model), "keras")


def _imported(model: KerasModel, where: str) -> Imported:
    layers: list[Layer] = []
    shape = model.shape
    for found in model.layers:
        layers, shape = appended(layers, shape, found, where)
    fixed = 1.0 if any(map(resets_before, model.layers)) else None
    return Imported(finished(layers, where), model.provenance, dt=fixed)


def appended(layers: list[Layer], shape: Shape, found: KerasLayer, where: str) -> tuple[list[Layer], Shape]:
    """The layers so far with the next one, and the shape of one step's values after it.

    Raises ``BadInput`` for a weight that is not there, ``Unsupported`` for what cannot be read.
    """
    try:
        if found.kind not in READERS and found.kind not in TOLD:
            return read_head(found, shape, layers, where)
        cell = read_cell(found, where)
    except KeyError as error:
        raise BadInput(f"{where}: layer '{found.name}' ({found.kind}) lacks {error}; the file is damaged or was "
                       "written by another version") from None
    return [*layers, cell], (cell.outputs,)


def finished(layers: list[Layer], where: str) -> tuple[Layer, ...]:
    """A network of these layers, as few as mean the same. Raises ``Unsupported`` where none of them tells a width."""
    if not (read := with_widths(merged(layers))):
        raise Unsupported(f"{where}: holds no layer of a known width")
    return read
