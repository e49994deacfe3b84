"""Keras cells as layers of a policy. ``docs/keras.md`` says where their equations differ from those of ncps.torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.keras.model import CFC, F64, LTC, WIRED, KerasLayer, Weights
from ncpc.frontend.ncps_torch import neuron_names
from ncpc.ir.cells import CtRnn, NeuralOde
from ncpc.ir.gated import Cfc, Gru, GruOde, Lstm, MixedMemory, Rnn, WiredCfc
from ncpc.ir.policy import Dense, Layer, Ltc, Synapses


def read_cell(layer: KerasLayer, where: str) -> Layer:
    """The recurrent layer, inside its mixed memory where it has one."""
    cell: Layer = {**READERS, **TOLD}[layer.kind](layer, where)
    if not layer.memory:
        return cell
    return MixedMemory(_memory(layer.weights, float(layer.options.get("forget_gate_bias", 1.0))), cell, "input")


def function_of(option: Any) -> str:
    """An activation's name, however the config spells it: ``relu``, ``{"config": "package>relu"}``, None."""
    if isinstance(option, Mapping):
        option = option.get("config", option.get("class_name"))
    name = "linear" if option is None else str(getattr(option, "__name__", option))
    return name.rpartition(">")[2].lower()


def _ltc(layer: KerasLayer, where: str) -> Ltc:
    """A synapse is where the reversal potential is not 0: files lack the mask, but what it hides stays 0.

    A ``timespan_added`` a to timespans of 1 (tf_cfc.py) leaves cm/((1 + a)/unfolds): another cm.
    """
    weights, options = layer.weights, layer.options
    units, inputs = weights["gleak"].shape[0], weights["sensory_w"].shape[0]
    roles, outputs = _roles(layer, units, where)
    return Ltc(
        sensory=_synapses(weights, "sensory_"), recurrent=_synapses(weights, ""),
        cm=weights["cm"] / (1.0 + float(options.get("timespan_added", 0.0))),
        gleak=weights["gleak"], vleak=weights["vleak"],
        input_w=weights.get("input_w", np.ones(inputs)), input_b=weights.get("input_b", np.zeros(inputs)),
        output_w=weights.get("output_w", np.ones(outputs)), output_b=weights.get("output_b", np.zeros(outputs)),
        roles=roles, names=neuron_names(roles), unfolds=int(options["ode_unfolds"]), epsilon=float(options["epsilon"]),
    )


def _roles(layer: KerasLayer, units: int, where: str) -> tuple[tuple[str, ...], int]:
    """As the wiring tells; without one, as many motor neurons as there are output weights."""
    given, mapped = layer.wiring, layer.weights.get("output_w")
    if given is None and mapped is None:
        raise BadInput(f"{where}: layer '{layer.name}' does not say how many of its {units} neurons are outputs; "
                       "give outputs")
    outputs = given.outputs if given is not None else len(mapped) if mapped is not None else 0
    roles = given.roles if given is not None else ("motor",) * outputs + ("inter",) * (units - outputs)
    if len(roles) != units or (mapped is not None and len(mapped) != outputs):
        raise BadInput(f"{where}: layer '{layer.name}' has {units} neurons and "
                       f"{'as many' if mapped is None else len(mapped)} outputs, but its wiring {len(roles)} and "
                       f"{outputs}; give the wiring it was trained with")
    return roles, outputs


def _synapses(weights: Weights, prefix: str) -> Synapses:
    erev = weights[f"{prefix}erev"]
    mask = weights.get(f"{prefix}sparsity_mask", erev != 0)
    post, pre = np.nonzero(np.asarray(mask).T)
    w, sigma, mu = (weights[prefix + name] for name in ("w", "sigma", "mu"))
    w = w * np.where(mask, mask, 0.0)
    return Synapses(pre.astype(np.int64), post.astype(np.int64), *(a[pre, post] for a in (w, sigma, mu, erev)))


