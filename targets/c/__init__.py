"""Portable C99 for hosts and microcontrollers."""

from __future__ import annotations

from ncpc.cores import load_core
from ncpc.targets.base import Target
from ncpc.targets.c.c_target import SUMMARIES, core_target, host_target


def target(name: str) -> Target:
    """The C target called ``name``: ``host``, ``c``, or a core of ``cores/``."""
    return host_target(name) if name in SUMMARIES else core_target(load_core(name))
