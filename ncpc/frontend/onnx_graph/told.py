"""Options, constants and sizes of nodes. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.frontend.onnx_graph.file import MOST_VALUES, OnnxNode
from ncpc.system.torch_library import torch_module

MOST_MADE = 1 << 22
"""Values of one tensor of a step."""


def told(node: OnnxNode, given: Sequence[Any], place: int, name: str, default: Any = None) -> Any:
    """An option: the constant at ``place`` among the inputs, or an attribute."""
    if len(given) > place and given[place] is not None:
        return given[place].tolist()
    return node.get(name, default)


def tensor_of(array: NDArray[Any]) -> Any:
    """A constant: floating numbers in double precision, whole ones as int64."""
    torch, kind = torch_module(), array.dtype.kind
    return torch.as_tensor(np.array(array, np.float64 if kind == "f" else np.bool_ if kind == "b" else np.int64))


def require_size(shape: Iterable[int]) -> None:
    """Raises Unsupported for more values than any policy computes."""
    if (count := math.prod(shape)) > MOST_VALUES:
        raise Unsupported(f"makes {count:,} values at once; {MOST_VALUES:,} at most can be read")
