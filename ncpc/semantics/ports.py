"""Between physical numbers and a program's own: quantizing inputs, reading outputs and states back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Port, Value
from ncpc.ir.types import Fixed, Float32, Index, Type


def dtype(type_: Type) -> type[np.generic]:
    """The NumPy type that carries values of ``type_``."""
    if isinstance(type_, Fixed | Index):
        return np.int64
    return np.float32 if isinstance(type_, Float32) else np.float64


def encode(port: Port, physical: NDArray[np.float64]) -> NDArray[Any]:
    """Physical numbers (..., n) to the port's: floor(x * 2**frac + 1/2) saturated to the storage type, NaN to 0."""
    kind = port.value.type
    if not isinstance(kind, Fixed):
        return physical.astype(dtype(kind))
    assert port.fracs is not None
    scaled = np.floor(np.where(np.isnan(physical), 0.0, physical) * np.exp2(np.array(port.fracs, np.float64)) + 0.5)
    return np.clip(scaled, kind.lo, kind.hi).astype(np.int64)


def decode(port: Port, raw: NDArray[Any]) -> NDArray[np.float64]:
    """The port's numbers (..., n) as physical ones."""
    if port.fracs is None:
        return raw.astype(np.float64)
    physical: NDArray[np.float64] = raw * np.exp2(-np.array(port.fracs, np.float64))
    return physical


def physical(raw: NDArray[Any], value: Value) -> NDArray[np.float64]:
    """An inner value's numbers as physical ones."""
    numbers: NDArray[np.float64] = raw.astype(np.float64)
    return numbers * value.type.lsb if isinstance(value.type, Fixed) else numbers


def bits(raw: NDArray[Any]) -> NDArray[np.int64]:
    """Integers that are equal exactly when the numbers are equal bit for bit."""
    if raw.dtype == np.float32:
        return np.ascontiguousarray(raw).view(np.int32).astype(np.int64)
    if raw.dtype == np.float64:
        return np.ascontiguousarray(raw).view(np.int64)
    return raw.astype(np.int64)
