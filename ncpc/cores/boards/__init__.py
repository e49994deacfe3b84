"""Boards as data: the chip on them, its clock, its memories, the wait states of its flash.

``boards.toml`` has a table for each; a board of the user's own is the same table in a file of its own.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from ncpc.cores import Core, likely_core, load_core
from ncpc.errors import BadInput

PAGE = 4096
"""Memories are whole pages."""
NEEDED: Mapping[str, type] = {"title": str, "chip": str, "clock_hz": int, "flash_bytes": int, "ram_bytes": int,
                              "sources": list}
OWN_SOURCE = "a description of the user's own"
OTHERS = {"uno": "AVR", "nano": "AVR", "mega": "AVR", "atmega": "AVR", "esp32": "Xtensa", "esp32s2": "Xtensa",
          "esp32s3": "Xtensa", "esp8266": "Xtensa"}
"""Beginnings of boards' names whose processors there is no core description of; the longest that fits counts."""


@dataclass(frozen=True)
class Board:
    """A board as a program sees it: ``clock_hz`` in Hz, memories in bytes.

    ``wait_states`` are cycles that a read of the flash takes beyond one at ``clock_hz``, None where nobody has looked
    them up or the flash stands behind a cache. ``sources`` say where the figures are from.
    """

    name: str
    title: str
    chip: str
    clock_hz: int
    flash_bytes: int
    ram_bytes: int
    wait_states: int | None
    sources: tuple[str, ...]

    @property
    def core(self) -> Core:
        """The core of the chip."""
        core = likely_core(self.chip)
        assert core is not None
        return load_core(core)

    def waits_at(self, clock_hz: int) -> int | None:
        """Wait states that suffice at ``clock_hz``: those at the board's own clock, if that is no lower."""
        return self.wait_states if clock_hz <= self.clock_hz else None


@cache
def boards() -> tuple[Board, ...]:
    """The boards there is a description of, by name."""
    tables = tomllib.loads((files(__package__) / "boards.toml").read_text(encoding="utf-8"))
    return tuple(_board(name, table, f"boards.toml: {name}") for name, table in sorted(tables.items()))


def load_board(name: str) -> Board:
    """The board called ``name``, or described by it where it is JSON. Raises BadInput, naming the likely board."""
    if name.startswith("{"):
        return _own(name)
    known = {board.name: board for board in boards()}
    if name in known:
        return known[name]
    if other := _other(_plain(name)):
        raise BadInput(f"--board {name}: it has an {other} processor, for which ncpc has no core; compile for 'c', "
                       "portable C that is verified on this machine")
    meant = likely_board(name)
    core = likely_core(name)
    hint = (f"did you mean '{meant}'? " if meant else f"its core is '{core}' (-t {core} --clock HZ); " if core else "")
    raise BadInput(f"--board {name}: unknown; {hint}'ncpc targets --boards' lists them; --board-file takes your own")


def likely_board(name: str) -> str | None:
    """The board whose name, however it is written, is nearest; None where none is near."""
    known = {_plain(board.name): board.name for board in boards()}
    begun = [known[plain] for plain in known if len(_plain(name)) > 3 and plain.startswith(_plain(name))]
    close = begun or [known[plain] for plain in get_close_matches(_plain(name), known, 1, cutoff=0.7)]
    return close[0] if close else None


def roomier(flash: int, ram: int) -> str:
    """Boards that have so many bytes, those with the smallest flash first, in words."""
    fitting = sorted((board.flash_bytes, board.ram_bytes, board.name) for board in boards()
                     if board.flash_bytes >= flash and board.ram_bytes >= ram)
    return f"boards that have room: {', '.join(name for _, _, name in fitting[:3]) or 'none that is known here'}"


def _other(plain: str) -> str:
    """The processor of a board that begins like none here; empty where nothing is known of it."""
    begun = max((other for other in OTHERS if plain.startswith(other)), key=len, default="")
    ours = any(_plain(board.name).startswith(plain[:7]) for board in boards()) and plain != begun
    return "" if ours else OTHERS.get(begun, "")


def board_text(path: Path) -> str:
    """A board of the user's own, as ``load_board`` takes it. Raises BadInput in a line for what is none."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"--board-file {path}: cannot be read: {error}") from None
    table.setdefault("name", path.stem)
    table.setdefault("title", table["name"])
    table.setdefault("sources", [OWN_SOURCE])
    text = json.dumps(table, default=str, sort_keys=True)
    load_board(text)
    return text


def _own(text: str) -> Board:
    try:
        table = json.loads(text)
    except ValueError:
        raise BadInput("--board: neither the name of a board nor a description of one") from None
    name = table.pop("name", None)
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= 40:
        raise BadInput("--board-file: name: give a short name")
    return _board(name, table, f"--board-file: {name}")


def _board(name: str, table: Mapping[str, Any], where: str) -> Board:
    """A board from its table. Raises BadInput for an entry that is missing, unknown or can be none."""
    waits = table.get("wait_states")
    for entry in sorted(set(table) - {*NEEDED, "wait_states"}):
        raise BadInput(f"{where}: no entry '{entry}' is known; there are {', '.join(NEEDED)}, wait_states")
    for entry, kind in NEEDED.items():
        if not _is(table.get(entry), kind):
            raise BadInput(f"{where}: {entry}: {_wanted(kind)}")
    if waits is not None and (type(waits) is not int or not 0 <= waits <= 1000):
        raise BadInput(f"{where}: wait_states: give 0 to 1000, or leave it out where they are not known")
    for entry in ("flash_bytes", "ram_bytes"):
        if table[entry] % PAGE:
            raise BadInput(f"{where}: {entry}: give a multiple of {PAGE}")
    if likely_core(table["chip"]) is None:
        raise BadInput(f"{where}: chip '{table['chip']}': of no known core; give one such as stm32f407, or a core")
    return Board(name, table["title"], table["chip"], table["clock_hz"], table["flash_bytes"], table["ram_bytes"],
                 waits, tuple(map(str, table["sources"])))


def _is(value: Any, kind: type) -> bool:
    """Whether a value is of its kind, and a number above 0, a text or a list with something in it."""
    return type(value) is kind and bool(value) and (not isinstance(value, int) or value > 0)


def _wanted(kind: type) -> str:
    return {int: "give a whole number above 0", str: "give a text"}.get(kind, "give a list of texts")


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum())
