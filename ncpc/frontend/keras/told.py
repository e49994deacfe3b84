"""The kinds of layers that an architecture may name: what each holds, and what must be told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ncpc.frontend.keras.layers import NOTHING
from ncpc.frontend.keras.model import CFC, LTC, WIRED
from ncpc.ir.gated import ACTIVATIONS
from ncpc.ir.tableau import TABLEAUS

NEEDED: Any = object()
ADAPTIVE = "dopri5"
"""A solver that chooses its steps as it runs (Dormand & Prince 1980): a fixed one takes its place."""


@dataclass(frozen=True)
class LayerOption:
    """``valid`` tells whether a value can be one, ``words`` say which can; ``default`` where it may be left out.

    ``likely`` is what a draft of an architecture proposes, the default of the library that has this layer.
    """

    words: str
    valid: Callable[[Any], bool]
    default: Any = NEEDED
    likely: str = '"?"'


@dataclass(frozen=True)
class ToldKind:
    """``read_as`` is the kind that a reader knows. ``shapes``: sizes of each weight by its name, as in ``i 4u``; a
    name with ``?`` may be missing. A size is a number, a letter (``i`` is the width of the input), or a sum of such.
    """

    read_as: str
    options: Mapping[str, LayerOption] = field(default_factory=dict)
    shapes: Mapping[str, str] = field(default_factory=dict)
    memory: bool = False

    @property
    def holds(self) -> bool:
        """Whether a layer of this kind has weights in the file."""
        return bool(self.shapes)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_pair(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, list) and len(value) == 2 and all(map(_is_whole, value)))


def _one_of(*known: Any, **more: Any) -> LayerOption:
    return LayerOption(f"one of {', '.join(map(str, known))}", lambda value: value in known, **more)


def _pair(**more: Any) -> LayerOption:
    return LayerOption("a whole number or two ([rows, columns])", _is_pair, **more)


def _whole(**more: Any) -> LayerOption:
    return LayerOption("a whole number of 1 or more", _is_whole, **more)


def _number(least: float | None = None, **more: Any) -> LayerOption:
    words = "a number" if least is None else f"a number of {least:g} or more"
    return LayerOption(words, lambda value: _is_number(value) and (least is None or value >= least), **more)


FUNCTION = LayerOption("the name of an activation (linear, relu, tanh, ...)", lambda value: isinstance(value, str))
PADDING = _one_of("valid", "same")
WIRING = LayerOption("a table with kind (NCP, AutoNCP, FullyConnected, Random) and the arguments of that class",
                     lambda value: isinstance(value, dict))
MAYBE_WIRING = LayerOption(WIRING.words, WIRING.valid, default=None)
CONV = {"strides": _pair(), "padding": PADDING, "activation": FUNCTION, "dilation_rate": _pair(default=1)}
POOL = {"pool_size": _pair(), "strides": _pair(default=None), "padding": PADDING}
MODE = _one_of("default", "no_gate", likely='"default"')
BACKBONE = _one_of("silu", "relu", "tanh", "lecun")
CELL_FUNCTION = _one_of(*ACTIVATIONS, likely='"lecun_tanh"')
_LTC_SHAPES = {
    "gleak": "u", "vleak": "u", "cm": "u", "sigma": "u u", "mu": "u u", "w": "u u", "erev": "u u",
    "sensory_sigma": "i u", "sensory_mu": "i u", "sensory_w": "i u", "sensory_erev": "i u",
    "input_w?": "i", "input_b?": "i", "output_w?": "o", "output_b?": "o",
}
_HEADS = {"ff1_bias": "u", "ff1_weight": "z u", "ff2_weight": "z u", "ff2_bias": "u", "time_a/kernel": "z u",
          "time_a/bias": "u", "time_b/kernel": "z u", "time_b/bias": "u"}
_MEMORY = {"memory/recurrent_kernel": "u 4u", "memory/input_kernel": "i 4u", "memory/bias": "4u"}

KINDS: dict[str, ToldKind] = {
    "Conv2D": ToldKind("Conv2D", CONV, {"kernel": "h w i f", "bias?": "f"}),
    "Dense": ToldKind("Dense", {"activation": FUNCTION}, {"kernel": "i u", "bias?": "u"}),
    "LTCCell": ToldKind(LTC, {
        "unfolds": _whole(likely="6"), "epsilon": _number(0.0, default=1e-8), "wiring": MAYBE_WIRING,
        "outputs": _whole(default=None), "timespan_added": _number(0.0, default=0.0)}, _LTC_SHAPES),
    "CfcCell": ToldKind(CFC, {"backbone_activation": BACKBONE, "mode": MODE}, _HEADS),
    "MixedCfcCell": ToldKind(CFC, {
        "backbone_activation": BACKBONE, "mode": MODE, "forget_bias": _number(),
        "timespan": _one_of("zero", "dt", likely='"zero"')}, {**_MEMORY, **_HEADS}, memory=True),
    "WiredCfcCell": ToldKind(WIRED, {"mode": MODE, "wiring": WIRING}, {"wired": ""}),
    "CfCCell": ToldKind(CFC, {"activation": CELL_FUNCTION, "mode": MODE}, _HEADS),
    "CTRNNCell": ToldKind("ScaledCtRnn", {
        "tau": _number(0.0, likely="1.0"), "solver": _one_of(*TABLEAUS, ADAPTIVE, likely='"rk4"'),
        "unfolds": _whole(default=None, likely="8")},
        {"recurrent_kernel": "u u", "kernel": "i u", "bias": "u", "scale": "u"}),
    "GRUODE": ToldKind("ToldGruOde", {"unfolds": _whole(likely="4")}, {
        f"{gate}/{part}": sizes for gate in ("reset", "detect", "update")
        for part, sizes in (("bias", "u"), ("kernel", "i+u u"))}),
    "LSTM": ToldKind("LSTMCell", {}, {"recurrent_kernel": "u 4u", "kernel": "i 4u", "bias?": "4u"}),
    "GRU": ToldKind("GRUCell", {}, {"recurrent_kernel": "u 3u", "kernel": "i 3u", "bias?": "2 3u"}),
    "SimpleRNN": ToldKind("SimpleRNNCell", {"activation": FUNCTION},
                          {"recurrent_kernel": "u u", "kernel": "i u", "bias?": "u"}),
    "Normalization": ToldKind("Normalization", {}, {"mean": "i", "variance": "i"}),
    "BatchNormalization": ToldKind("BatchNormalization", {"epsilon": _number(0.0, likely="0.001")}, {
        "gamma?": "i", "beta?": "i", "moving_mean": "i", "moving_variance": "i"}),
    "Rescaling": ToldKind("Rescaling", {"scale": _number(), "offset": _number(default=0.0)}),
    "MaxPooling2D": ToldKind("MaxPooling2D", POOL), "AveragePooling2D": ToldKind("AveragePooling2D", POOL),
    "GlobalMaxPooling2D": ToldKind("GlobalMaxPooling2D"),
    "GlobalAveragePooling2D": ToldKind("GlobalAveragePooling2D"),
    "Flatten": ToldKind("Flatten"), "Activation": ToldKind("Activation", {"activation": FUNCTION}),
    **{kind: ToldKind(kind) for kind in NOTHING},
}
"""``LTCCell``: keras-ncp, ncps.tf, and with a ``timespan_added`` of 0.001 that of the code published with the CfC
(github.com/raminmh/CfC). ``CfcCell`` and ``MixedCfcCell`` are from its tf_cfc.py, ``CTRNNCell`` and ``GRUODE`` from its
node_cell.py. ``WiredCfcCell`` is keras-ncp's and ncps.tf's, ``CfCCell`` ncps.tf's.
"""
