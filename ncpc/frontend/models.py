"""What ``ncpc.save`` is given as a model: which sort it is, its layers, and what they are compared with."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput, NcpcError
from ncpc.frontend.data import shapes_in
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.live import is_keras
from ncpc.ir.policy import Layer, Ltc, Policy
from ncpc.system.torch_library import copy_of

ATTRIBUTES = "attributes"
"""``carry=`` of a module that keeps its state itself."""
Check = Callable[[Policy, str], None]
"""Raises ``BadInput`` where the policy and the model it was read from differ."""
Shape = Sequence[int] | Mapping[str, Sequence[int]] | None
"""That of one step's input, or of each of several by name."""


@dataclass(frozen=True)
class Asked:
    """What a caller of ``save`` says beside the model, as it came."""

    like: Any = None
    clip_negative: bool = False
    input_shape: Shape = None
    calibration: Any = None
    input_range: Any = None
    heads: tuple[str, ...] = ()
    carry: Any = None


@dataclass(frozen=True)
class ModelRead:
    """The layers, the checks against what computes them, and with what that compares (``COMPARED``)."""

    imported: Imported
    checks: tuple[Check, ...]
    compared: str
    named: bool = False
    """Whether outputs have names, of which some may be chosen."""
    forward: Any = None
    """How a torch module's own forward is called (``ncpc.frontend.traced.forward.Forward``); None for all others."""


def read_model(model: Any, asked: Asked, where: str) -> ModelRead:
    """What ``model`` says. Raises ``BadInput`` or ``Unsupported``."""
    found = _read(model, asked, where)
    if asked.heads and not found.named:
        raise BadInput(f"{where}: outputs are {asked.heads[0]!r}; known are values, logits, and names of what a "
                       "module's own forward returns")
    if asked.carry is not None and not found.named:
        raise BadInput(f"{where}: carry= names the states of an ONNX file, or of a module with a forward of its own; "
                       "leave it out")
    if asked.like is None:
        return found
    from ncpc.frontend.forward import runs

    own = "forward" if runs(asked.like) else found.compared
    return replace(found, checks=(*found.checks, _comparison(asked)), compared=own)


def _read(model: Any, asked: Asked, where: str) -> ModelRead:
    if isinstance(model, (str, Path)):
        return _read_onnx(model, asked, where)
    if isinstance(model, Imported):
        return ModelRead(_clipped(model) if asked.clip_negative else model, (), "nothing")
    parts = list(model) if isinstance(model, (list, tuple)) else [model]
    if parts and all(isinstance(part, Layer) for part in parts):
        return _read(Imported(tuple(parts), {"source": "layers"}), asked, where)
    if is_keras(model):
        return _read_keras(model, asked)
    return _read_torch(model, asked, where)


def _read_onnx(path: str | Path, asked: Asked, where: str) -> ModelRead:
    """A file: its own outputs by name, those of one or several chosen."""
    from ncpc.frontend import ncps_torch  # needs torch
    from ncpc.frontend.onnx_graph import agreement, read

    if asked.clip_negative or asked.like is not None:
        raise BadInput(f"{where}: an ONNX file takes neither clip_negative nor like=; leave them out")
    told = [] if asked.input_shape is None else _told_shapes(asked)
    data = [] if asked.calibration is None else shapes_in(asked.calibration)
    found = read.read_file(path, _carried(asked.carry, where) or {}, told, ncps_torch.read_cell, where, asked.heads,
                           data)
    return ModelRead(found.imported, (partial(agreement.check_agreement, found),), "file", named=True)


def _read_keras(model: Any, asked: Asked) -> ModelRead:
    """A model that is to be clipped is not compared with: it computes something else."""
    from ncpc.frontend.keras import agreement, read

    found = read.import_model(model)
    if asked.clip_negative:
        return ModelRead(_clipped(found), (), "nothing")
    return ModelRead(found, (lambda policy, where: agreement.check_agreement(policy, model, where),), "forward")


