"""ncpc: compile a trained Neural Circuit Policy for the edge, and prove that what runs there is what was trained."""

from ncpc.frontend.api import load, save

__all__ = ["load", "save"]
