"""The kinds of projects: which files each is made of, and how far they have been tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ncpc.errors import BadInput


@dataclass(frozen=True)
class ProjectKind:
    """One kind of project, a folder of that name in the build.

    ``sources`` says where NAME.c and where the headers go; ``files`` maps a path, in which NAME stands for the policy's
    name, to its template. ``opens``: how its folder is opened, in one line. ``tried``: what was done with such a folder
    in ncpc's own tests; "layout only" where nothing could be built.
    """

    title: str
    sources: tuple[str, str]
    files: Mapping[str, str]
    opens: str
    tried: str
    layout_only: bool = field(default=False, kw_only=True)


KINDS: Mapping[str, ProjectKind] = {
    "cmake": ProjectKind(
        "CMake package", ("src", "include"),
        {"CMakeLists.txt": "cmake.txt", "example/main.c": "cmake_main.c", "example/main.cpp": "cmake_main.cpp"},
        "cmake -B out && cmake --build out && ctest --test-dir out",
        "built, installed and run on a PC, as C and as C++"),
}
"""In the order in which they are offered."""


def asked(text: str) -> tuple[str, ...]:
    """The kinds that ``--project`` names, with commas between them, in the table's order. Raises BadInput."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KINDS:
            raise BadInput(f"--project {name}: unknown; choose from {', '.join(KINDS)}")
    return tuple(name for name in KINDS if name in names)


def told(folder: Path, text: str) -> list[str]:
    """One line for each project in ``folder`` of those that ``--project`` names: where it is, how it is opened."""
    there = [(folder / name, KINDS[name]) for name in asked(text) if (folder / name).is_dir()]
    return [f"{place}: {kind.opens}{' (layout only: not built here)' if kind.layout_only else ''}"
            for place, kind in there]
