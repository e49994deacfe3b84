"""What the checks of layers share: a check is a generator of problems in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from ncpc.ir.policy import Synapses

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
