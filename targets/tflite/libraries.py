"""The one place where the TFLite libraries are imported, late."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from ncpc.errors import MissingTool


def schema() -> ModuleType:
    """The Python classes of the TFLite flatbuffer schema, as ai-edge-litert ships them."""
    return _load("ai_edge_litert.schema_py_generated", "ai-edge-litert", "to write the TFLite file")


def flatbuffers() -> ModuleType:
    """The flatbuffers runtime."""
    return _load("flatbuffers", "flatbuffers", "to write the TFLite file")


def litert() -> ModuleType:
    """LiteRT's interpreter module."""
    return _load("ai_edge_litert.interpreter", "ai-edge-litert", "to run the file in LiteRT")


def micro() -> ModuleType:
    """TFLite Micro's Python interpreter module."""
    return _load("tflite_micro.python.tflite_micro.runtime", "tflite-micro", "to run the file in TFLite Micro")


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
