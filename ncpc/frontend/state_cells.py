"""Layers from the tensors of single modules of a bare ``state_dict``, and what has to be told about each.

The module that the tensors came from is made again, without numbers of its own, takes them strictly, and is read as
any other: what a tensor means is said in one place, in the readers of modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.frontend.ncps_cfc import read_cfc, read_lstm, wired_cfc
from ncpc.frontend.ncps_torch import build_ltc, known_roles
from ncpc.frontend.state_parts import CELL, LINEAR, LTC, MAPPINGS, PLAIN, REQUIRED, SEQUENCE, WIRED, Part
from ncpc.frontend.torch_cells import torch_readers
from ncpc.ir.gated import MixedMemory
from ncpc.ir.policy import Layer
from ncpc.ir.tensors import dense_of
from ncpc.system.torch_library import ncps_torch_module, torch_module
from ncpc.system.user_code import one_line

GATES = {4: "LSTM", 3: "GRU", 1: "RNN"}
"""The recurrent modules of torch by their blocks of rows."""


@dataclass(frozen=True)
class Told:
    """What a state_dict does not say of its cells; None where it was not given. One value serves all cells of a kind.

    ``implicit_param_constraints``, ``unfolds``, ``epsilon``, ``outputs`` and ``roles`` are of an LTC; ``mode`` and the
    backbone's ``activation`` of a CfC; ``nonlinearity`` of torch's RNN.
    """

    implicit_param_constraints: bool | None = None
    unfolds: int | None = None
    epsilon: float | None = None
    outputs: int | None = None
    roles: Sequence[str] | None = None
    mode: str | None = None
    activation: str | None = None
    nonlinearity: str | None = None


def options_of(part: Part) -> tuple[str, ...]:
    """The options that say how a part is run, by their names in ``Told``; of an LTC also those that are not needed."""
    if part.kind is LTC:
        return "implicit_param_constraints", "unfolds", "epsilon", "outputs", "roles"
    if part.kind in (WIRED, PLAIN):
        gate = () if any(name.endswith("w_tau") for name in part.tensors) else ("mode",)
        return (*gate, "activation") if any(name.startswith("backbone") for name in part.tensors) else gate
    return ("nonlinearity",) if part.kind in (SEQUENCE, CELL) and _gates(part) == "RNN" else ()


def needed(part: Part) -> tuple[str, ...]:
    """The options without which a part cannot be read."""
    optional = ("roles", "outputs") if "output_w" in part.tensors else ("roles",)
    return tuple(name for name in options_of(part) if name not in optional)


def read_part(part: Part, told: Told) -> list[Layer]:
    """The layers of one part. Raises ``BadInput`` naming the part for tensors that do not fit each other."""
    layer = READERS[part.kind.name](part, told)
    if not part.memory and not part.projection:
        return layer
    return [*_remembering(part, layer), *([_dense(part, part.projection)] if part.projection else [])]


def _remembering(part: Part, layers: list[Layer]) -> list[Layer]:
    if not part.memory:
        return layers
    weight = _matrix(part, "input_map.weight", part.memory)
    cell = _loaded(part, lambda: ncps_torch_module().lstm.LSTMCell(weight.shape[1], weight.shape[0] // 4), part.memory)
    return [MixedMemory(read_lstm(cell), layers[0], "state")]


def _ltc(part: Part, told: Told) -> list[Layer]:
    torch, params = torch_module(), part.tensors
    for name in REQUIRED:
        if name not in params:
            raise BadInput(f"state_dict: '{part.prefix}{name}' is missing; it is not the state_dict of an ncps LTC")
    count = told.outputs
    if count is None:
        count = next((int(params[name].numel()) for name in ("output_w", "output_b") if name in params), 1)
    _check_shapes(params, part.prefix, count)
    units = int(params["cm"].shape[0])
    if not 1 <= count <= units:
        raise BadInput(f"state_dict: {count} outputs of an LTC with {units} neurons; the outputs are its first neurons")
    roles = known_roles(["inter"] * units, count) if told.roles is None else known_roles(list(told.roles), 0)
    positive = torch.nn.Softplus() if told.implicit_param_constraints else torch.nn.Identity()
    assert told.unfolds is not None
    assert told.epsilon is not None
    return [build_ltc(params, positive, roles, count, told.unfolds, told.epsilon)]


def _check_shapes(params: Mapping[str, Any], prefix: str, outputs: int) -> None:
    units, inputs = params["cm"].numel(), params["sensory_w"].shape[0] if params["sensory_w"].ndim else 0
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(REQUIRED, (units, units))
    shapes |= {name: (inputs, units) for name in REQUIRED if name.startswith("sensory")}
    shapes |= dict.fromkeys(("gleak", "vleak", "cm"), (units,))
    shapes |= {name: (inputs if name.startswith("input") else outputs,) for name in MAPPINGS if name in params}
    for name, expected in shapes.items():
        if tuple(params[name].shape) != expected:
            raise BadInput(f"state_dict: '{prefix}{name}' has shape {tuple(params[name].shape)}, expected {expected}")


def _cfc(part: Part, told: Told) -> list[Layer]:
    return [read_cfc(_cfc_cell(part, part.tensors, told))]


def _wired_cfc(part: Part, told: Told) -> list[Layer]:
    """One stage for each layer of the wiring. Which neurons are what is not said: the last stage's are the motors."""
    stages: dict[int, dict[str, Any]] = {}
    for key, tensor in part.tensors.items():
        layer, _, name = key.partition(".")
        stages.setdefault(int(layer.removeprefix("layer_")), {})[name] = tensor
    if sorted(stages) != list(range(len(stages))):
        gap = next(i for i in range(len(stages) + 1) if i not in stages)
        raise BadInput(f"state_dict: {_called(part)} is a wired CfC without layer_{gap}; it is incomplete")
    if bare := [i for i, tensors in stages.items() if "sparsity_mask" not in tensors]:
        raise BadInput(f"state_dict: '{part.prefix}layer_{bare[0]}.sparsity_mask' is missing; it says which synapses "
                       "of a wired CfC there are")
    cells = [_cfc_cell(part, stages[i], told) for i in range(len(stages))]
    roles = ["inter"] * (len(cells) - 1) + ["motor"]
    return [wired_cfc(cells, [[role] * int(cell.hidden_size) for role, cell in zip(roles, cells, strict=True)])]


