"""The network as data: layers, each a frozen record of float64 arrays with exact semantics, and how they are wired.

A ``Policy`` says what was trained, sparse where the network is sparse, and nothing of how it will run.
What a layer computes is defined by its lowering (``ncpc.passes``) and the meaning of ops (``ncpc.semantics``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.extents import Extent
from ncpc.ir.kinds import load
from ncpc.ir.sequences import LATER, Sequences

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

ASSUMED = " (assumed, the library's default)"
ASSUMED_MEANS = ("nobody said which timespans the network was trained with, and it reads them: trained with others, it "
                 "computes something else")

COMPARED = {"forward": "the module's own forward", "file": "the ONNX file itself, run by ONNX Runtime",
            "parts": "its layers alone, one after the other", "nothing": "nothing"}
"""With what a policy was compared when it was saved (``Policy.compared``), as it is said."""
GUESSED = "The input range is guessed from calibration data, not declared"
"""How everything that shows such a range says so."""
ROLES = ("sensory", "inter", "command", "motor")


@runtime_checkable
class Layer(Protocol):
    """What every layer offers: its kind (the key of its lowering) and its widths."""

    kind: ClassVar[str]

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Synapses:
    """Synapses as parallel vectors of length S, sorted by ``post`` (then ``pre``).

    ``pre`` indexes inputs (sensory) or neurons (recurrent), ``post`` neurons. ``w >= 0`` is the maximum
    conductance, ``sigma`` and ``mu`` slope and centre of the sigmoid, ``erev`` the reversal potential.
    """

    pre: I64
    post: I64
    w: F64
    sigma: F64
    mu: F64
    erev: F64

    def __len__(self) -> int:
        return int(self.pre.shape[0])


@dataclass(frozen=True, eq=False)
class Ltc:
    """A liquid time-constant layer (Hasani et al. 2021; Lechner et al. 2020), softplus constraints folded in.

    One step: ``u = x*input_w + input_b``; ``unfolds`` times, all neurons at once,
    ``v <- (cm_t*v + gleak*vleak + num + num_s) / (cm_t + gleak + den + den_s + epsilon)`` with
    ``cm_t = cm*unfolds/dt``; ``y = v[:outputs]*output_w + output_b``. ``cm``, ``gleak``, ``vleak`` have shape
    (neurons,); ``input_w``, ``input_b`` (inputs,); ``output_w``, ``output_b`` (outputs,). Motor neurons come first.
    ``solver`` is ``fused`` (the semi-implicit step above), ``exponential`` (exponential Euler: with target and rate of
    the membrane equation held, ``v <- v_inf + (v - v_inf)*exp(-(dt/unfolds)*den/cm)``, ``v_inf = num/den``), or one of
    ``TABLEAUS``.
    """

    kind: ClassVar[str] = "ltc"

    sensory: Synapses
    recurrent: Synapses
    cm: F64
    gleak: F64
    vleak: F64
    input_w: F64
    input_b: F64
    output_w: F64
    output_b: F64
    roles: tuple[str, ...]
    names: tuple[str, ...]
    unfolds: int = 6
    epsilon: float = 1e-8
    solver: str = "fused"

    inputs = Extent("input_w", 0)
    outputs = Extent("output_w", 0)
    neurons = Extent("cm", 0)


@dataclass(frozen=True, eq=False)
class Dense:
    """``y = weight @ x + bias``; ``weight`` (outputs, inputs), ``bias`` (outputs,)."""

    kind: ClassVar[str] = "dense"

    weight: F64
    bias: F64

    inputs = Extent("weight", 1)
    outputs = Extent("weight", 0)


@dataclass(frozen=True, eq=False)
class Activation:
    """An elementwise function over ``width`` values.

    ``relu``, ``tanh``, ``sigmoid``, ``silu`` (x*sigmoid(x)), ``gelu`` (x*Phi(x)), ``exp``, ``abs``, ``softplus``
    (ln(1 + e**x)); with ``parameters``: ``leaky_relu`` (slope: slope*x below 0), ``elu`` (alpha, scale: scale*x, below
    0 scale*alpha*(e**x - 1)), ``hardtanh`` (lo, hi: x limited to them), ``hard_sigmoid`` (slope: slope*x + 1/2 limited
    to [0, 1]), ``hard_silu`` (x times that).
    """

    kind: ClassVar[str] = "activation"

    function: str
    width: int
    parameters: tuple[float, ...] = ()

    inputs = Extent("width")
    outputs = Extent("width")


@dataclass(frozen=True)
class DtRange:
    """The timespans a policy may meet, in the unit it was trained with (ncps: 1.0 unless timespans are given).

    ``assumed``: nobody said so, and it matters, since a cell reads dt; it is the library's default.
    """

    lo: float = 1.0
    hi: float = 1.0
    nominal: float = 1.0
    assumed: bool = field(default=False, metadata=LATER)

    @property
    def fixed(self) -> bool:
        return self.lo == self.hi

    @property
    def mode(self) -> Literal["fixed", "runtime"]:
        """How timespans reach a program where nothing else is asked for: compiled in where only one is known."""
        return "fixed" if self.fixed else "runtime"

    @property
    def words(self) -> str:
        """``dt 0.02 to 0.12``, or with whose word it is: ``dt 1.0 (assumed, the library's default)``."""
        span = f"{self.nominal}" if self.fixed else f"{self.lo:g} to {self.hi:g}"
        return f"dt {span}{ASSUMED if self.assumed else ''}"


INPUT = -1
"""The source of a tap on the policy's own inputs."""


@dataclass(frozen=True)
class Tap:
    """Channels ``start`` to ``stop`` (excluded) of what ``source`` gives: a layer's position, or ``INPUT``."""

    source: int
    start: int
    stop: int

    @property
    def width(self) -> int:
        return self.stop - self.start


Taps = tuple[Tap, ...]
"""Channels, one tap's after another's: what a layer reads."""


@dataclass(frozen=True, eq=False)
class InitialState:
    """The state that a layer has at first and after a reset, where that is not 0: all its states, one after another."""

    layer: int
    values: F64


@dataclass(frozen=True)
class ChannelGroup:
    """Inputs or outputs that belong together under a name: ``shape`` is that of one step, channels in C order."""

    name: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True, eq=False)
