"""The table of cells: one row for each kind; and those that ``ncpc.cells`` has as torch modules, as data.

Weights are (outputs, inputs). A cell reads its input ``x`` and its own state through separate matrices; ``dt`` is the
timespan in the unit of training. ``docs/cells.md`` gives each cell's equation and source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ncpc.ir.extents import Extent
from ncpc.ir.gated import Cfc, Gru, GruOde, Lstm, MixedMemory, OdeRnn, Rnn, WiredCfc, steps
from ncpc.ir.heads import LAYERS
from ncpc.ir.kinds import Kind
from ncpc.ir.policy import F64, Dense, Ltc
from ncpc.ir.problems import Problems, dense_shape, matrix, one_of, positive, shape, square

RATES = ("tanh", "sigmoid", "relu", "identity")


@dataclass(frozen=True, eq=False)
class CtRnn:
    """A continuous-time RNN: ``dh/dt = -h/tau + tanh(weight_x x + weight_h h + bias)``, the output is ``h``.

    ``unfolds`` steps of length ``step*dt`` with ``solver``, one of ``TABLEAUS``; ``clip`` > 0 limits ``h`` to [-clip,
    clip] after each. ``tau`` (neurons,). ``weight_h`` = 0 is the published default, without feedback.
    """

    kind: ClassVar[str] = "ct_rnn"

    weight_x: F64
    weight_h: F64
    bias: F64
    tau: F64
    unfolds: int = 6
    step: float = 0.1
    solver: str = "euler"
    clip: float = 0.0

    inputs = Extent("weight_x", 1)
    outputs = Extent("weight_x", 0)


@dataclass(frozen=True, eq=False)
class NeuralOde:
    """A neural ODE as a recurrent cell (Chen et al. 2018): ``dh/dt = tanh(weight_x x + weight_h h + bias)``.

    ``unfolds``, ``step``, ``solver``, ``clip`` as in ``CtRnn``; the output is ``h``.
    """

    kind: ClassVar[str] = "neural_ode"

    weight_x: F64
    weight_h: F64
    bias: F64
    unfolds: int = 6
    step: float = 0.1
    solver: str = "rk4"
    clip: float = 0.0

    inputs = Extent("weight_x", 1)
    outputs = Extent("weight_x", 0)


@dataclass(frozen=True, eq=False)
class CtGru:
    """A continuous-time GRU (Mozer et al. 2017) of ``neurons`` units with ``scales`` memory traces each.

    ``ln_tau`` (scales,) holds the logarithms of the time constants, ``decay`` (scales,) what a trace keeps over dt = 1.
    State: traces ``e`` (neurons, scales), flat; ``h = sum_k e_k``, also the output. ``retrieve`` and ``store`` give
    neurons*scales values from ``[x, h]``, ``detect`` neurons from ``[x, q]``:
    ``r = softmax_k(-(retrieve - ln_tau)**2)``, ``q = tanh(detect [x, sum_k r_k*e_k])``,
    ``s = softmax_k(-(store - ln_tau)**2)``, ``e <- (e + s*(q - e)) * decay**dt``. ``clip`` > 0 limits ``e`` to [-clip,
    clip].
    """

    kind: ClassVar[str] = "ct_gru"

    retrieve: Dense
    store: Dense
    detect: Dense
    ln_tau: F64
    decay: F64
    clip: float = 0.0

    @property
    def inputs(self) -> int:
        return self.detect.inputs - self.neurons

    @property
    def outputs(self) -> int:
        return self.neurons

    @property
    def neurons(self) -> int:
        return self.detect.outputs

    @property
    def scales(self) -> int:
        return int(self.ln_tau.shape[0])


@dataclass(frozen=True, eq=False)
class LeakyIntegrator:
    """Leaky integrators with look-ahead (Haider et al. 2021): ``tau du/dt = i - u``, rate of ``u + lookahead du/dt``.

    ``i = weight_x x + weight_h r + bias`` is held over a step, so ``u <- i + exp(-dt/tau)*(u - i)`` is exact;
    ``r <- function(u + (lookahead/tau)*(i - u))``, the output. ``function`` is ``tanh``, ``sigmoid``, ``relu`` or
    ``identity``; 0 <= ``lookahead`` <= ``tau``, both (neurons,), in the unit of dt.
    """

    kind: ClassVar[str] = "leaky_integrator"

    weight_x: F64
    weight_h: F64
    bias: F64
    tau: F64
    lookahead: F64
    function: str

    inputs = Extent("weight_x", 1)
    outputs = Extent("weight_x", 0)


@dataclass(frozen=True, eq=False)
class Lif:
    """Leaky integrate-and-fire neurons as NIR has them (Pedersen et al. 2024), by forward Euler.

    ``v <- v + (dt/tau)*((v_leak - v) + r*i)`` with ``i = weight_x x + weight_h s + bias`` and ``s`` the spikes of the
    step before; then ``s <- 1`` where ``v > v_threshold``, else 0, and ``v <- v_reset`` where it is 1. The output is
    ``s``; at reset ``v = v_reset`` and ``s = 0``. Vectors are (neurons,); ``v_threshold > v_reset``, ``tau >= dt``.
    """

    kind: ClassVar[str] = "lif"

    weight_x: F64
    weight_h: F64
    bias: F64
    tau: F64
    r: F64
    v_leak: F64
    v_threshold: F64
    v_reset: F64

    inputs = Extent("weight_x", 1)
    outputs = Extent("weight_x", 0)


@dataclass(frozen=True, eq=False)
class Lrc:
    """A liquid-resistance liquid-capacitance cell (Farsang, Neubauer & Grosu 2024).

    Over ``y = [x, h]`` and its synapses' ``s_ij = sigmoid(sigma_ij*(y_j - mu_ij))``, with
    ``f_i = gleak_i + sum_j w_ij*s_ij``, ``u_i = gleak_i + sum_j k_ij*s_ij`` and the elastance ``e = sigmoid(o)`` of
    ``o = elastance y``, or, where there is a ``shift`` >= 0, ``e = sigmoid(o + shift) - sigmoid(o - shift)``:
    ``dh/dt = e*(tanh(u)*vleak - sigmoid(f)*h)``, ``unfolds`` Euler steps of dt/unfolds. The output is ``h``.
    ``sigma``, ``mu``, ``w`` >= 0 and ``k`` are (neurons, inputs + neurons), ``gleak`` >= 0, ``vleak`` and ``shift``
    (neurons,). A synapse whose w and k are 0 is absent.
    """

    kind: ClassVar[str] = "lrc"

    sigma: F64
    mu: F64
    w: F64
    k: F64
    gleak: F64
    vleak: F64
    elastance: Dense
    shift: F64 | None = None
    unfolds: int = 1

    @property
    def inputs(self) -> int:
        return int(self.sigma.shape[1]) - self.outputs

    outputs = Extent("sigma", 0)


def _steps(layer: CtRnn | NeuralOde) -> Problems:
    yield from steps(layer)
    if not layer.step > 0:
        yield f"step is {layer.step:g}, expected a positive share of dt"
    if layer.clip < 0:
        yield f"clip is {layer.clip:g}, expected 0 (none) or more"


def ct_rnn_problems(layer: CtRnn) -> Problems:
    """Matrices that fit, time constants above 0, a known solver."""
    yield from square(layer)
    yield from _steps(layer)
    yield from shape("tau", layer.tau, layer.outputs)
    yield from positive("tau", layer.tau)


def neural_ode_problems(layer: NeuralOde) -> Problems:
    """Matrices that fit, a known solver."""
    yield from square(layer)
    yield from _steps(layer)


def ct_gru_problems(layer: CtGru) -> Problems:
    """Gates of one width; decays between 0 and 1."""
    yield from matrix("detect.weight", layer.detect.weight)
    if layer.ln_tau.ndim != 1 or layer.scales == 0:
        yield f"ln_tau has shape {layer.ln_tau.shape}, expected (scales,) with at least one scale"
    width, traces = layer.inputs + layer.neurons, layer.neurons * layer.scales
    if layer.inputs < 1:
        yield f"detect takes {width} values, not more than its {layer.neurons} neurons give back: it has no input"
    for name, dense, outputs in (("detect", layer.detect, layer.neurons), ("retrieve", layer.retrieve, traces),
                                 ("store", layer.store, traces)):
        yield from dense_shape(name, dense, outputs, width)
    yield from shape("decay", layer.decay, layer.scales)
    if np.any((layer.decay < 0) | (layer.decay > 1)):
        yield "decay holds values outside 0 to 1"
    if layer.clip < 0:
        yield f"clip is {layer.clip:g}, expected 0 (none) or more"


def leaky_integrator_problems(layer: LeakyIntegrator) -> Problems:
    """Matrices that fit; 0 <= lookahead <= tau."""
    yield from square(layer)
    yield from one_of("function", layer.function, RATES)
    yield from shape("tau", layer.tau, layer.outputs)
    yield from shape("lookahead", layer.lookahead, layer.outputs)
    yield from positive("tau", layer.tau)
    for i in np.flatnonzero((layer.lookahead < 0) | (layer.lookahead > layer.tau)):
        yield f"lookahead of neuron {i} is {layer.lookahead[i]:g}, outside 0 to its tau {layer.tau[i]:g}"


def lif_problems(layer: Lif) -> Problems:
    """Matrices that fit; thresholds above the reset potentials."""
    yield from square(layer)
    for name in ("tau", "r", "v_leak", "v_threshold", "v_reset"):
        yield from shape(name, getattr(layer, name), layer.outputs)
    yield from positive("tau", layer.tau)
    for i in np.flatnonzero(layer.v_threshold <= layer.v_reset):
        yield (f"v_threshold of neuron {i} is {layer.v_threshold[i]:g}, not above its v_reset {layer.v_reset[i]:g}: it "
               "would fire at every step")


def lrc_problems(layer: Lrc) -> Problems:
    """Matrices of one shape; w, gleak and shift of 0 or more."""
    yield from matrix("sigma", layer.sigma)
    width = layer.inputs + layer.outputs
    if layer.inputs < 1:
        yield f"sigma takes {width} values, not more than its {layer.outputs} neurons give back: it has no input"
    for name in ("mu", "w", "k"):
        yield from shape(name, getattr(layer, name), layer.outputs, width)
    for name, vector in (("gleak", layer.gleak), ("vleak", layer.vleak), ("shift", layer.shift)):
        yield from () if vector is None else shape(name, vector, layer.outputs)
    yield from dense_shape("elastance", layer.elastance, layer.outputs, width)
    for name, values in (("w", layer.w), ("gleak", layer.gleak), ("shift", layer.shift)):
        if values is not None and np.any(values < 0):
            yield f"{name} holds {values.min():g}, but it is never negative"
    if layer.unfolds < 1:
        yield f"unfolds is {layer.unfolds}, expected at least 1"


CELLS = (
    Kind(Ltc, "ncpc.passes.lower_ltc:lower_ltc", "ncpc.frontend.validate:ltc_problems",
         "ncpc.cells.ltc:LTC", "ncpc.frontend.ncps_torch:read_own_ltc"),
    Kind(Cfc, "ncpc.passes.lower_cfc:lower_cfc", "ncpc.ir.gated:cfc_problems"),
    Kind(WiredCfc, "ncpc.passes.lower_cfc:lower_wired_cfc", "ncpc.ir.gated:wired_cfc_problems"),
    Kind(Lstm, "ncpc.passes.lower_gates:lower_lstm", "ncpc.ir.gated:lstm_problems"),
    Kind(Gru, "ncpc.passes.lower_gates:lower_gru", "ncpc.ir.gated:gru_problems"),
    Kind(GruOde, "ncpc.passes.lower_gru_ode:lower_gru_ode", "ncpc.ir.gated:gru_ode_problems",
         "ncpc.cells.gru_ode:GruOde", "ncpc.cells.gru_ode:GruOde.layer"),
    Kind(Rnn, "ncpc.passes.lower_gates:lower_rnn", "ncpc.ir.gated:rnn_problems"),
    Kind(MixedMemory, "ncpc.passes.lower_mixed:lower_mixed_memory", "ncpc.ir.gated:mixed_memory_problems"),
    Kind(OdeRnn, "ncpc.passes.lower_ode_rnn:lower_ode_rnn", "ncpc.ir.gated:ode_rnn_problems",
         "ncpc.cells.ode_rnn:OdeRnn", "ncpc.frontend.torch_cells:read_ode_rnn"),
    Kind(CtRnn, "ncpc.passes.lower_ode:lower_ct_rnn", "ncpc.ir.cells:ct_rnn_problems",
         "ncpc.cells.ode:CtRnn", "ncpc.cells.ode:CtRnn.layer"),
    Kind(NeuralOde, "ncpc.passes.lower_ode:lower_neural_ode", "ncpc.ir.cells:neural_ode_problems",
         "ncpc.cells.ode:NeuralOde", "ncpc.cells.ode:NeuralOde.layer"),
    Kind(CtGru, "ncpc.passes.lower_ct_gru:lower_ct_gru", "ncpc.ir.cells:ct_gru_problems",
         "ncpc.cells.ct_gru:CtGru", "ncpc.cells.ct_gru:CtGru.layer"),
    Kind(LeakyIntegrator, "ncpc.passes.lower_ode:lower_leaky_integrator", "ncpc.ir.cells:leaky_integrator_problems",
         "ncpc.cells.leaky:LeakyIntegrator", "ncpc.cells.leaky:LeakyIntegrator.layer"),
    Kind(Lif, "ncpc.passes.lower_lif:lower_lif", "ncpc.ir.cells:lif_problems",
         "ncpc.cells.lif:LIF", "ncpc.cells.lif:LIF.layer"),
    Kind(Lrc, "ncpc.passes.lower_lrc:lower_lrc", "ncpc.ir.cells:lrc_problems",
         "ncpc.cells.lrc:LRC", "ncpc.cells.lrc:LRC.layer"),
)
"""Every cell: a layer that carries a state."""

KINDS = {row.name: row for row in (*CELLS, *LAYERS)}
"""Every kind of layer by its name: what can be stored in a container and lowered."""

RECURRENT = frozenset(row.name for row in CELLS)
"""The kinds of layers that carry a state."""
