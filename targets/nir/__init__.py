"""Networks of spikes: NIR files of standard primitives, and of one graded node per layer."""

from ncpc.targets.nir.nir_target import target

__all__ = ["target"]