def _cfc(layer: KerasLayer, where: str) -> Cfc:
    units = layer.weights["ff1_bias"].shape[0]
    roles = ("inter",) * units
    mask = layer.weights.get("sparsity_mask")
    return _cfc_of(layer.weights, layer.options, mask, roles, neuron_names(roles), where)


def _cfc_of(
    weights: Weights, options: Mapping[str, Any], mask: F64 | None, roles: tuple[str, ...], names: tuple[str, ...],
    where: str,
) -> Cfc:
    """``t = sigmoid(-time_a*dt + time_b)``, heads without tanh; a mask of -1 turns its weights round."""
    pure = options["mode"] == "pure"
    backbone = tuple(_dense(weights, f"backbone{i}/") for i in range(_count(weights, "backbone{}/kernel")))
    head = [None if pure and i == 2 else _head(weights, f"ff{i}", mask) for i in (1, 2)]
    time_a, time_b = (None, None) if pure else (_dense(weights, f"time_{x}/") for x in "ab")
    assert head[0] is not None
    return Cfc(
        backbone=backbone, ff1=head[0], ff2=head[1],
        time_a=None if time_a is None else Dense(-time_a.weight, -time_a.bias), time_b=time_b,
        w_tau=weights["w_tau"][0] if pure else None, a=weights["A"][0] if pure else None,
        mode=str(options["mode"]), activation=_activation(options, where) if backbone else "tanh",
        head=str(options.get("head", "linear")),
        roles=roles, names=names,
    )


def _head(weights: Weights, name: str, mask: F64 | None) -> Dense:
    kernel = weights[f"{name}_weight"]
    return Dense((kernel if mask is None else kernel * mask).T.copy(), weights[f"{name}_bias"])


def _dense(weights: Weights, prefix: str) -> Dense:
    return Dense(weights[f"{prefix}kernel"].T.copy(), weights[f"{prefix}bias"])


def _count(weights: Weights, pattern: str) -> int:
    n = 0
    while pattern.format(n) in weights:
        n += 1
    return n


def _activation(options: Mapping[str, Any], where: str) -> str:
    name = {"swish": "silu"}.get(found := function_of(options.get("activation")), found)
    if name not in ("lecun_tanh", "tanh", "relu", "silu", "gelu"):
        raise Unsupported(f"{where}: a CfC with activation '{name}' cannot be read; "
                          "known are lecun_tanh, tanh, relu, silu, gelu")
    return name


def _wired_cfc(layer: KerasLayer, where: str) -> WiredCfc:
    """A stage per layer of the wiring. Only the first outputs of the last one leave where the wiring has fewer."""
    if layer.wiring is None or not layer.wiring.stages:
        raise BadInput(f"{where}: layer '{layer.name}' is a wired CfC without its wiring")
    names, stages = neuron_names(layer.wiring.roles), []
    for i, (neurons, mask) in enumerate(layer.wiring.stages):
        prefix = f"stage{i}/"
        weights = {k.removeprefix(prefix): v for k, v in layer.weights.items() if k.startswith(prefix)}
        roles = tuple(layer.wiring.roles[n] for n in neurons)
        stages.append(_cfc_of(weights, layer.options, mask, roles, tuple(names[n] for n in neurons), where))
    motors = layer.wiring.outputs
    return WiredCfc(tuple(stages), None if motors == stages[-1].outputs else motors)


def _memory(weights: Weights, forget_gate_bias: float) -> Lstm:
    """Blocks in the order cell, input, forget, output."""
    blocks = [weights["memory/input_kernel"].T, weights["memory/recurrent_kernel"].T, weights["memory/bias"]]
    split = [np.split(block, 4) for block in blocks]
    weight_x, weight_h, bias = (np.concatenate([i, f, g, o]) for g, i, f, o in split)
    units = len(bias) // 4
    bias[units : 2 * units] += forget_gate_bias
    return Lstm(weight_x, weight_h, bias)


def _lstm(layer: KerasLayer, where: str) -> Lstm:
    """Blocks in the order input, forget, cell, output, as ours."""
    _require(layer, where, activation="tanh", recurrent_activation="sigmoid")
    weight_x, weight_h = _kernels(layer)
    return Lstm(weight_x, weight_h, layer.weights.get("bias", np.zeros(len(weight_x))))


