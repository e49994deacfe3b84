"""Recurrent cells other than the LTC, as data. ``docs/cells.md`` gives each one's equation and source.

Weights are (outputs, inputs). A cell reads its input ``x`` and its own state through separate matrices; ``dt`` is the
timespan in the unit of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ncpc.ir.policy import F64, Dense, Layer


@dataclass(frozen=True, eq=False)
class Cfc:
    """A closed-form continuous-time cell (Hasani et al. 2022).

    ``z = backbone([x, h])`` (each layer followed by ``activation``), or ``[x, h]`` itself without a backbone. With
    ``f1 = head(ff1 z)``, ``f2 = head(ff2 z)``, ``t = sigmoid((time_a z)*dt + time_b z)``: mode ``default``
    ``h <- f1 + t*(f2 - f1)``, ``no_gate`` ``h <- f1 + t*f2``. Mode ``pure``:
    ``h <- a - a*exp(-dt*(|w_tau| + |ff1 z|))*(ff1 z)``, with ``w_tau``, ``a`` (neurons,). Output and state are ``h``.
    ``head`` is ``tanh`` (ncps.torch) or ``linear`` (ncps.keras); ``activation`` is ``lecun_tanh``
    (1.7159*tanh(0.666*z)), ``tanh``, ``relu``, ``silu`` or ``gelu``. Absent synapses have weight 0 in ff1 and ff2.
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

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return self.neurons

    @property
    def neurons(self) -> int:
        return int(self.weight_h.shape[1])


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

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return self.neurons

    @property
    def neurons(self) -> int:
        return int(self.weight_h.shape[1])


@dataclass(frozen=True, eq=False)
class Rnn:
    """``h <- function(weight_x x + weight_h h + bias)``, the output; ``function`` is ``tanh`` or ``relu``."""

    kind: ClassVar[str] = "rnn"

    weight_x: F64
    weight_h: F64
    bias: F64
    function: str

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight_x.shape[0])


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
class CtRnn:
    """A continuous-time RNN: ``dh/dt = -h/tau + tanh(weight_x x + weight_h h + bias)``, the output is ``h``.

    ``unfolds`` steps of length ``step*dt`` with ``solver`` ``euler`` or ``rk4``; ``clip`` > 0 limits ``h`` to [-clip,
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

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight_x.shape[0])


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

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight_x.shape[0])


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

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight_x.shape[0])


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

    @property
    def inputs(self) -> int:
        return int(self.weight_x.shape[1])

    @property
    def outputs(self) -> int:
        return int(self.weight_x.shape[0])


CELLS: tuple[type[Any], ...] = (
    Cfc, WiredCfc, Lstm, Gru, Rnn, MixedMemory, CtRnn, NeuralOde, CtGru, LeakyIntegrator, Lif)
"""Every cell of this module: what can be stored in a container."""

RECURRENT = ("ltc", *(str(cell.kind) for cell in CELLS))
"""The kinds of layers that carry a state."""
