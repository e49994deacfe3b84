"""Portable C99 for hosts and microcontrollers."""

from __future__ import annotations

from ncpc.targets.base import Target


def target(name: str) -> Target:
    """The C target called ``name``: ``host``, ``c``, or a core of ``cores/``."""
    from ncpc.targets.c.target import CTarget

    return CTarget(name)
