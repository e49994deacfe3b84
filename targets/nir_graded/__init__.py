"""NIR files with one graded node per layer."""

from __future__ import annotations

from ncpc.targets.base import Target
from ncpc.targets.nir_graded.graded_target import GradedTarget


def target(name: str) -> Target:
    """The target called ``name``."""
    return GradedTarget()
