"""Operators of graphs of tensors as plain records, before any library is asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Attribute = int | float | bool | str | tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One operator: its kind as the format spells it (``Gemm``, ``CONV_2D``), the tensors it reads and writes by name,
    its attributes.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
