"""What users of .nir files need from ncpc: ``ncpc.nir.register()`` lets ``nir.read`` load graded LTC nodes."""

from ncpc.targets.nir_graded.node import register

__all__ = ["register"]