def _gru(layer: KerasLayer, where: str) -> Gru | GruOde:
    """Blocks in the order update, reset, new, two biases each (``reset_after``). The other form, whose state is reset
    before its matrix (Cho et al. 2014), is one step of a GRU-ODE of dt = 1.
    """
    _require(layer, where, activation="tanh", recurrent_activation="sigmoid")
    if resets_before(layer):
        weight = np.concatenate(_kernels(layer), axis=1)
        bias = layer.weights.get("bias", np.zeros(len(weight)))
        update, reset, new = (Dense(*part) for part in zip(np.split(weight, 3), np.split(bias, 3), strict=True))
        return GruOde(reset, update, new, unfolds=1)
    weight_x, weight_h = (_reset_first(kernel) for kernel in _kernels(layer))
    bias = layer.weights.get("bias", np.zeros((2, len(weight_x))))
    return Gru(weight_x, weight_h, _reset_first(bias[0]), _reset_first(bias[1]))


def resets_before(layer: KerasLayer) -> bool:
    """Whether it is a GRU that is read as a step of an ODE, which takes dt = 1."""
    return layer.kind == "GRUCell" and function_of(layer.options.get("reset_after", True)) == "false"


def _reset_first(block: F64) -> F64:
    z, r, n = np.split(block, 3)
    return np.concatenate([r, z, n])


def _gru_ode(layer: KerasLayer, where: str) -> GruOde:
    """``node_cell.py``: dense layers over [x, h], and over [x, r*h]."""
    reset, detect, update = (_dense(layer.weights, f"{name}/") for name in ("reset", "detect", "update"))
    return GruOde(reset, update, detect, int(layer.options["unfolds"]))


def _rnn(layer: KerasLayer, where: str) -> Rnn:
    weight_x, weight_h = _kernels(layer)
    bias = layer.weights.get("bias", np.zeros(len(weight_x)))
    return Rnn(weight_x, weight_h, bias, function_of(layer.options.get("activation", "tanh")))


def _ct_rnn(layer: KerasLayer, where: str) -> CtRnn | NeuralOde:
    """``dh/dt = scale*tanh(W_x x + W_h h + b) - tau*h`` (node_cell.py) as that of ``h/scale``; tau is a rate there."""
    weight_x, weight_h = _kernels(layer)
    weight_h, bias = weight_h * layer.weights["scale"], layer.weights["bias"]
    steps, rate = int(layer.options["unfolds"]), float(layer.options["tau"])
    solver = str(layer.options["solver"])
    if rate == 0.0:
        return NeuralOde(weight_x, weight_h, bias, steps, 1.0 / steps, solver)
    return CtRnn(weight_x, weight_h, bias, np.full(len(bias), 1.0 / rate), steps, 1.0 / steps, solver)


def _kernels(layer: KerasLayer) -> tuple[F64, F64]:
    return layer.weights["kernel"].T.copy(), layer.weights["recurrent_kernel"].T.copy()


def _require(layer: KerasLayer, where: str, **expected: str) -> None:
    """Raises ``Unsupported`` for an option that would make it another function."""
    for name, value in expected.items():
        found = function_of(layer.options.get(name, value))
        if found != value:
            raise Unsupported(f"{where}: layer '{layer.name}' ({layer.kind}) with {name} {found} cannot be read; "
                              f"train it with {name} {value}")


READERS: dict[str, Callable[[KerasLayer, str], Layer]] = {
    LTC: _ltc, CFC: _cfc, WIRED: _wired_cfc, "LSTMCell": _lstm, "GRUCell": _gru, "SimpleRNNCell": _rnn,
}
TOLD: dict[str, Callable[[KerasLayer, str], Layer]] = {"ScaledCtRnn": _ct_rnn, "ToldGruOde": _gru_ode}
"""What only an architecture names: no config describes these cells."""
