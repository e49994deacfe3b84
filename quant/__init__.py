"""Number formats, calibration with brevitas, quantization of policies, and training on the grids it chooses."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ncpc.quant.twin import finish, prepare, refresh
    from ncpc.quant.twin_training import Tuning, fine_tune

__all__ = ["Tuning", "fine_tune", "finish", "prepare", "refresh"]

_HOME = {"Tuning": "twin_training", "fine_tune": "twin_training", "finish": "twin", "prepare": "twin",
         "refresh": "twin"}


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used: they need torch and brevitas."""
    if name not in _HOME:
        raise AttributeError(f"module 'ncpc.quant' has no attribute '{name}'")
    return getattr(import_module(f"ncpc.quant.{_HOME[name]}"), name)
