"""What the lowering of a layer reads and adds to while a program is built."""

from __future__ import annotations

from dataclasses import dataclass, field

from ncpc.ir.build import Builder
from ncpc.ir.program import State, Value


@dataclass
class Lowering:
    """Over the reals: ``x`` is the layer's input, ``dt`` the timespan; states and labels collect."""

    builder: Builder
    x: Value
    dt: Value
    states: list[State] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class FixedLowering:
    """In integers: ``dt_value`` is the limited run-time dt and ``dt`` its (norm, recip); None where dt is fixed."""

    builder: Builder
    x: Value
    table: Value
    dt_value: Value | None
    dt: tuple[Value, Value] | None
    dt_frac: int
    states: list[State] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
