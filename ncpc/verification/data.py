"""What a verdict is measured on: named data sets, the user's own and generated ones, and what each is for.

Of the calibration data a policy carries, what is held out (``ncpc.ir.held_out``) meets the finished build only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ncpc.ir.sequences import Sequences
from ncpc.verification.sequences import prefix

Purpose = Literal["data", "generated", "bitwise"]
"""``data`` is the user's own, ``generated`` covers the declared ranges, ``bitwise`` is for bitwise links alone: no
error is measured on it (what lies outside the declared ranges has none that means anything)."""
Counting = Literal["data", "data+generated", "all"]
"""What counts towards the verdict: the user's data, those and generated sequences, the search for the worst input too.
Where there is no data of the user's, generated sequences count alone."""


@dataclass(frozen=True, eq=False)
class DataSet:
    """Sequences with a name, a line of words about them, and what they are for.

    ``sequences`` are as the deployed policy sees them (within the declared ranges, unless they are ``bitwise``; a
    guessed input range limits nothing). ``whole``: every link runs all of them, instead of as many steps as it asks
    for. ``beyond`` are the same with their inputs as they were given, where a declared range limits any of those.
    """

    name: str
    words: str
    purpose: Purpose
    sequences: Sequences
    whole: bool = False
    beyond: Sequences | None = None

    def for_link(self, steps: int) -> Sequences:
        """What a link that asks for ``steps`` runs: of each of the user's data sets at most half as many."""
        return self.sequences if self.whole else prefix(self.sequences, steps // 2 if self.purpose == "data" else steps)

    def counts(self, counting: Counting) -> bool:
        """Whether the error on it decides."""
        return self.purpose == "data" or (self.purpose == "generated" and counting != "data")
