"""Number schemes: what a build's numbers are and what they may err by, one row each.

Command line, file formats and reports say a scheme by its name; all else reads its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scheme = Literal["float32", "int16", "w8a16", "w4a16", "int8", "thresholds"]
"""The names of the schemes."""
DEFAULT: Scheme = "int16"
"""Where nothing else is asked for and a target has it."""


@dataclass(frozen=True)
class NumberScheme:
    """A row of ``SCHEMES``.

    ``arithmetic``: ``float`` (binary32), ``integer``, or ``units``: none, the target makes threshold units of the
    policy itself. ``tolerance`` is the largest error that a build may have if nothing else is asked for, a fraction of
    the float output range; ``finer`` the scheme to take where that is too little.

    Of integers: the width of weights, of an LTC's ``sigma`` (``slope_bits``, 0: as weights; what a sigmoid reads is not
    averaged over a sum), of inputs and outputs (``activation_bits``), and of a state whose dead band is small enough
    (others have 32 bits), at least ``activation_bits``; a state may stall within ``stall_share`` of the tolerance.
    ``table`` is the number of intervals of a sigmoid's table where that is exact enough; other tables follow it. Where
    weights are rounded ``together``, each row of them has a scale, and each rounding makes up for those before it.
    """

    name: Scheme
    arithmetic: Literal["float", "integer", "units"]
    tolerance: float
    finer: str = ""
    weight_bits: int = 32
    slope_bits: int = 0
    activation_bits: int = 32
    state_bits: int = 32
    stall_share: float = 0.25
    table: int = 512
    together: bool = False

    @property
    def sigma_bits(self) -> int:
        """The width of an LTC's ``sigma``."""
        return self.slope_bits or self.weight_bits

    @property
    def tail(self) -> float:
        """How near to 0 or 1 a sigmoid must be for its synapse to listen no more: what rounding an input costs, too."""
        return float(2.0**-self.activation_bits)


SCHEMES: dict[str, NumberScheme] = {row.name: row for row in (
    NumberScheme("float32", "float", 1e-5),
    NumberScheme("int16", "integer", 2e-3, finer="float32", weight_bits=16, activation_bits=16, state_bits=16),
    NumberScheme("w8a16", "integer", 1e-2, finer="int16", weight_bits=8, slope_bits=16, activation_bits=16,
                 state_bits=16, table=128, together=True),
    NumberScheme("w4a16", "integer", 5e-2, finer="w8a16", weight_bits=4, slope_bits=16, activation_bits=16,
                 state_bits=16, table=128, together=True),
    NumberScheme("int8", "integer", 5e-2, finer="int16", weight_bits=8, activation_bits=8, state_bits=16),
    NumberScheme("thresholds", "units", 2e-2),
)}
ALIASES: dict[str, Scheme] = {"w8a8": "int8"}
"""Other names of schemes, taken wherever a scheme is named; what is written says the scheme's own name."""


def canonical(name: str) -> str:
    """The name in ``SCHEMES`` of a scheme that may be called by another; an unknown name as it is."""
    return ALIASES.get(name, name)


def shown(name: str) -> str:
    """A scheme's name for people, with its other names: ``int8 (w8a8)``."""
    others = ", ".join(alias for alias, own in ALIASES.items() if own == name)
    return f"{name} ({others})" if others else name
