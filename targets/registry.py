"""Which targets there are. Names map to packages that are imported only when asked for.

Each package has ``target(name) -> Target``. Third parties add theirs by the entry-point group ``ncpc.targets``,
entry-point name = target name, value = ``package:factory`` with the same signature.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from ncpc.cores import core_names, likely_core
from ncpc.cores.boards import boards
from ncpc.errors import Unsupported
from ncpc.targets.base import Requirement, Target

BUILTIN: dict[str, str] = {
    **dict.fromkeys(("host", "c", *core_names()), "ncpc.targets.c"),
    "onnx": "ncpc.targets.onnx",
    "tflite": "ncpc.targets.tflite",
    "nir": "ncpc.targets.nir",
    "nir-graded": "ncpc.targets.nir_graded",
}

GROUP = "ncpc.targets"


def names() -> tuple[str, ...]:
    """Every target's name, built-in ones first, in the order they are listed."""
    return (*BUILTIN, *sorted(name for name in _plugins() if name not in BUILTIN))


def load(name: str) -> Target:
    """The target called ``name``; raises Unsupported for an unknown one, naming those there are."""
    return _factory(name)(name)


def missing(target: Target) -> tuple[Requirement, ...]:
    """What the target wants and this Python does not have."""
    return tuple(need for need in target.requirements if find_spec(need.module) is None)


def _factory(name: str) -> Callable[[str], Target]:
    if name in BUILTIN:
        factory: Callable[[str], Target] = import_module(BUILTIN[name]).target
        return factory
    plugins = _plugins()
    if name not in plugins:
        close = likely_core(name) or next(iter(get_close_matches(name, names(), 1)), None)
        meant = f"did you mean '{close}'? " if close else ""
        if name in {board.name for board in boards()}:
            raise Unsupported(f"target '{name}': a board, no target; compile with --board {name}")
        raise Unsupported(f"target '{name}': unknown; {meant}choose from {', '.join(names())}")
    loaded: Callable[[str], Target] = plugins[name].load()
    return loaded


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
