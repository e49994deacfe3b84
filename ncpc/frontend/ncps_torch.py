"""Reads trained ``ncps.torch`` cells and ordered lists of torch modules around them.

Parameters are taken as the module's forward uses them: positivity constraints folded in by the module's own function
in its own precision, topology from the trained sparsity masks (a wiring redraws its synapses whenever it is built).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.imported import Imported
from ncpc.ir.policy import Activation, Dense, Layer, Ltc, Synapses
from ncpc.torch_library import ncps_torch_module, torch_module, versions

SUPPORTED = "ncps.torch LTC and LTCCell, torch.nn Linear, ReLU, Tanh, Sigmoid, Identity"

F64 = NDArray[np.float64]


def import_model(model: Any) -> Imported:
    """The layers of an ncps ``LTC`` or ``LTCCell``, or of an ordered list of modules around one.

    Raises ``Unsupported`` naming the first module that cannot be read, ``BadInput`` for parameters that are not valid.
    """
    modules = flatten(model)
    layers = _with_widths([_import_module(module) for module in modules])
    if not any(isinstance(layer, Ltc) for layer in layers):
        raise Unsupported(f"{_type(model)}: holds no recurrent cell; a policy needs an ncps.torch LTC or LTCCell")
    cells = [{"class": _type(m), **_options(_cell(m))} for m in modules if _is_cell(m)]
    return Imported(layers, {"source": "ncps.torch", "cells": cells, "versions": versions()})


def flatten(model: Any) -> list[Any]:
    """The modules of a model in the order of their use: lists, ``Sequential`` and ``ModuleList`` are opened."""
    torch = torch_module()
    if isinstance(model, (list, tuple, torch.nn.Sequential, torch.nn.ModuleList)):
        return [module for part in model for module in flatten(part)]
    if _is_ncpc_sequential(model):
        return flatten(model.layers)
    return [model]


def _is_ncpc_sequential(model: Any) -> bool:
    from ncpc.cells import Sequential  # needs torch: only once a torch model is at hand

    return isinstance(model, Sequential)


def _import_module(module: Any) -> Layer | None:
    """One module as a layer; None for the identity; an activation's width is filled in later."""
    nn = torch_module().nn
    readers: dict[Any, Callable[[Any], Layer | None]] = {
        nn.Linear: _linear,
        nn.ReLU: lambda _: Activation("relu", 0),
        nn.Tanh: lambda _: Activation("tanh", 0),
        nn.Sigmoid: lambda _: Activation("sigmoid", 0),
        nn.Identity: lambda _: None,
        ncps_torch_module().LTC: _ltc,
        ncps_torch_module().LTCCell: _ltc,
    }
    for kind, reader in readers.items():
        if isinstance(module, kind) and _unchanged(type(module), kind):
            return reader(module)
    raise Unsupported(f"{_type(module)} cannot be read; supported are {SUPPORTED}; "
                      "pass a model of your own as the ordered list of its layers, e.g. [model.fc, model.rnn]")


def _unchanged(kind: Any, base: Any) -> bool:
    """Whether a subclass still computes what its base computes."""
    methods = ("forward", "_ode_solver", "_sigmoid", "_map_inputs", "_map_outputs")
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in methods)


def _with_widths(layers: Iterable[Layer | None]) -> tuple[Layer, ...]:
    """Without identities; an activation is as wide as the layer before it, or after it if it comes first."""
    found = [layer for layer in layers if layer is not None]
    known = [i for i, layer in enumerate(found) if not isinstance(layer, Activation)]
    if not known:
        return ()
    width = found[known[0]].inputs
    for i, layer in enumerate(found):
        if isinstance(layer, Activation):
            found[i] = Activation(layer.function, width)
        width = found[i].outputs
    return tuple(found)


def _linear(module: Any) -> Dense:
    weight = _numpy(module.weight)
    return Dense(weight, np.zeros(weight.shape[0]) if module.bias is None else _numpy(module.bias))


def _ltc(module: Any) -> Ltc:
    if getattr(module, "use_mixed", False):
        raise Unsupported(f"{_type(module)} with mixed_memory=True cannot be read; supported are {SUPPORTED} "
                          "without mixed memory")
    cell = _cell(module)
    if not _unchanged(type(cell), ncps_torch_module().LTCCell):
        raise Unsupported(f"{_type(cell)} overrides a method of LTCCell and cannot be read; supported are {SUPPORTED}")
    _refuse_ignored_parameters(cell)
    wiring = cell._wiring
    if wiring.output_dim is None:
        raise BadInput(f"{_type(module)}: its wiring has no output_dim; call wiring.set_output_dim(n) before building")
    outputs = min(wiring.output_dim, wiring.units)
    roles = known_roles([str(wiring.get_type_of_neuron(i)) for i in range(wiring.units)], outputs)
    unfolds, epsilon = cell._ode_unfolds, cell._epsilon
    return build_ltc(cell._params, cell.make_positive_fn, roles, outputs, unfolds, epsilon)


