"""What the lowering of a layer reads and adds to while a program is built."""

from __future__ import annotations

from dataclasses import dataclass, field

from ncpc.ir.build import Builder
from ncpc.ir.policy import DtRange
from ncpc.ir.program import State, Value


@dataclass
class Lowering:
    """Over the reals: ``x`` is the layer's input, ``dt`` the timespan in ``dt_range``; states and labels collect.

    Dense layers of ``wide`` inputs and more become convolutions of one place.
    """

    builder: Builder
    x: Value
    dt: Value
    dt_range: DtRange
    wide: int
    states: list[State] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class FixedLowering:
    """In integers: ``dt`` is the limited run-time timespan, ``rate`` its inverse; None where dt is fixed."""

    builder: Builder
    x: Value
    table: Value
    dt: Value | None
    rate: Value | None
    states: list[State] = field(default_factory=list)
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
