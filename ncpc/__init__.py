"""ncpc: compile a trained Neural Circuit Policy for the edge, and prove that what runs there is what was trained."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncpc.api import Outcome, Tuned, compile, open, tune, verify
    from ncpc.frontend.api import load, save

__all__ = ["Outcome", "Tuned", "compile", "load", "open", "save", "tune", "verify"]

_HOME = {**dict.fromkeys(("Outcome", "Tuned", "compile", "open", "tune", "verify"), "api"),
         **dict.fromkeys(("load", "save"), "frontend.api")}


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used: the simulator's worker and scripts start fast."""
    if name == "__version__":
        from importlib.metadata import version

        return version("ncpc")
    if name not in _HOME:
        raise AttributeError(f"module 'ncpc' has no attribute '{name}'")
    return getattr(import_module(f"ncpc.{_HOME[name]}"), name)
