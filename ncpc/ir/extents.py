"""The widths of layers, each read off the shape of one of its arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Extent:
    """An attribute of a record: the size of its field ``array`` along ``axis``."""

    array: str
    axis: int

    def __get__(self, record: Any, _: type[Any] | None = None) -> int:
        return int(getattr(record, self.array).shape[self.axis])
