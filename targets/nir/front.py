"""What of a policy the threshold lowering takes: ``Dense* [Activation] Ltc Dense* [Activation Dense*]``, as one record.

A thermometer code stands for *any* function of the one number it encodes, so an activation in front of the cell costs
nothing: the units watch its argument ``z = W x + b`` and stand for ``act(z)``. Linear layers behind the cell fold into
the readout, and so does an activation of single motor neurons. Everything else would need another layer of spikes and
is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.policy import Activation, Dense, Layer, Ltc, Policy
from ncpc.ir.wires import unlike_row
from ncpc.quant.inputs import input_ranges, reach

F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

LISTENING_BITS = 16
"""Beyond where a sigmoid is within 2**-16 of 0 or 1, an input changes nothing that a code could hold."""
FORM = "Dense* [Activation] Ltc Dense* [Activation Dense*]"
OTHERS = "use target 'nir-graded' (one node per layer) or 'c'"


def heard(policy: Policy) -> tuple[Policy, Bools]:
    """The policy with each input's range, and its calibration, limited to where the cell listens; which ends (inputs,
    2) are so, and saturate untold. See ``ncpc.quant.inputs``.
    """
    known, declared = input_ranges(policy, 2.0**-LISTENING_BITS), reach(policy)
    data = policy.calibration
    if data is not None:
        data = dataclasses.replace(data, x=np.clip(data.x, *known.range.T))
    return dataclasses.replace(policy, input_range=known.range, calibration=data), known.range != declared


@dataclass(frozen=True, eq=False)
class Readout:
    """``y = outer @ act(inner @ v[motor] + bias) + offset``: ``inner`` (terms, motor neurons), ``bias`` (terms,),
    ``outer`` (outputs, terms), ``offset`` (outputs,). Where there is an activation, a term has one neuron.
    """

    inner: F64
    bias: F64
    activation: str
    outer: F64
    offset: F64

    def __call__(self, motor: F64) -> F64:
        """(..., outputs) from states of the motor neurons (..., motor neurons)."""
        return np.asarray(self.terms(motor) @ self.outer.T + self.offset)

    def terms(self, motor: F64) -> F64:
        """(..., terms)."""
        return np.asarray(ACTIVATIONS[self.activation](motor @ self.inner.T + self.bias))

    def back(self, motor: F64, q: F64, h: float = 1e-4) -> F64:
        """The transposed Jacobian at ``motor`` on ``q`` (..., outputs): (..., motor neurons)."""
        at, act = motor @ self.inner.T + self.bias, ACTIVATIONS[self.activation]
        return np.asarray((q @ self.outer * (act(at + h) - act(at - h)) / (2.0 * h)) @ self.inner)


@dataclass(frozen=True, eq=False)
class Cell:
    """An LTC with what stands around it: ``z = weight @ x + bias``, ``u = act(z)*input_w + input_b``, the cell, the
    readout.

    ``weight`` (cell inputs, policy inputs), ``bias`` (cell inputs,); ``dt`` is the timespan compiled in.
    """

    weight: F64
    bias: F64
    activation: str
    ltc: Ltc
    readout: Readout
    dt: float

    def sensed(self, z: F64) -> F64:
        """What the sensory synapses see for ``z`` (..., cell inputs)."""
        u: F64 = ACTIVATIONS[self.activation](z) * self.ltc.input_w + self.ltc.input_b
        return u

    @property
    def cm_t(self) -> F64:
        """``cm * unfolds / dt``, (neurons,)."""
        return self.ltc.cm * self.ltc.unfolds / self.dt


def logistic(z: F64) -> F64:
    """``1/(1 + exp(-z))`` without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))


ACTIVATIONS: dict[str, Callable[[F64], F64]] = {
    "": lambda z: z,
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "sigmoid": logistic,
}


def cell_of(policy: Policy) -> Cell:
    """The policy as one Cell; raises Unsupported for layers or solvers that spikes cannot hold."""
    if branches := unlike_row(policy):
        raise Unsupported(f"target 'nir': {branches}; it takes {FORM}, each reading the one before it; {OTHERS}")
    where = [i for i, layer in enumerate(policy.layers) if isinstance(layer, Ltc)]
    if len(where) != 1:
        kinds = ", ".join(layer.kind for layer in policy.layers)
        raise Unsupported(f"target 'nir': {len(where)} ltc layers in [{kinds}]; it takes {FORM}; {OTHERS}")
    ltc = policy.layers[where[0]]
    assert isinstance(ltc, Ltc)
    if ltc.solver != "fused":
        raise Unsupported(f"target 'nir': solver '{ltc.solver}' multiplies two states; only 'fused' compares linearly; "
                          f"{OTHERS}")
    weight, bias, activation = _front(policy.layers[: where[0]], policy.inputs)
    return Cell(weight, bias, activation, ltc, _back(policy.layers[where[0] + 1 :], ltc), policy.dt.nominal)


def _front(layers: Sequence[Layer], width: int) -> tuple[F64, F64, str]:
    weight, bias, activation = np.eye(width), np.zeros(width), ""
    for layer in layers:
        if isinstance(layer, Dense) and not activation:
            weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
        elif isinstance(layer, Activation) and not activation and layer.function in ACTIVATIONS:
            activation = layer.function
        else:
            raise _refused(layer, "in front of")
    return weight, bias, activation


def _back(layers: Sequence[Layer], ltc: Ltc) -> Readout:
    weight, bias, after = np.diag(ltc.output_w), ltc.output_b.copy(), len(layers)
    for place, layer in enumerate(layers):
        if not isinstance(layer, Dense):
            after = place
            break
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    if after == len(layers):
        return Readout(np.eye(ltc.outputs), np.zeros(ltc.outputs), "", weight, bias)
    return _activated(layers[after:], weight, bias)


def _activated(layers: Sequence[Layer], inner: F64, bias: F64) -> Readout:
    """An activation of single motor neurons, and linear layers behind it."""
    first, outer, offset = layers[0], np.eye(len(bias)), np.zeros(len(bias))
    if not isinstance(first, Activation) or first.function not in ACTIVATIONS:
        raise _refused(first, "behind")
    if np.count_nonzero(inner, axis=1).max(initial=0) > 1:
        raise Unsupported(f"target 'nir': an activation of a sum of motor neurons needs more spikes; {OTHERS}")
    for layer in layers[1:]:
        if not isinstance(layer, Dense):
            raise _refused(layer, "behind")
        outer, offset = layer.weight @ outer, layer.weight @ offset + layer.bias
    return Readout(inner, bias, first.function, outer, offset)


def _refused(layer: Layer, place: str) -> Unsupported:
    what = f"layer '{layer.kind}' {place} the cell"
    return Unsupported(f"target 'nir': {what} needs more spikes; it takes {FORM}; {OTHERS}")
