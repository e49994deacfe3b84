"""What of a policy the threshold lowering takes: ``Dense* [Activation] Ltc Dense*``, folded to one record.

A thermometer code stands for *any* function of the one number it encodes, so an activation in front of the cell costs
nothing: the units watch its argument ``z = W x + b`` and stand for ``act(z)``. Linear layers behind the cell fold into
the readout. Everything else would need another layer of spikes and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.policy import Activation, Dense, Layer, Ltc, Policy

F64 = NDArray[np.float64]

FORM = "Dense* [Activation] Ltc Dense*"


@dataclass(frozen=True, eq=False)
class Cell:
    """An LTC with what stands around it: ``z = weight @ x + bias``, ``u = act(z)*input_w + input_b``, the cell,
    ``y = readout @ v[motor] + offset``.

    ``weight`` (cell inputs, policy inputs), ``bias`` (cell inputs,), ``readout`` (policy outputs, motor neurons),
    ``offset`` (policy outputs,); ``dt`` is the timespan compiled in.
    """

    weight: F64
    bias: F64
    activation: str
    ltc: Ltc
    readout: F64
    offset: F64
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
    where = [i for i, layer in enumerate(policy.layers) if isinstance(layer, Ltc)]
    if len(where) != 1:
        kinds = ", ".join(layer.kind for layer in policy.layers)
        raise Unsupported(f"target 'nir': {len(where)} ltc layers in [{kinds}]; it takes {FORM}; use target 'c'")
    ltc = policy.layers[where[0]]
    assert isinstance(ltc, Ltc)
    if ltc.solver != "fused":
        raise Unsupported(f"target 'nir': solver '{ltc.solver}' multiplies two states; only 'fused' compares linearly")
    weight, bias, activation = _front(policy.layers[: where[0]], policy.inputs)
    readout, offset = _back(policy.layers[where[0] + 1 :], ltc)
    return Cell(weight, bias, activation, ltc, readout, offset, policy.dt.nominal)


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


def _back(layers: Sequence[Layer], ltc: Ltc) -> tuple[F64, F64]:
    readout, offset = np.diag(ltc.output_w), ltc.output_b.copy()
    for layer in layers:
        if not isinstance(layer, Dense):
            raise _refused(layer, "behind")
        readout, offset = layer.weight @ readout, layer.weight @ offset + layer.bias
    return readout, offset


def _refused(layer: Layer, place: str) -> Unsupported:
    return Unsupported(f"target 'nir': layer '{layer.kind}' {place} the cell needs more spikes; it takes {FORM}")
