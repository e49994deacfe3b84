"""What all readers of torch modules share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Dense

F64 = NDArray[np.float64]


def array_of(tensor: Any) -> F64:
    """A tensor's values as float64, copied."""
    array: F64 = tensor.detach().cpu().double().numpy().copy()
    return array


def dense_of(module: Any) -> Dense:
    """A ``torch.nn.Linear``; a missing bias is zeros."""
    weight = array_of(module.weight)
    return Dense(weight, np.zeros(weight.shape[0]) if module.bias is None else array_of(module.bias))


def class_name(value: Any) -> str:
    """Library and class, as messages name a module: ``ncps.LTC``."""
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
