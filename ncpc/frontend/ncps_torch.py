"""Reads trained ``ncps.torch`` cells and ordered lists of torch modules around them.

Parameters are taken as the module's forward uses them: positivity constraints folded in by the module's own function
in its own precision, topology from the trained sparsity masks (a wiring redraws its synapses whenever it is built).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.heads import merged
from ncpc.frontend.imported import Imported
from ncpc.frontend.ncps_cfc import read_cfc, read_lstm, read_wired_cfc
from ncpc.frontend.torch_activations import activation_readers, instead_of
from ncpc.frontend.torch_cells import own_readers, read_ode_lstm, torch_readers
from ncpc.frontend.torch_heads import head_reader
from ncpc.frontend.with_widths import with_widths
from ncpc.ir.gated import MixedMemory
from ncpc.ir.policy import Activation, Layer, Ltc, Synapses
from ncpc.ir.tensors import array_of, class_name, dense_of
from ncpc.system.torch_library import ncps_torch_module, torch_module, versions

SUPPORTED = ("ncps.torch LTC, CfC and their cells, torch.nn LSTM, GRU, RNN, Linear, Conv1d, Conv2d, MaxPool, AvgPool, "
             "AdaptiveAvgPool, AdaptiveMaxPool, BatchNorm, LayerNorm, GroupNorm, Flatten, ReLU, ReLU6, LeakyReLU, "
             "PReLU, ELU, SELU, SiLU, GELU, Hardtanh, Hardsigmoid, Hardswish, Softplus, Tanh, Sigmoid, Softmax, "
             "Dropout, Identity, and the modules of ncpc.cells")

F64 = NDArray[np.float64]


def import_model(model: Any, input_shape: Sequence[int] | None = None) -> Imported:
    """The layers of an ncps ``LTC`` or ``LTCCell``, or of an ordered list of modules, around a cell or without one.

    ``input_shape`` is that of one step's input where it is a frame: (channels, height, width).
    Raises ``Unsupported`` naming the first module that cannot be read, ``BadInput`` for parameters that are not valid.
    """
    modules = flatten(model)
    layers = with_widths(merged(_layers(modules, input_shape)))
    if not layers:
        raise Unsupported(f"{class_name(model)}: holds no layer of a known width; supported are {SUPPORTED}")
    cells = [{"class": class_name(m), **_options(m)} for m in modules if _is_recurrent(m)]
    return Imported(layers, {"source": "ncps.torch", "cells": cells, "versions": versions()})


def _layers(modules: Sequence[Any], input_shape: Sequence[int] | None) -> list[Layer]:
    """Every module's layers; what works on frames is told their shape."""
    layers: list[Layer] = []
    shape = None if input_shape is None else tuple(int(n) for n in input_shape)
    for module in modules:
        reader = head_reader(module)
        if reader is not None:
            layers, shape = reader(module, shape, layers)
            continue
        found = _import_module(module)
        if shape is not None and len(shape) > 1 and found and not isinstance(found[-1], Activation):
            raise Unsupported(f"{class_name(module)} over a frame of shape {shape} cannot be read; put a Flatten "
                              "before it")
        layers += found
        if found and not isinstance(found[-1], Activation):
            shape = (found[-1].outputs,)
    return layers


def flatten(model: Any) -> list[Any]:
    """The modules of a model in the order of their use: lists, ``Sequential`` and ``ModuleList`` are opened, and so is
    what training wraps around a module: ``torch.compile``, ``DataParallel``, ``AveragedModel``.
    """
    torch, model = torch_module(), unwrapped(model)
    if isinstance(model, (list, tuple, torch.nn.Sequential, torch.nn.ModuleList)):
        return [module for part in model for module in flatten(part)]
    if _is_ncpc_sequential(model):
        return flatten(model.layers)
    return [model]


def unwrapped(model: Any) -> Any:
    """The module inside ``torch.compile``, (Distributed)``DataParallel`` and ``AveragedModel``, however deep."""
    nn, swa = torch_module().nn, torch_module().optim.swa_utils
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel, swa.AveragedModel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod
    return model


