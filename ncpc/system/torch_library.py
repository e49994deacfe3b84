"""The one place that imports torch and ncps, and only when something needs them."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from importlib import metadata
from types import ModuleType
from typing import Any

from ncpc.errors import MissingTool
from ncpc.system import interruption


def torch_module() -> ModuleType:
    """The ``torch`` package. Raises ``MissingTool`` when it is not installed."""
    return _load("torch")


def ncps_torch_module() -> ModuleType:
    """The ``ncps.torch`` package. Raises ``MissingTool`` when it is not installed."""
    return _load("ncps.torch")


def copy_of(modules: list[Any]) -> list[Any]:
    """A deep copy of torch modules, those too whose weights were computed from others, as pruned ones are."""
    tensors = (value for root in modules for module in root.modules() for value in vars(module).values())
    computed = {id(t): t.detach().clone() for t in tensors if torch_module().is_tensor(t) and not t.is_leaf}
    return copy.deepcopy(modules, computed)


def functions_seen(call: Callable[[Any, Any, Any], Any]) -> Any:
    """A context in which every torch function is run by ``call`` (function, arguments, arguments by name)."""
    class Seeing(torch_module().overrides.TorchFunctionMode):  # type: ignore[misc]  # torch is loaded when it is needed
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return call(func, args, kwargs or {})

    return Seeing()


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
