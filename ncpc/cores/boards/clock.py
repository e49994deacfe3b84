"""The options that say on what board, at what clock and how often a step is to run, as one record."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from ncpc.cores import Core
from ncpc.cores.boards import Board, load_board
from ncpc.errors import BadInput

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
FASTEST = 10**10
"""More than any clock or rate in Hz."""


@dataclass(frozen=True)
class Setup:
    """Where a step runs and how often it is to: clock in Hz; ``rate_hz`` in steps per second, None where none is asked.
    """

    board: Board | None
    clock_hz: Fraction
    rate_hz: Fraction | None

    @property
    def wait_states(self) -> int | None:
        """Of the flash at this clock; None where they are not known."""
        return None if self.board is None else self.board.waits_at(int(self.clock_hz))


def board_of(options: Mapping[str, str]) -> Board | None:
    """The board that the options name. Raises BadInput for an unknown one."""
    return load_board(options["board"]) if options.get("board") else None


def setup_of(core: Core, options: Mapping[str, str]) -> Setup | None:
    """What the options ask of ``core``; None where they name no board and no clock.

    Raises BadInput in a line for a board with another core, a rate without a clock, a rate of a core without a model
    of cycles, and what is no number.
    """
    board = board_of(options)
    if board is not None and board.core != core:
        raise BadInput(f"--board {board.name}: its core is {board.core.name}, not {core.name}; leave out --target, or "
                       f"give --target {board.core.name}")
    clock, rate = hertz_of("clock", options), hertz_of("rate-hz", options)
    if board is None and clock is None:
        if rate is not None:
            raise BadInput(f"--rate-hz {options['rate-hz']}: of what clock? Give --board NAME or --clock HZ too")
        return None
    if rate is not None and core.timing_class == "count":
        raise BadInput(f"--rate-hz {options['rate-hz']}: for {core.name} there is no model of cycles, so no time per "
                       "step can be told; leave it out, and measure on the board")
    return Setup(board, clock or Fraction(board.clock_hz if board else 0), rate)


def hertz_of(name: str, options: Mapping[str, str]) -> Fraction | None:
    """The frequency that an option names; None where it names none. Raises BadInput for what is no frequency."""
    return hertz(name, options[name]) if options.get(name) else None


def hertz(name: str, text: str) -> Fraction:
    """Hz from ``168M``, ``32768``, ``0.5`` or ``64 MHz``, exactly. Raises BadInput for what is no frequency above 0."""
    found = re.fullmatch(r"(\d{1,12}(?:\.\d{1,12})?) ?([kMG]?)(?:[hH]z)?", text.strip())
    value = Fraction(found[1]) * UNITS[found[2].lower()] if found else Fraction(0)
    if not 0 < value <= FASTEST:
        raise BadInput(f"--{name} {text}: give a frequency in Hz, such as {'168M' if name == 'clock' else '50'}")
    return value
