"""The only place that imports onnx, and only when it is needed; ONNX Runtime lives in a worker process."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ncpc.errors import MissingTool


def onnx() -> Any:
    """The ``onnx`` package: helper, checker and the reference evaluator. Raises MissingTool."""
    for part in ("checker", "external_data_helper", "helper", "inliner", "numpy_helper", "reference"):
        _load(f"onnx.{part}")
    return _load("onnx")


def require_runtime() -> None:
    """Raises MissingTool without ONNX Runtime, which worker processes load."""
    if find_spec("onnxruntime") is None:
        raise MissingTool("onnxruntime is not installed: pip install 'ncpc[onnx]'")


def _load(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise MissingTool(f"{name} is not installed ({error}): pip install 'ncpc[onnx]'") from error
