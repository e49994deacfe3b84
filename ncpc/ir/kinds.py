"""What a kind of layer consists of: a row of ``ncpc.ir.cells.CELLS`` or ``ncpc.ir.heads.LAYERS``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from operator import attrgetter
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of layer. What lies above this package is named ``module:name`` and loaded only when asked for.

    ``record`` is the layer as data. ``lowering``: (layer, ``passes.context.Lowering``) -> the output; it also refuses
    steps that would be unstable. ``problems``: (layer) -> what is wrong with it, in words. A kind that ``ncpc.cells``
    can train has a torch ``module`` and a ``reader``: (module) -> layer.
    """

    record: type[Any]
    lowering: str
    problems: str
    module: str = ""
    reader: str = ""

    @property
    def name(self) -> str:
        """The record's ``kind``."""
        return str(self.record.kind)


def load(where: str) -> Any:
    """What ``module:name`` names; the name may be that of a class's method, with a dot."""
    module, name = where.split(":")
    return attrgetter(name)(import_module(module))
