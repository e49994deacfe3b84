"""CfC, LSTM, GRU, RNN and mixed memory as data: the cells of ncps, torch and Keras besides the LTC.

Weights are (outputs, inputs). A cell reads its input ``x`` and its own state through separate matrices; ``dt`` is the
timespan in the unit of training. ``docs/cells.md`` gives each cell's equation and source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ncpc.ir.extents import Extent
from ncpc.ir.names import identifiers
from ncpc.ir.policy import F64, ROLES, Dense, Layer
from ncpc.ir.problems import Problems, dense_shape, matrix, one_of, shape, square
from ncpc.ir.tableau import TABLEAUS

MODES = ("default", "pure", "no_gate")
ACTIVATIONS = ("lecun_tanh", "tanh", "relu", "silu", "gelu")
HEADS = ("tanh", "linear", "lecun_tanh")


@dataclass(frozen=True, eq=False)
class Cfc:
    """A closed-form continuous-time cell (Hasani et al. 2022).

    ``z = backbone([x, h])`` (each layer followed by ``activation``), or ``[x, h]`` itself without a backbone. With
    ``f1 = head(ff1 z)``, ``f2 = head(ff2 z)``, ``t = sigmoid((time_a z)*dt + time_b z)``: mode ``default``
    ``h <- f1 + t*(f2 - f1)``, ``no_gate`` ``h <- f1 + t*f2``. Mode ``pure``:
    ``h <- a - a*exp(-dt*(|w_tau| + |ff1 z|))*(ff1 z)``, with ``w_tau``, ``a`` (neurons,). Output and state are ``h``.
    ``head`` is ``tanh`` (ncps.torch), ``linear`` (ncps.keras) or ``lecun_tanh`` (1.7159*tanh(0.666*z): the code
    published with the paper); ``activation`` is ``lecun_tanh``, ``tanh``, ``relu``, ``silu`` or ``gelu``. Absent
    synapses have weight 0 in ff1 and ff2.
    """

    kind: ClassVar[str] = "cfc"

    backbone: tuple[Dense, ...]
    ff1: Dense
    ff2: Dense | None
    time_a: Dense | None
    time_b: Dense | None
    w_tau: F64 | None
    a: F64 | None
    mode: str
    activation: str
    head: str
    roles: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def inputs(self) -> int:
        return (self.backbone[0] if self.backbone else self.ff1).inputs - self.neurons

    @property
    def outputs(self) -> int:
        return self.neurons

    @property
    def neurons(self) -> int:
        return self.ff1.outputs


@dataclass(frozen=True, eq=False)
class WiredCfc:
    """CfC cells in a row, one per layer of a wiring: each takes the new state of the one before, the first one ``x``.

    The output is the last stage's state, or only the first ``motors`` values of it.
    """

    kind: ClassVar[str] = "wired_cfc"

    stages: tuple[Cfc, ...]
    motors: int | None = None

    @property
    def inputs(self) -> int:
        return self.stages[0].inputs

    @property
    def outputs(self) -> int:
        return self.stages[-1].outputs if self.motors is None else self.motors

    @property
    def neurons(self) -> int:
        return sum(stage.neurons for stage in self.stages)


@dataclass(frozen=True, eq=False)
class Lstm:
    """Long short-term memory; blocks of rows in the order input, forget, cell, output (torch.nn).

    ``i, f, o = sigmoid``, ``g = tanh`` of ``weight_x x + weight_h h + bias``; ``c <- f*c + i*g``;
    ``h <- o*tanh(c)``, the output. ``weight_x`` (4*neurons, inputs), ``weight_h`` (4*neurons, neurons), ``bias``
    (4*neurons,).
    """

    kind: ClassVar[str] = "lstm"

    weight_x: F64
    weight_h: F64
    bias: F64

    inputs = Extent("weight_x", 1)
    outputs = neurons = Extent("weight_h", 1)


@dataclass(frozen=True, eq=False)
class Gru:
    """Gated recurrent unit; blocks of rows in the order reset, update, new (torch.nn).

    ``r, u = sigmoid(weight_x x + bias_x + weight_h h + bias_h)``,
    ``n = tanh(weight_x x + bias_x + r*(weight_h h + bias_h))``, ``h <- n + u*(h - n)``, the output.
    """

    kind: ClassVar[str] = "gru"

    weight_x: F64
    weight_h: F64
    bias_x: F64
    bias_h: F64

    inputs = Extent("weight_x", 1)
    outputs = neurons = Extent("weight_h", 1)


@dataclass(frozen=True, eq=False)
class GruOde:
    """A GRU as an ODE (De Brouwer et al. 2019, equation 3, with its input held): ``dh/dt = (1 - z)*(g - h)``.

    ``r = sigmoid(reset [x, h])``, ``z = sigmoid(update [x, h])``, ``g = tanh(detect [x, r*h])``, by ``unfolds`` Euler
    steps of dt/unfolds. The output is ``h``.
    """

    kind: ClassVar[str] = "gru_ode"

    reset: Dense
    update: Dense
    detect: Dense
    unfolds: int = 4

    @property
    def inputs(self) -> int:
        return self.detect.inputs - self.detect.outputs

    @property
    def outputs(self) -> int:
        return self.neurons

    @property
    def neurons(self) -> int:
        return self.detect.outputs


@dataclass(frozen=True, eq=False)
class Rnn:
    """``h <- function(weight_x x + weight_h h + bias)``, the output; ``function`` is ``tanh`` or ``relu``."""

    kind: ClassVar[str] = "rnn"

    weight_x: F64
    weight_h: F64
    bias: F64
    function: str

    inputs = Extent("weight_x", 1)
    outputs = Extent("weight_x", 0)


@dataclass(frozen=True, eq=False)
class MixedMemory:
    """A cell with an LSTM as memory (Lechner & Hasani 2020).

    The memory reads ``x`` and the cell's state ``h``; its output replaces ``h`` before the cell steps on ``x``
    (``into`` = ``state``, ncps.torch), or is the cell's input instead of ``x`` (``into`` = ``input``, ncps.keras).
    """

    kind: ClassVar[str] = "mixed_memory"

    memory: Lstm
    cell: Layer
    into: str

    @property
    def inputs(self) -> int:
        return self.memory.inputs

    @property
    def outputs(self) -> int:
        return self.cell.outputs


@dataclass(frozen=True, eq=False)
class OdeRnn:
    """A gated cell whose ``h`` follows an ODE between inputs: ``dh/dt = flow(h)``, dense layers with tanh between them.

    ``first`` is ``ode``: h evolves over dt, then the cell reads x (ODE-RNN; Rubanova, Chen & Duvenaud 2019), or
    ``cell``: the cell reads x, then h evolves over dt (ODE-LSTM; Lechner & Hasani 2020). The output is the h that this
    leaves, and the next step goes on from it; an LSTM's ``c`` is that of the cell. ``unfolds`` steps of dt/unfolds with
    ``solver``, one of ``TABLEAUS``.
    """

    kind: ClassVar[str] = "ode_rnn"

    cell: Layer
    flow: tuple[Dense, ...]
    first: str
    unfolds: int = 3
    solver: str = "heun"

    @property
    def inputs(self) -> int:
        return self.cell.inputs

    @property
    def outputs(self) -> int:
        return self.cell.outputs


def cfc_problems(layer: Cfc) -> Problems:
    """Heads and gates that fit the backbone, and those that the mode needs."""
    for name, value, known in (("mode", layer.mode, MODES), ("activation", layer.activation, ACTIVATIONS),
                               ("head", layer.head, HEADS)):
        yield from one_of(name, value, known)
    yield from matrix("ff1.weight", layer.ff1.weight)
    if layer.backbone:
        yield from matrix("backbone 0.weight", layer.backbone[0].weight)
    n = layer.neurons
    if layer.inputs < 1:
        yield f"it takes {layer.inputs + n} values, not more than its {n} neurons give back: it has no input"
    width = layer.inputs + n
    for i, dense in enumerate(layer.backbone):
        yield from matrix(f"backbone {i}.weight", dense.weight)
        yield from dense_shape(f"backbone {i}", dense, dense.outputs, width)
        width = dense.outputs
    yield from dense_shape("ff1", layer.ff1, n, width)
    yield from _cfc_rest(layer, n, width)
    yield from _neurons(layer)


def _cfc_rest(layer: Cfc, n: int, width: int) -> Problems:
    if layer.mode == "pure":
        for name, vector in (("w_tau", layer.w_tau), ("a", layer.a)):
            yield from shape(name, np.zeros(0) if vector is None else vector, n)
        return
    for name, dense in (("ff2", layer.ff2), ("time_a", layer.time_a), ("time_b", layer.time_b)):
        yield from dense_shape(name, dense, n, width)


def _neurons(layer: Cfc) -> Problems:
    if len(layer.roles) != layer.neurons:
        yield f"roles: {len(layer.roles)} given for {layer.neurons} neurons"
    yield from identifiers(layer.names, layer.neurons, "neuron names")
    for role in layer.roles:
        yield from one_of("role", role, ROLES[1:])


def wired_cfc_problems(layer: WiredCfc) -> Problems:
    """Stages that fit each other, names that differ."""
    if not layer.stages:
        yield "has no stages; a wired CfC needs at least one"
    before: Cfc | None = None
    for i, stage in enumerate(layer.stages):
        yield from (f"stage {i}: {problem}" for problem in cfc_problems(stage))
        if before and stage.inputs != before.outputs:
            yield f"stage {i} takes {stage.inputs} values, but stage {i - 1} gives {before.outputs}"
        before = stage
    if before and layer.motors is not None and not 0 < layer.motors <= before.outputs:
        yield f"has {layer.motors} motor neurons, outside 1 to the {before.outputs} neurons of its last stage"
    names = [name for stage in layer.stages for name in stage.names]
    if len(set(names)) != len(names):
        yield "two of its neurons have the same name"


def _blocks(layer: Lstm | Gru, count: int) -> Problems:
    yield from matrix("weight_h", layer.weight_h)
    yield from matrix("weight_x", layer.weight_x)
    yield from shape("weight_h", layer.weight_h, count * layer.neurons, layer.neurons)
    yield from shape("weight_x", layer.weight_x, count * layer.neurons, layer.inputs)


def lstm_problems(layer: Lstm) -> Problems:
    """Four blocks of rows."""
    yield from _blocks(layer, 4)
    yield from shape("bias", layer.bias, 4 * layer.neurons)


def gru_problems(layer: Gru) -> Problems:
    """Three blocks of rows."""
    yield from _blocks(layer, 3)
    yield from shape("bias_x", layer.bias_x, 3 * layer.neurons)
    yield from shape("bias_h", layer.bias_h, 3 * layer.neurons)


def gru_ode_problems(layer: GruOde) -> Problems:
    """Three dense layers of one shape; at least one step."""
    yield from matrix("detect.weight", layer.detect.weight)
    width = layer.detect.inputs
    if layer.inputs < 1:
        yield f"detect takes {width} values, not more than its {layer.neurons} neurons give back: it has no input"
    for name, dense in (("reset", layer.reset), ("update", layer.update), ("detect", layer.detect)):
        yield from dense_shape(name, dense, layer.neurons, width)
    if layer.unfolds < 1:
        yield f"unfolds is {layer.unfolds}, expected at least 1"


def rnn_problems(layer: Rnn) -> Problems:
    """Matrices that fit, a known function."""
    yield from square(layer)
    yield from one_of("function", layer.function, ("tanh", "relu"))


def mixed_memory_problems(layer: MixedMemory) -> Problems:
    """A memory and a cell that fit each other."""
    yield from one_of("into", layer.into, ("state", "input"))
    yield from (f"memory: {problem}" for problem in lstm_problems(layer.memory))
    cell: Any = layer.cell
    if cell.kind not in ("ltc", "cfc", "wired_cfc"):
        yield f"its cell is of kind {cell.kind!r}; known are ltc, cfc, wired_cfc"
    elif cell.neurons != layer.memory.neurons:
        yield f"its memory has {layer.memory.neurons} neurons, but its cell {cell.neurons}"
    elif layer.cell.inputs != (cell.neurons if layer.into == "input" else layer.inputs):
        yield f"its cell takes {layer.cell.inputs} values, which is not what it is given"


def ode_rnn_problems(layer: OdeRnn) -> Problems:
    """A cell of torch.nn; dense layers that lead from its state to that state's rate of change; a known solver."""
    cell = layer.cell
    yield from one_of("cell", cell.kind, ("lstm", "gru", "rnn"))
    yield from one_of("first", layer.first, ("ode", "cell"))
    yield from steps(layer)
    if not layer.flow:
        yield "its flow has no dense layer; it needs at least one"
    width = cell.outputs
    for i, dense in enumerate(layer.flow):
        yield from matrix(f"flow {i}.weight", dense.weight)
        last = i == len(layer.flow) - 1
        yield from dense_shape(f"flow {i}", dense, cell.outputs if last else dense.outputs, width)
        width = dense.outputs


def steps(layer: Any) -> Problems:
    """A known method, at least one step."""
    yield from one_of("solver", layer.solver, tuple(TABLEAUS))
    if layer.unfolds < 1:
        yield f"unfolds is {layer.unfolds}, expected at least 1"
