"""The one place where the TFLite libraries are imported, late."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import ModuleType

from ncpc.errors import MissingTool


def schema() -> ModuleType:
    """The Python classes of the TFLite flatbuffer schema, as ai-edge-litert ships them."""
    return _load("ai_edge_litert.schema_py_generated", "ai-edge-litert", "to write the TFLite file")


def flatbuffers() -> ModuleType:
    """The flatbuffers runtime."""
    return _load("flatbuffers", "flatbuffers", "to write the TFLite file")


def require(package: str) -> None:
    """Raises MissingTool without a package, which is not imported."""
    if find_spec(package) is None:
        name = package.replace("_", "-")
        raise MissingTool(f"{name} is not installed, it is needed to run the file: pip install 'ncpc[tflite]'")


def installed(distribution: str) -> str:
    """The version of a distribution, or ``none``."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"


def _load(module: str, distribution: str, purpose: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        line = f"{distribution} is not installed, it is needed {purpose}: pip install 'ncpc[tflite]'"
        raise MissingTool(line) from error
