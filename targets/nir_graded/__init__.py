"""NIR files with one graded node per layer."""

from ncpc.targets.nir_graded.graded_target import target

__all__ = ["target"]