def _read_torch(model: Any, asked: Asked, where: str) -> ModelRead:
    from ncpc.frontend import agreement, ncps_torch  # need torch

    model = ncps_torch.unwrapped(model)
    if hasattr(model, "ncpc_plain"):  # made by ncpc.quant.prepare: what it is trained for
        model = model.ncpc_plain()
    modules = ncps_torch.flatten(model)
    if asked.clip_negative:
        modules = copy_of(modules)
        ncps_torch.clip_negative(part for module in modules for part in module.modules())
    if len(modules) == 1 and ncps_torch.is_whole(modules[0]):
        return _read_whole(modules[0], asked, where)
    shape = _shape(asked.input_shape)
    parts = isinstance(model, (list, tuple)) and len(model) > 1
    return ModelRead(ncps_torch.import_model(modules, shape),
                     (lambda policy, where: agreement.check_agreement(policy, modules, where, shape),),
                     "parts" if parts else "forward")


def _read_whole(module: Any, asked: Asked, where: str) -> ModelRead:
    """A module with a forward of its own."""
    from ncpc.frontend import ncps_torch  # need torch
    from ncpc.frontend.traced import agreement, read

    carry = _carried(asked.carry, where)
    failed: NcpcError | None = None
    for shapes in _shapes(module, asked):
        try:
            found = read.read_module(module, shapes, ncps_torch.read_cell, where, asked.heads, carry)
            if asked.carry == ATTRIBUTES:
                read.require_kept(module, found.forward, where)
            checks = (partial(agreement.check_reading, module, found.forward),)
            return ModelRead(found.imported, checks, "forward", named=True, forward=found.forward)
        except NcpcError as error:
            failed = failed or error
    assert failed is not None
    raise failed


def _carried(carry: Any, where: str) -> Mapping[str, Any] | None:
    """The arguments that hold the state, with what they are next; none where attributes hold it."""
    if carry is None or isinstance(carry, Mapping):
        return carry
    if carry != ATTRIBUTES:
        raise BadInput(f"{where}: carry= is {carry!r}; give 'attributes', or a mapping from arguments of forward to "
                       "keys or places of what it returns: {'hidden': 'hidden_out'}")
    return {}


def _shapes(module: Any, asked: Asked) -> Sequence[Mapping[str, Sequence[int]]]:
    """What one step's inputs may look like, the likeliest first; '' stands for an input without a name."""
    from ncpc.frontend import ncps_torch

    if asked.input_shape is not None:
        return _told_shapes(asked)
    if asked.calibration is not None:
        return shapes_in(asked.calibration)
    if np.ndim(asked.input_range) == 2:
        return [{"": (len(asked.input_range),)}]
    width = ncps_torch.first_width(module)
    return [{} if width is None else {"": (width,)}]


def _told_shapes(asked: Asked) -> list[Mapping[str, Sequence[int]]]:
    if isinstance(asked.input_shape, Mapping):
        return [{name: _shape(shape) or () for name, shape in asked.input_shape.items()}]
    return [{"": _shape(asked.input_shape) or ()}]


def _comparison(asked: Asked) -> Check:
    """The check against the own forward of the module that the layers were taken from."""
    from ncpc.frontend import forward, ncps_torch  # need torch

    (module,) = copy_of([forward.require_module(asked.like)])
    if asked.clip_negative:
        ncps_torch.clip_negative(module.modules())
    shape = None if isinstance(asked.input_shape, Mapping) else _shape(asked.input_shape)
    return lambda policy, where: forward.check_forward(policy, ncps_torch.unwrapped(module), where, shape)


def _clipped(read: Imported) -> Imported:
    """Every negative w, cm, gleak of an LTC at 0, as the cell's ``apply_weight_constraints()`` does."""
    return replace(read, layers=tuple(_clip_ltc(x) if isinstance(x, Ltc) else x for x in read.layers))


def _clip_ltc(layer: Ltc) -> Ltc:
    sensory, recurrent = (replace(s, w=np.maximum(s.w, 0.0)) for s in (layer.sensory, layer.recurrent))
    cm, gleak = np.maximum(layer.cm, 0.0), np.maximum(layer.gleak, 0.0)
    return replace(layer, sensory=sensory, recurrent=recurrent, cm=cm, gleak=gleak)


def _shape(given: Shape) -> tuple[int, ...] | None:
    """The shape of one step's input, of one to three dimensions."""
    if given is None:
        return None
    try:
        shape = tuple(operator.index(n) for n in given)  # type: ignore[arg-type]  # names of a mapping are no index
    except TypeError:
        shape = ()
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise BadInput(f"input_shape is {given!r}; give the shape of one step's input, without batch and time: "
                       "(channels, height, width), (channels, width) or (inputs,)")
    return shape