class Policy:
    """A trained network: layers in order, the ranges it was declared for, and where it came from.

    ``wires`` is empty where each layer reads what the one before it gives: a row. Else it holds the taps of every
    layer, on the inputs or on layers before it, and last those of the outputs. ``initial`` are states that are not 0
    at first. ``input_groups`` and ``output_groups`` name the parts of inputs and outputs that a module of the user's
    tells apart: a frame and a speed, an action and a value; empty where it does not.

    ``input_range`` is (inputs, 2) float64, lower and upper bound per channel in physical units: declared, a promise, or
    guessed from the calibration (``range_guessed``; None where nobody recorded it and it does not look so), no promise:
    inputs may well lie beyond it. ``calibration``
    holds the sequences given at save time, or None. ``provenance`` is free JSON (library versions, source).
    ``meaning`` is that of the outputs: ``values``, or ``logits`` of a classifier, of which the largest is what matters.
    ``compared`` is with what it was compared when it was saved, one of ``COMPARED``, None where nobody recorded it.
    """

    name: str
    layers: tuple[Layer, ...]
    input_range: F64
    dt: DtRange = DtRange()
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    calibration: Sequences | None = None
    sample_hz: float | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)
    meaning: str = field(default="values", metadata=LATER)
    range_guessed: bool | None = field(default=None, metadata=LATER)
    compared: str | None = field(default=None, metadata=LATER)
    wires: tuple[Taps, ...] = field(default=(), metadata=LATER)
    initial: tuple[InitialState, ...] = field(default=(), metadata=LATER)
    input_groups: tuple[ChannelGroup, ...] = field(default=(), metadata=LATER)
    output_groups: tuple[ChannelGroup, ...] = field(default=(), metadata=LATER)

    @property
    def inputs(self) -> int:
        return len(self.input_range) if self.wires else self.layers[0].inputs

    @property
    def outputs(self) -> int:
        return sum(tap.width for tap in self.wires[-1]) if self.wires else self.layers[-1].outputs

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return str(load("ncpc.report.notebook:policy_html")(self))


@dataclass(frozen=True)
class Caution:
    """Something that nobody said or looked at: what, what that means, and what to do."""

    what: str
    means: str
    remedy: str


def cautions(dt: DtRange, compared: str | None) -> tuple[Caution, ...]:
    """What every table, report and header of a policy has to say of it."""
    found = (
        (dt.assumed, Caution(dt.words, ASSUMED_MEANS, "save the policy with dt=")),
        (compared == "parts", Caution(
            f"compared with {COMPARED['parts']}", "what a module's forward does between them, nobody looked at",
            "save the policy with like=module")),
        (compared == "nothing", Caution(
            f"compared with {COMPARED['nothing']}", "no module was at hand that computes what was trained",
            "save the policy with like=module, or record outputs as y")),
    )
    return tuple(caution for holds, caution in found if holds)