def _is_ncpc_sequential(model: Any) -> bool:
    from ncpc.cells import Sequential  # needs torch: only once a torch model is at hand

    return isinstance(model, Sequential)


def _is_recurrent(module: Any) -> bool:
    from ncpc.cells import is_recurrent

    return is_recurrent(module)


def _import_module(module: Any) -> list[Layer]:
    """One module as layers, none for the identity; an activation's width is filled in later."""
    from ncpc.cells.ode_rnn import is_ode_lstm

    if is_ode_lstm(module):
        return [read_ode_lstm(module)]
    for kind, reader in _readers().items():
        if isinstance(module, kind) and _unchanged(type(module), kind):
            return reader(module)
    raise Unsupported(f"{class_name(module)} cannot be read{instead_of(module)}; supported are {SUPPORTED}; "
                      "pass a model of your own as the ordered list of its layers, e.g. [model.fc, model.rnn]")


def is_whole(module: Any) -> bool:
    """Whether a module has a forward of its own, which says how its parts are run. Raises Unsupported where that is
    compiled.
    """
    nn = torch_module().nn
    if isinstance(module, torch_module().jit.ScriptModule):
        raise Unsupported("the module is compiled TorchScript, whose steps cannot be watched; give the module that it "
                          "was made of")
    known = isinstance(module, tuple(_readers())) or head_reader(module) is not None
    return isinstance(module, nn.Module) and type(module).forward is not nn.Module.forward and not known


def read_cell(module: Any) -> list[Layer] | None:
    """The layers of a recurrent cell; None for any other module."""
    return _import_module(module) if _is_recurrent(module) else None


def first_width(module: Any) -> int | None:
    """The width of what the first of its parts that tells reads: likely that of a module with one flat input."""
    for part in module.modules():
        for name in ("in_features", "input_size", "sensory_size"):
            if isinstance(width := getattr(part, name, None), int):
                return width
    return None


def _readers() -> dict[Any, Callable[[Any], list[Layer]]]:
    nn, ncps = torch_module().nn, ncps_torch_module()
    return {
        nn.Linear: lambda m: [dense_of(m)],
        **activation_readers(),
        ncps.LTC: _ncps_layer,
        ncps.LTCCell: _ncps_layer,
        ncps.CfC: _ncps_layer,
        ncps.CfCCell: _ncps_layer,
        ncps.WiredCfCCell: _ncps_layer,
        **torch_readers(),
        **own_readers(),
    }


def read_own_ltc(module: Any) -> Ltc:
    """An LTC of ``ncpc.cells``: the cell of ncps inside, by the module's own solver."""
    return replace(_ltc(module.rnn_cell), solver=module.solver)


def _own_ltc_class() -> Any:
    from ncpc.cells import LTC

    return LTC


def _ncps_layer(module: Any) -> list[Layer]:
    """The cell, inside its mixed memory where it has one, and the projection of its output where it has one."""
    cell, ncps = _cell(module), ncps_torch_module()
    for kind in (ncps.LTCCell, ncps.CfCCell, ncps.WiredCfCCell):
        if isinstance(cell, kind) and not _unchanged(type(cell), kind):
            raise Unsupported(f"{class_name(cell)} overrides a method of {kind.__name__} and cannot be read; "
                              f"supported are {SUPPORTED}")
    layer: Layer
    if isinstance(cell, ncps.LTCCell):
        layer = _ltc(cell)
    else:
        layer = read_wired_cfc(cell) if isinstance(cell, ncps.WiredCfCCell) else read_cfc(cell)
    if getattr(module, "use_mixed", False):
        layer = MixedMemory(read_lstm(module.lstm), layer, "state")
    projection = getattr(module, "fc", None)
    return [layer, dense_of(projection)] if isinstance(projection, torch_module().nn.Linear) else [layer]


