"""Which of the instructions that are read as terms a core has, by its instruction set.

A program that holds another one is not what its author believes, whatever it would compute: a proof ends there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ncpc.theorem.thumb_products import LONG, PRODUCTS

Permits = Callable[[str, int], bool]
"""Whether there is an instruction of that name in so many bytes."""

PLAIN_PRODUCTS = {"mla", "mul", "mls", "smull", "umull", "smlal", "umlal", "sdiv", "udiv"}
DSP = {encoding.name for encoding in (*PRODUCTS, *LONG)} - PLAIN_PRODUCTS | {
    "pkhbt", "pkhtb", "qadd", "qdadd", "qdsub", "qsub", "ssat16", "usat16",
    *(sign + name for sign in "su" for name in ("xtab", "xtab16", "xtah", "xtb16"))}
"""What Armv7E-M has and Armv7-M has not (Armv7-M Architecture Reference Manual, DDI 0403E, A1.3, "DSP extension")."""
NOT_V6M = {"cbz", "cbnz", "it"}
"""Of 16 bits; of 32 a step of Armv6-M has BL alone (Armv6-M Architecture Reference Manual, DDI 0419E, A5.3)."""


def _armv6m(name: str, size: int) -> bool:
    return name not in NOT_V6M if size == 2 else name == "bl"


def _armv7m(name: str, size: int) -> bool:
    return name not in DSP


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
