"""Networks of spikes: NIR files of standard primitives, and of one graded node per layer."""

from __future__ import annotations

from ncpc.targets.base import Target
from ncpc.targets.nir.nir_target import NirTarget


def target(name: str) -> Target:
    """The target called ``name``."""
    return NirTarget()
