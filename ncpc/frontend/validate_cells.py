"""What every cell of ``ncpc.ir.cells`` must satisfy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.frontend.problems import Problems, shape
from ncpc.ir.cells import Cfc, CtGru, CtRnn, Gru, LeakyIntegrator, Lif, Lstm, MixedMemory, NeuralOde, Rnn, WiredCfc
from ncpc.ir.policy import ROLES, Dense

MODES = ("default", "pure", "no_gate")
ACTIVATIONS = ("lecun_tanh", "tanh", "relu", "silu", "gelu")
HEADS = ("tanh", "linear")
SOLVERS = ("euler", "rk4")
RATES = ("tanh", "sigmoid", "relu", "identity")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> Problems:
    if value not in known:
        yield f"unknown {name} {value!r}; known are {', '.join(known)}"


def _dense(name: str, layer: Dense | None, outputs: int, inputs: int) -> Problems:
    if layer is None:
        yield f"{name} is missing"
        return
    yield from shape(f"{name}.weight", layer.weight, outputs, inputs)
    yield from shape(f"{name}.bias", layer.bias, outputs)


def _matrix(name: str, array: Any) -> Problems:
    if array.ndim != 2 or 0 in array.shape:
        yield f"{name} has shape {array.shape}, expected (outputs, inputs), none of them 0"


def _cfc(layer: Cfc) -> Problems:
    for name, value, known in (("mode", layer.mode, MODES), ("activation", layer.activation, ACTIVATIONS),
                               ("head", layer.head, HEADS)):
        yield from _one_of(name, value, known)
    yield from _matrix("ff1.weight", layer.ff1.weight)
    if layer.backbone:
        yield from _matrix("backbone 0.weight", layer.backbone[0].weight)
    n = layer.neurons
    if layer.inputs < 1:
        yield f"it takes {layer.inputs + n} values, not more than its {n} neurons give back: it has no input"
    width = layer.inputs + n
    for i, dense in enumerate(layer.backbone):
        yield from _matrix(f"backbone {i}.weight", dense.weight)
        yield from _dense(f"backbone {i}", dense, dense.outputs, width)
        width = dense.outputs
    yield from _dense("ff1", layer.ff1, n, width)
    yield from _cfc_rest(layer, n, width)
    yield from _neurons(layer)


def _cfc_rest(layer: Cfc, n: int, width: int) -> Problems:
    if layer.mode == "pure":
        for name, vector in (("w_tau", layer.w_tau), ("a", layer.a)):
            yield from shape(name, np.zeros(0) if vector is None else vector, n)
        return
    for name, dense in (("ff2", layer.ff2), ("time_a", layer.time_a), ("time_b", layer.time_b)):
        yield from _dense(name, dense, n, width)


def _neurons(layer: Cfc) -> Problems:
    for name, words in (("roles", layer.roles), ("neuron names", layer.names)):
        if len(words) != layer.neurons:
            yield f"{name}: {len(words)} given for {layer.neurons} neurons"
    for role in layer.roles:
        yield from _one_of("role", role, ROLES[1:])


def _wired_cfc(layer: WiredCfc) -> Problems:
    if not layer.stages:
        yield "has no stages; a wired CfC needs at least one"
    before: Cfc | None = None
    for i, stage in enumerate(layer.stages):
        yield from (f"stage {i}: {problem}" for problem in _cfc(stage))
        if before and stage.inputs != before.outputs:
            yield f"stage {i} takes {stage.inputs} values, but stage {i - 1} gives {before.outputs}"
        before = stage
    if before and layer.motors is not None and not 0 < layer.motors <= before.outputs:
        yield f"has {layer.motors} motor neurons, outside 1 to the {before.outputs} neurons of its last stage"
    names = [name for stage in layer.stages for name in stage.names]
    if len(set(names)) != len(names):
        yield "two of its neurons have the same name"


def _blocks(layer: Lstm | Gru, count: int) -> Problems:
    yield from _matrix("weight_h", layer.weight_h)
    yield from _matrix("weight_x", layer.weight_x)
    yield from shape("weight_h", layer.weight_h, count * layer.neurons, layer.neurons)
    yield from shape("weight_x", layer.weight_x, count * layer.neurons, layer.inputs)


def _lstm(layer: Lstm) -> Problems:
    yield from _blocks(layer, 4)
    yield from shape("bias", layer.bias, 4 * layer.neurons)


def _gru(layer: Gru) -> Problems:
    yield from _blocks(layer, 3)
    yield from shape("bias_x", layer.bias_x, 3 * layer.neurons)
    yield from shape("bias_h", layer.bias_h, 3 * layer.neurons)


def _square(layer: Rnn | CtRnn | NeuralOde | LeakyIntegrator | Lif) -> Problems:
    yield from _matrix("weight_x", layer.weight_x)
    yield from shape("weight_h", layer.weight_h, layer.outputs, layer.outputs)
    yield from shape("bias", layer.bias, layer.outputs)


def _rnn(layer: Rnn) -> Problems:
    yield from _square(layer)
    yield from _one_of("function", layer.function, ("tanh", "relu"))


def _mixed_memory(layer: MixedMemory) -> Problems:
    yield from _one_of("into", layer.into, ("state", "input"))
    yield from (f"memory: {problem}" for problem in _lstm(layer.memory))
    cell: Any = layer.cell
    if cell.kind not in ("ltc", "cfc", "wired_cfc"):
        yield f"its cell is of kind {cell.kind!r}; known are ltc, cfc, wired_cfc"
    elif cell.neurons != layer.memory.neurons:
        yield f"its memory has {layer.memory.neurons} neurons, but its cell {cell.neurons}"
    elif layer.cell.inputs != (cell.neurons if layer.into == "input" else layer.inputs):
        yield f"its cell takes {layer.cell.inputs} values, which is not what it is given"


def _steps(layer: CtRnn | NeuralOde) -> Problems:
    yield from _one_of("solver", layer.solver, SOLVERS)
    if layer.unfolds < 1:
        yield f"unfolds is {layer.unfolds}, expected at least 1"
    if not layer.step > 0:
        yield f"step is {layer.step:g}, expected a positive share of dt"
    if layer.clip < 0:
        yield f"clip is {layer.clip:g}, expected 0 (none) or more"


def _positive(name: str, values: Any) -> Problems:
    for i in np.flatnonzero(values <= 0):
        yield f"{name} of neuron {i} is {values[i]:g}, but it must be positive"


def _ct_rnn(layer: CtRnn) -> Problems:
    yield from _square(layer)
    yield from _steps(layer)
    yield from shape("tau", layer.tau, layer.outputs)
    yield from _positive("tau", layer.tau)


def _neural_ode(layer: NeuralOde) -> Problems:
    yield from _square(layer)
    yield from _steps(layer)


def _ct_gru(layer: CtGru) -> Problems:
    yield from _matrix("detect.weight", layer.detect.weight)
    if layer.ln_tau.ndim != 1 or layer.scales == 0:
        yield f"ln_tau has shape {layer.ln_tau.shape}, expected (scales,) with at least one scale"
    width, traces = layer.inputs + layer.neurons, layer.neurons * layer.scales
    if layer.inputs < 1:
        yield f"detect takes {width} values, not more than its {layer.neurons} neurons give back: it has no input"
    for name, dense, outputs in (("detect", layer.detect, layer.neurons), ("retrieve", layer.retrieve, traces),
                                 ("store", layer.store, traces)):
        yield from _dense(name, dense, outputs, width)
    yield from shape("decay", layer.decay, layer.scales)
    if np.any((layer.decay < 0) | (layer.decay > 1)):
        yield "decay holds values outside 0 to 1"
    if layer.clip < 0:
        yield f"clip is {layer.clip:g}, expected 0 (none) or more"


def _leaky_integrator(layer: LeakyIntegrator) -> Problems:
    yield from _square(layer)
    yield from _one_of("function", layer.function, RATES)
    yield from shape("tau", layer.tau, layer.outputs)
    yield from shape("lookahead", layer.lookahead, layer.outputs)
    yield from _positive("tau", layer.tau)
    for i in np.flatnonzero((layer.lookahead < 0) | (layer.lookahead > layer.tau)):
        yield f"lookahead of neuron {i} is {layer.lookahead[i]:g}, outside 0 to its tau {layer.tau[i]:g}"


def _lif(layer: Lif) -> Problems:
    yield from _square(layer)
    for name in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        yield from shape(name, getattr(layer, name), layer.outputs)
    yield from _positive("tau", layer.tau)
    for i in np.flatnonzero(layer.v_threshold <= layer.v_reset):
        yield (f"v_threshold of neuron {i} is {layer.v_threshold[i]:g}, not above its v_reset {layer.v_reset[i]:g}: it "
               "would fire at every step")


CELL_CHECKS: dict[str, Callable[[Any], Problems]] = {
    "cfc": _cfc, "wired_cfc": _wired_cfc, "lstm": _lstm, "gru": _gru, "rnn": _rnn, "mixed_memory": _mixed_memory,
    "ct_rnn": _ct_rnn, "neural_ode": _neural_ode, "ct_gru": _ct_gru, "leaky_integrator": _leaky_integrator,
    "lif": _lif,
}
