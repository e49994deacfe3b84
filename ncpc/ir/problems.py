"""What the checks of layers share: a check is a generator of problems in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ncpc.ir.policy import Dense, Synapses

Problems = Iterator[str]


def finite(record: Any) -> Problems:
    """No NaN or infinity in any array or number of a layer or of the records in it, whatever its kind."""
    for field in fields(record):
        value = getattr(record, field.name)
        parts = value if isinstance(value, tuple) else (value,)
        for i, part in enumerate(parts):
            name = f"{field.name} {i}" if isinstance(value, tuple) else field.name
            name += " synapses" if isinstance(part, Synapses) else ""
            if is_dataclass(part):
                yield from (f"{name}: {problem}" for problem in finite(part))
            elif isinstance(part, (np.ndarray, float)) and not np.all(np.isfinite(part)):
                yield f"{name} holds NaN or infinity; train again or restore an earlier checkpoint"


def shape(name: str, array: Any, *expected: int) -> Problems:
    """``array`` has the shape ``expected``, no side of which is 0."""
    if array.shape != expected or 0 in expected:
        yield f"{name} has shape {array.shape}, expected {expected}"


def one_of(name: str, value: str, known: tuple[str, ...]) -> Problems:
    """``value`` is a ``known`` one."""
    if value not in known:
        yield f"unknown {name} {value!r}; known are {', '.join(known)}"


def dense_shape(name: str, layer: Dense | None, outputs: int, inputs: int) -> Problems:
    """``layer`` is there and has this many outputs and inputs."""
    if layer is None:
        yield f"{name} is missing"
        return
    yield from shape(f"{name}.weight", layer.weight, outputs, inputs)
    yield from shape(f"{name}.bias", layer.bias, outputs)


def matrix(name: str, array: Any) -> Problems:
    """``array`` is a matrix that is not empty."""
    if array.ndim != 2 or 0 in array.shape:
        yield f"{name} has shape {array.shape}, expected (outputs, inputs), none of them 0"


def square(layer: Any) -> Problems:
    """``weight_x``, ``weight_h`` and ``bias`` of a layer have one row for each output."""
    yield from matrix("weight_x", layer.weight_x)
    yield from shape("weight_h", layer.weight_h, layer.outputs, layer.outputs)
    yield from shape("bias", layer.bias, layer.outputs)


def positive(name: str, values: Any) -> Problems:
    """Every neuron's value is above 0."""
    for i in np.flatnonzero(values <= 0):
        yield f"{name} of neuron {i} is {values[i]:g}, but it must be positive"