def _unchanged(kind: Any, base: Any) -> bool:
    """Whether a subclass still computes what its base computes."""
    methods = ("forward", "_ode_solver", "_sigmoid", "_map_inputs", "_map_outputs")
    return all(getattr(kind, name, None) is getattr(base, name, None) for name in methods)


def _ltc(cell: Any) -> Ltc:
    _refuse_ignored_parameters(cell)
    wiring = cell._wiring
    if wiring.output_dim is None:
        raise BadInput(f"{class_name(cell)}: its wiring has no output_dim; "
                       "call wiring.set_output_dim(n) before building")
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
            raise BadInput(f"{class_name(cell)}: its forward ignores the parameter '{name}' that replaced the original "
                           "one (parametrize, prune or load_state_dict(assign=True)); copy the values into the "
                           "original parameter, e.g. by load_state_dict into a fresh model")


def build_ltc(
    params: Mapping[str, Any], positive: Callable[[Any], Any], roles: tuple[str, ...], outputs: int, unfolds: int,
    epsilon: float,
) -> Ltc:
    """The layer from an ncps cell's tensors by their ncps names; ``positive`` is the cell's own constraint function,
    applied in the precision of the weights, in double where that is coarser than single.
    """
    sensory = _synapses(params, positive, "sensory_")
    inputs = int(params["sensory_w"].shape[0])
    return Ltc(
        sensory=sensory,
        recurrent=_synapses(params, positive, ""),
        cm=array_of(positive(_fine(params["cm"]))),
        gleak=array_of(positive(_fine(params["gleak"]))),
        vleak=array_of(params["vleak"]),
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
    mask = array_of(params[f"{prefix}sparsity_mask"])
    post, pre = np.nonzero(mask.T)
    w = array_of(positive(_fine(params[f"{prefix}w"]))) * mask
    sigma, mu, erev = (array_of(params[prefix + name])[pre, post] for name in ("sigma", "mu", "erev"))
    return Synapses(pre.astype(np.int64), post.astype(np.int64), w[pre, post], sigma, mu, erev)


def _fine(weights: Any) -> Any:
    """Half-precision weights as double: a constraint on them would be rounded once more."""
    torch = torch_module()
    coarse = torch.finfo(weights.dtype).eps > torch.finfo(torch.float32).eps
    return weights.double() if coarse else weights


def clip_negative(modules: Iterable[Any]) -> None:
    """Clip, in place, what ``apply_weight_constraints()`` would: w, sensory_w, cm, gleak of explicit-mode cells."""
    for module in modules:
        if _is_ltc(module):
            _cell(module).apply_weight_constraints()


def neuron_names(roles: Sequence[str]) -> tuple[str, ...]:
    """``motor_0``, ``motor_1``, ``inter_0``, ...: the role and the neuron's index within it."""
    return tuple(f"{role}_{list(roles[:i]).count(role)}" for i, role in enumerate(roles))


def known_roles(found: Sequence[str], outputs: int) -> tuple[str, ...]:
    """Roles as the wiring names them; the first ``outputs`` neurons are motor, other words than ours mean inter."""
    known = [role if role in ("inter", "command", "motor") else "inter" for role in found]
    return tuple(["motor"] * outputs + known[outputs:])


def _options(module: Any) -> dict[str, object]:
    """What the container tells of a cell's making."""
    cell = _cell(module)
    if not _is_ltc(module):
        return {"mode": str(cell.mode)} if hasattr(cell, "mode") and isinstance(cell.mode, str) else {}
    return {
        "constraints": "implicit" if cell._implicit_param_constraints else "explicit",
        "input_mapping": cell._input_mapping,
        "output_mapping": cell._output_mapping,
        "wiring": type(cell._wiring).__name__,
    }


def _is_ltc(module: Any) -> bool:
    ncps = ncps_torch_module()
    return isinstance(module, (ncps.LTC, ncps.LTCCell, _own_ltc_class()))


def _cell(module: Any) -> Any:
    return getattr(module, "rnn_cell", module)


def _or(params: Mapping[str, Any], name: str, default: F64) -> F64:
    return array_of(params[name]) if name in params else default
