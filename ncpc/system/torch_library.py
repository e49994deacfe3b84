"""The one place that imports torch and ncps, and only when something needs them."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from ncpc.errors import MissingTool
from ncpc.system import interruption


def torch_module() -> ModuleType:
    """The ``torch`` package. Raises ``MissingTool`` when it is not installed."""
    return _load("torch")


def ncps_torch_module() -> ModuleType:
    """The ``ncps.torch`` package. Raises ``MissingTool`` when it is not installed."""
    return _load("ncps.torch")


def versions() -> dict[str, str]:
    """Installed versions of torch and ncps by distribution (``ncps.__version__`` names another release)."""
    return {name: metadata.version(name) for name in ("ncps", "torch")}


def _load(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
        interruption.check()  # extensions swallow it while they load
        return module
    except ImportError:
        interruption.check()
        package = name.partition(".")[0]
        raise MissingTool(f"{package} is not installed; run: pip install 'ncpc[torch]'") from None