def _cfc_cell(part: Part, tensors: Mapping[str, Any], told: Told) -> Any:
    """The ``CfCCell`` that the tensors came from; dropout between its layers moves their numbers."""
    first = _matrix(part, "ff1.weight", tensors)
    backbone = [name for name in tensors if name.startswith("backbone") and name.endswith("weight")]
    before = _matrix(part, "backbone.0.weight", tensors) if backbone else first
    mask = np.ones(tuple(first.shape)).T if "sparsity_mask" in tensors else None
    mode, dropout = "pure" if "w_tau" in tensors else told.mode, 0.5 if "backbone.5.weight" in tensors else 0.0
    neurons, activation = int(first.shape[0]), told.activation or "tanh"
    return _loaded(part, lambda: ncps_torch_module().CfCCell(
        int(before.shape[1]) - neurons, neurons, mode, activation, int(before.shape[0]), len(backbone), dropout, mask,
    ), tensors)


def _gates(part: Part) -> str:
    """``LSTM``, ``GRU`` or ``RNN``, by how many blocks of rows there are."""
    suffix = "_l0" if part.kind is SEQUENCE else ""
    rows = int(_matrix(part, f"weight_ih{suffix}", part.tensors).shape[0])
    hidden = int(_matrix(part, f"weight_hh{suffix}", part.tensors).shape[1])
    found = next((name for count, name in GATES.items() if rows == count * hidden), None)
    found = "LSTM" if "weight_hr_l0" in part.tensors else found
    if found is None:
        raise BadInput(f"state_dict: {_called(part)} has {rows} rows for {hidden} neurons; an LSTM has 4 for each, a "
                       "GRU 3, an RNN 1")
    return found


def _recurrent(part: Part, told: Told) -> list[Layer]:
    """torch's LSTM, GRU or RNN, of as many layers as there are, or its cell."""
    tensors, name = part.tensors, _gates(part)
    cell, suffix = ("Cell", "") if part.kind is CELL else ("", "_l0")
    inputs, hidden = (int(_matrix(part, f"weight_{which}{suffix}", tensors).shape[1]) for which in ("ih", "hh"))
    options: dict[str, Any] = {"nonlinearity": told.nonlinearity} if name == "RNN" else {}
    options["bias"] = any("bias" in key for key in tensors)
    if part.kind is SEQUENCE:
        options |= {"num_layers": sum(key.startswith("weight_ih") and not key.endswith("_reverse") for key in tensors),
                    "bidirectional": any(key.endswith("_reverse") for key in tensors)}
    if "weight_hr_l0" in tensors:
        options["proj_size"], hidden = hidden, int(_matrix(part, "weight_hr_l0", tensors).shape[1])
    module = _loaded(part, lambda: getattr(torch_module().nn, name + cell)(inputs, hidden, **options), tensors)
    return torch_readers()[type(module)](module)


def _linear(part: Part, _: Told) -> list[Layer]:
    return [_dense(part, part.tensors)]


def _dense(part: Part, tensors: Mapping[str, Any]) -> Layer:
    outputs, inputs = _matrix(part, "weight", tensors).shape
    return dense_of(_loaded(part, lambda: torch_module().nn.Linear(inputs, outputs, "bias" in tensors), tensors))


def _loaded(part: Part, make: Callable[[], Any], tensors: Mapping[str, Any]) -> Any:
    """What ``make`` makes, with the tensors as its own, in their precision; it never has numbers of its own."""
    torch = torch_module()
    try:
        with torch.device("meta"):
            module = make()
        module.load_state_dict(tensors, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        raise BadInput(f"state_dict: {_called(part)} is no whole module of one kind ({one_line(error)})") from None
    return module


def _matrix(part: Part, name: str, tensors: Mapping[str, Any]) -> Any:
    found = tensors.get(name)
    if found is None:
        raise BadInput(f"state_dict: {_called(part)} has no '{name}'; it is incomplete")
    if found.ndim != 2 or not found.numel():
        raise BadInput(f"state_dict: '{name}' of {_called(part)} has shape {tuple(found.shape)}, not two dimensions "
                       "of 1 or more")
    return found


def _called(part: Part) -> str:
    return f"'{part.name}'" if part.name else f"the {part.kind.name}"


READERS: dict[str, Callable[[Part, Told], list[Layer]]] = {
    LTC.name: _ltc, PLAIN.name: _cfc, WIRED.name: _wired_cfc, SEQUENCE.name: _recurrent, CELL.name: _recurrent,
    LINEAR.name: _linear,
}
"""By the name of a kind of part."""
