"""Portable C99 for hosts and microcontrollers."""

from __future__ import annotations

from ncpc.targets.base import Target
from ncpc.targets.c.c_target import CTarget


def target(name: str) -> Target:
    """The C target called ``name``: ``host``, ``c``, or a core of ``cores/``."""
    return CTarget(name)
