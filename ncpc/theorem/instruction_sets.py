"""Which of the instructions that are read as terms a core has, by its instruction set.

A program that holds another one is not what its author believes, whatever it would compute: a proof ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ncpc.sim.timing_armv6m import FOREIGN
from ncpc.sim.timing_cortex_m import DSP

Permits = Callable[[str, int], bool]
"""Whether there is an instruction of that name in so many bytes."""


def _armv6m(name: str, size: int) -> bool:
    """Of 32 bits a step has BL alone."""
    return name not in FOREIGN if size == 2 else name == "bl"


def _armv7m(name: str, size: int) -> bool:
    """Without the DSP extension of Armv7E-M."""
    return DSP.fullmatch(name) is None


def every(name: str, size: int) -> bool:
    """A core that has all of them."""
    return True


def _words(name: str, size: int) -> bool:
    """No compressed ones, which are of two bytes."""
    return size == 4


PERMITTED: Mapping[str, Permits] = {
    "armv6-m": _armv6m,
    "armv7-m": _armv7m,
    "armv7e-m": every,
    "armv8-m.main+dsp": every,
    "rv32im": _words,
    "rv32imc": every,
    "rv32imac": every,
}
"""By the name that a core description gives; of what a set has beyond these rows, nothing is read as terms."""
