"""Reads LayerNorm and GroupNorm of torch. What they normalize lies side by side in a flat frame, channel by channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.ir.heads import Norm
from ncpc.ir.policy import F64, Layer
from ncpc.ir.tensors import array_of, class_name

Shape = tuple[int, ...] | None


def layer_norm(module: Any, shape: Shape, layers: list[Layer]) -> tuple[list[Layer], Shape]:
    """Over the last dimensions of one step's values: each of the parts they make, with the same weights."""
    wanted, found = tuple(module.normalized_shape), _shape(module.normalized_shape, shape, layers)
    if found[-len(wanted):] != wanted:
        raise BadInput(f"{class_name(module)}: normalizes values of shape {wanted}, but its input has shape {found}; "
                       "its shape is that of the last dimensions of one step's values")
    parts, size = int(np.prod(found[: -len(wanted)], dtype=np.int64)), int(np.prod(wanted))
    weight, bias = _affine(module, size)
    return [*layers, Norm(np.tile(weight, parts), np.tile(bias, parts), parts, float(module.eps))], shape


def group_norm(module: Any, shape: Shape, layers: list[Layer]) -> tuple[list[Layer], Shape]:
    """Over groups of channels with all their places; weights belong to channels."""
    channels, found = int(module.num_channels), _shape((module.num_channels,), shape, layers)
    if found[0] != channels:
        raise BadInput(f"{class_name(module)}: normalizes {channels} channels, but its input of shape {found} has "
                       f"{found[0]}; shapes are (channels, height, width)")
    weight, bias = (np.repeat(part, int(np.prod(found)) // channels) for part in _affine(module, channels))
    return [*layers, Norm(weight, bias, int(module.num_groups), float(module.eps))], shape


def _shape(wanted: Any, shape: Shape, layers: list[Layer]) -> tuple[int, ...]:
    """The shape of the module's input; without layers before it and nothing said, what the module wants."""
    if shape is not None:
        return tuple(shape)
    return (layers[-1].outputs,) if layers else tuple(wanted)


def _affine(module: Any, size: int) -> tuple[F64, F64]:
    """Weights and biases, 1 and 0 where the module has none."""
    weight, bias = (None if part is None else array_of(part).reshape(-1) for part in (module.weight, module.bias))
    return np.ones(size) if weight is None else weight, np.zeros(size) if bias is None else bias
