"""Core descriptions as data: one TOML file in this folder per microcontroller core.

To add a core: copy a file, change what differs, and give ``timing_table`` the name of a table in ``ncpc.sim.timing``
(the table ``count`` counts instructions only).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from ncpc.cores.core import Core, Estimate, Region
from ncpc.errors import BadInput

__all__ = ["Core", "Estimate", "Region", "core_from_table", "core_names", "likely_core", "load_core"]


def core_names() -> tuple[str, ...]:
    """Names of the cores there is a description of, sorted."""
    files_here = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in files_here if name.endswith(".toml")))


@cache
def load_core(name: str) -> Core:
    """The core called ``name``. Raises BadInput, listing the known cores, if there is none."""
    if name not in core_names():
        likely = likely_core(name)
        meant = f"did you mean '{likely}'? " if likely else ""
        raise BadInput(f"unknown core '{name}': {meant}known cores are {', '.join(core_names())}")
    text = (files(__package__) / f"{name}.toml").read_text(encoding="utf-8")
    return core_from_table(tomllib.loads(text), where=f"cores/{name}.toml")


def likely_core(name: str) -> str | None:
    """The core that a name of a chip (``stm32f407``) or of the core, otherwise written (``M4F``), stands for."""
    plain = _plain(name)
    chips = {_plain(chip): core for core in core_names() for chip in load_core(core).chips}
    known = {_plain(core): core for core in core_names()}
    begun = [chip for chip in chips if plain.startswith(chip)]
    if begun:
        return chips[max(begun, key=len)]
    ended = [core for core in known if len(plain) > 1 and core.endswith(plain)]
    close = ended or get_close_matches(plain, known, 1, cutoff=0.75)
    return known[close[0]] if close else None


def _plain(name: str) -> str:
    """Letters and digits alone, small."""
    return "".join(c for c in name.lower().replace("+", "plus") if c.isalnum())


def core_from_table(table: Mapping[str, Any], where: str) -> Core:
    """A Core from a parsed description; ``where`` names it in messages. Raises BadInput for a missing entry."""
    try:
        return Core(
            name=table["name"],
            title=table["title"],
            arch=table["arch"],
            isa=table["isa"],
            zig_target=table["zig"]["target"],
            zig_mcpu=table["zig"]["mcpu"],
            zig_flags=tuple(table["zig"]["flags"]),
            gcc_command=table["gcc"]["command"],
            gcc_flags=tuple(table["gcc"]["flags"]),
            flash=Region(table["flash"]["origin"], table["flash"]["bytes"]),
            ram=Region(table["ram"]["origin"], table["ram"]["bytes"]),
            timing_class=table["timing_class"],
            timing_table=table["timing_table"],
            emulator_cpu=table["emulator_cpu"],
            elf_machine=table["elf_machine"],
            hard_float=table["hard_float"],
            chips=tuple(table.get("chips", ())),
            estimates={kind: Estimate(row["cycles"], row["flash"]) for kind, row in table.get("estimate", {}).items()},
        )
    except KeyError as missing:
        raise BadInput(f"{where}: entry {missing} is missing from the core description: add it") from None
