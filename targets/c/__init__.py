"""Portable C99 for hosts and microcontrollers."""

from __future__ import annotations

from ncpc.targets.base import Target
from ncpc.targets.c.target import CTarget


# Below the import: loading the submodule ``target`` sets the package's attribute of that name.
def target(name: str) -> Target:
    """The C target called ``name``: ``host``, ``c``, or a core of ``cores/``."""
    return CTarget(name)
