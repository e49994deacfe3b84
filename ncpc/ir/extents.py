"""The widths of layers, each read off one of its fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extent:
    """An attribute of a record: the size of its array ``field`` along ``axis``; without one the number ``field``."""

    field: str
    axis: int | None = None

    def __get__(self, record: Any, _: type[Any] | None = None) -> int:
        held = getattr(record, self.field)
        return int(held if self.axis is None else held.shape[self.axis])
