"""The only place that imports onnx, and only when it is needed; ONNX Runtime lives in a worker process."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ncpc.errors import MissingTool


def onnx() -> Any:
    """The ``onnx`` package: helper, checker and the reference evaluator. Raises MissingTool."""
    for part in ("onnx.checker", "onnx.helper", "onnx.numpy_helper", "onnx.reference"):
        _load(part)
    return _load("onnx")


def _load(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise MissingTool(f"{name} is not installed ({error}): pip install 'ncpc[onnx]'") from error