def _refuse_ignored_parameters(cell: Any) -> None:
    """ncps' forward reads a plain dict: what replaced a registered parameter since then has no effect."""
    torch = torch_module()
    for name, used in cell._params.items():
        registered = cell._parameters.get(name)
        if registered is None or (registered is not used and not torch.equal(registered, used)):
            raise BadInput(f"{_type(cell)}: its forward ignores the parameter '{name}' that replaced the original one "
                           "(parametrize, prune or load_state_dict(assign=True)); copy the values into the original "
                           "parameter, e.g. by load_state_dict into a fresh model")


def build_ltc(
    params: Mapping[str, Any], positive: Callable[[Any], Any], roles: tuple[str, ...], outputs: int, unfolds: int,
    epsilon: float,
) -> Ltc:
    """The layer from an ncps cell's tensors by their ncps names; ``positive`` is the cell's own constraint function."""
    sensory = _synapses(params, positive, "sensory_")
    inputs = int(params["sensory_w"].shape[0])
    return Ltc(
        sensory=sensory,
        recurrent=_synapses(params, positive, ""),
        cm=_numpy(positive(params["cm"])),
        gleak=_numpy(positive(params["gleak"])),
        vleak=_numpy(params["vleak"]),
        input_w=_or(params, "input_w", np.ones(inputs)),
        input_b=_or(params, "input_b", np.zeros(inputs)),
        output_w=_or(params, "output_w", np.ones(outputs)),
        output_b=_or(params, "output_b", np.zeros(outputs)),
        roles=roles,
        names=neuron_names(roles),
        unfolds=int(unfolds),
        epsilon=float(epsilon),
    )


def _synapses(params: Mapping[str, Any], positive: Callable[[Any], Any], prefix: str) -> Synapses:
    """The synapses whose mask is not zero, sorted by post, then pre; a mask other than 1 scales ``w``."""
    mask = _numpy(params[f"{prefix}sparsity_mask"])
    post, pre = np.nonzero(mask.T)
    w = _numpy(positive(params[f"{prefix}w"])) * mask
    sigma, mu, erev = (_numpy(params[prefix + name])[pre, post] for name in ("sigma", "mu", "erev"))
    return Synapses(pre.astype(np.int64), post.astype(np.int64), w[pre, post], sigma, mu, erev)


def clip_negative(modules: Iterable[Any]) -> None:
    """Clip, in place, what ``apply_weight_constraints()`` would: w, sensory_w, cm, gleak of explicit-mode cells."""
    for module in modules:
        if _is_cell(module):
            _cell(module).apply_weight_constraints()


def neuron_names(roles: Sequence[str]) -> tuple[str, ...]:
    """``motor_0``, ``motor_1``, ``inter_0``, ...: the role and the neuron's index within it."""
    return tuple(f"{role}_{list(roles[:i]).count(role)}" for i, role in enumerate(roles))


def known_roles(found: Sequence[str], outputs: int) -> tuple[str, ...]:
    """Roles as the wiring names them; the first ``outputs`` neurons are motor, other words than ours mean inter."""
    known = [role if role in ("inter", "command", "motor") else "inter" for role in found]
    return tuple(["motor"] * outputs + known[outputs:])


def _options(cell: Any) -> dict[str, object]:
    return {
        "constraints": "implicit" if cell._implicit_param_constraints else "explicit",
        "input_mapping": cell._input_mapping,
        "output_mapping": cell._output_mapping,
        "wiring": type(cell._wiring).__name__,
    }


def _is_cell(module: Any) -> bool:
    ncps = ncps_torch_module()
    return isinstance(module, (ncps.LTC, ncps.LTCCell))


def _cell(module: Any) -> Any:
    return getattr(module, "rnn_cell", module)


def _or(params: Mapping[str, Any], name: str, default: F64) -> F64:
    return _numpy(params[name]) if name in params else default


def _numpy(tensor: Any) -> F64:
    array: F64 = tensor.detach().cpu().double().numpy().copy()
    return array


def _type(value: Any) -> str:
    return f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
