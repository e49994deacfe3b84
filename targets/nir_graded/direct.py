"""Layers that NIR has: convolutions, average pooling, linear layers, leaky integrators with identity readout and leaky
integrate-and-fire neurons, in float32, one tick per step.

``u <- i + exp(-dt/tau)*(u - i)`` with ``i = W_x x + W_h r + b`` is what forward Euler makes of a LI node whose
``tau`` is ``tick / (1 - exp(-dt/tau))``; its feedback ``W_h`` runs around a cycle and arrives one tick later, as r.
A LIF node is written in the units of its lowering, ``r = 1``, ``v_leak = v_reset = 0``, ``v_threshold = 1``: neurons
then differ in ``tau`` at most, and simulators that ignore or refuse the rest read it right. Its cycle has three nodes,
as that of target ``nir`` has, and for the same reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.cells import LeakyIntegrator, Lif
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.policy import Dense, Layer, Policy
from ncpc.ir.wires import unlike_row
from ncpc.passes.lower_lif import scaled
from ncpc.targets.nir.graph import TAU_S, TICK_S, library
from ncpc.targets.nir_graded.frames import F32, channels_first, frame_node, frame_shape, one_row

I64 = NDArray[np.int64]
FRAMES = (Conv2d, Pool)
FLATTEN = "flatten"
STATE, HOLD, BACK = "_state", "_hold", "_back"
"""Ends of names: the node with a state, and the nodes on the way from its output back to its input."""
INSTEAD = {
    "ltc": "use --quant int16 for an LTC, target 'nir' for thresholds, or target 'c'",
    "activation": "NIR has no such function; leave it out and train again, or use target 'c'",
    "softmax": "take its arguments as the policy's outputs, whose order is the same, or use target 'c'",
    "leaky_integrator": "retrain with an identity readout and no look-ahead, or use target 'c'",
}
"""By kind of layer."""

FORM = ("dense layers, convolutions, average pooling, lif and leaky integrators with identity readout and no "
        "look-ahead")


@dataclass(frozen=True)
class Subgraph:
    """What one layer becomes: nodes by name, edges among them, the first and the last node."""

    nodes: dict[str, Any]
    wires: tuple[tuple[str, str], ...]
    first: str
    last: str


def direct_graph(policy: Policy) -> Any:
    """The policy as standard nodes; raises Unsupported for a layer that NIR has no node for."""
    nir = library()
    parts = _parts(nir, policy)
    nodes = {"input": nir.Input(input_type={"input": np.array(_input_shape(policy))})}
    edges, last = [], "input"
    for part in parts:
        nodes |= part.nodes
        edges += [(last, part.first), *part.wires]
        last = part.last
    nodes["output"] = nir.Output(output_type={"output": np.array([policy.outputs])})
    return nir.NIRGraph(nodes, [*edges, (last, "output")])


def input_order(policy: Policy) -> I64:
    """Where in the policy's inputs each input of the graph is: frames are flat (C, H, W) in the graph."""
    first = policy.layers[0]
    if not isinstance(first, FRAMES):
        return np.arange(policy.inputs)
    w = first.windows
    return channels_first(w.height, w.width, w.channels, w.layout)


def _input_shape(policy: Policy) -> tuple[int, ...]:
    first = policy.layers[0]
    return frame_shape(first.windows) if isinstance(first, FRAMES) else (policy.inputs,)


def _parts(nir: Any, policy: Policy) -> list[Subgraph]:
    """Layers over frames first, then one Flatten, then the flat ones, the first of which reads (C, H, W)."""
    if branches := unlike_row(policy):
        raise Unsupported(f"target 'nir-graded': {branches}, and NIR's own nodes are written one behind the other from "
                          "rest; give --quant int16 for graded nodes, or use target 'c'")
    frames: list[Any] = list(takewhile(lambda layer: isinstance(layer, FRAMES), policy.layers))
    parts = [_framed(nir, layer, f"layer{k}") for k, layer in enumerate(frames)]
    _require_one_kind(frames)
    order = None
    if frames:
        w, channels = frames[-1].windows, _channels(frames[-1])
        shape = (channels, w.cols) if one_row(w) else (channels, w.rows, w.cols)
        flat = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0)
        parts.append(Subgraph({FLATTEN: flat}, (), FLATTEN, FLATTEN))
        order = channels_first(w.rows, w.cols, channels, w.layout)
        _require_readable(frames, policy, order)
    for k, layer in enumerate(policy.layers[len(frames):], len(frames)):
        parts.append(_mapped(nir, layer, f"layer{k}", policy.dt.nominal, order))
        order = None
    return parts


def _framed(nir: Any, layer: Any, name: str) -> Subgraph:
    return Subgraph({name: frame_node(nir, layer, name)}, (), name, name)


def _channels(layer: Any) -> int:
    return int(layer.filters) if isinstance(layer, Conv2d) else int(layer.windows.channels)


def _require_one_kind(frames: Sequence[Any]) -> None:
    if len({one_row(layer.windows) for layer in frames}) > 1:
        raise Unsupported("target 'nir-graded': layers along one row beside layers over frames: NIR's nodes for them "
                          "do not fit together; use target 'c'")


def _require_readable(frames: Sequence[Any], policy: Policy, order: I64) -> None:
    if len(frames) == len(policy.layers) and not np.array_equal(order, np.arange(len(order))):
        raise Unsupported("target 'nir-graded': the last layer leaves a frame whose channels come last, NIR's come "
                          "first; put a dense layer after it, or use target 'c'")


def _mapped(nir: Any, layer: Layer, name: str, dt: float, order: I64 | None) -> Subgraph:
    """A flat layer. ``order`` says where in its inputs each value that reaches it is; None: they come as they are."""
    if isinstance(layer, Dense):
        return Subgraph({name: nir.Affine(weight=_read(layer.weight, order), bias=_single(layer.bias))}, (), name, name)
    if isinstance(layer, LeakyIntegrator) and layer.function == "identity" and not np.any(layer.lookahead):
        return _li(nir, layer, name, dt, order)
    if isinstance(layer, Lif):
        return _lif(nir, layer, name, dt, order)
    raise Unsupported(f"target 'nir-graded': layer '{layer.kind}' is none of {FORM}; {_instead(layer)}")


def _li(nir: Any, layer: LeakyIntegrator, name: str, dt: float, order: I64 | None) -> Subgraph:
    ones = np.ones(layer.outputs, np.float32)
    tau = _single(TICK_S / -np.expm1(-dt / layer.tau))
    state, back = f"{name}{STATE}", f"{name}{BACK}"
    nodes = {name: nir.Affine(weight=_read(layer.weight_x, order), bias=_single(layer.bias)),
             state: nir.LI(tau=tau, r=ones, v_leak=0 * ones), back: nir.Linear(weight=_single(layer.weight_h))}
    return Subgraph(nodes, ((name, state), (state, back), (back, state)), name, state)


def _lif(nir: Any, layer: Lif, name: str, dt: float, order: I64 | None) -> Subgraph:
    """Edges of the cycle come first: Norse walks the graph depth first and takes what it meets last for the output."""
    units, ones = scaled(layer), np.ones(layer.outputs, np.float32)
    tau = np.maximum(_single(TICK_S * layer.tau / dt), TAU_S)
    state, hold, back = f"{name}{STATE}", f"{name}{HOLD}", f"{name}{BACK}"
    nodes = {name: nir.Affine(weight=_read(units.weight_x, order), bias=_single(units.bias)),
             state: nir.LIF(tau=tau, r=ones, v_leak=0 * ones, v_reset=0 * ones, v_threshold=ones)}
    if not np.any(layer.weight_h):
        return Subgraph(nodes, ((name, state),), name, state)
    nodes |= {hold: nir.Linear(weight=np.eye(layer.outputs, dtype=np.float32)),
              back: nir.Linear(weight=_single(units.weight_h))}
    return Subgraph(nodes, ((name, state), (state, hold), (hold, back), (back, state)), name, state)


def is_feedback(name: str) -> bool:
    """Whether a node lies on the way back from a state to its input."""
    return name.endswith((HOLD, BACK))


def _instead(layer: Layer) -> str:
    """The nearest alternative to a layer that NIR has no node for."""
    if isinstance(layer, FRAMES):
        return "NIR cannot make a frame of a flat layer's values; put it first, or use target 'c'"
    return INSTEAD.get(layer.kind, "use --quant int16 for a graded node, or target 'c'")


def _read(weight: NDArray[np.float64], order: I64 | None) -> F32:
    return _single(weight if order is None else weight[:, order])


def _single(x: NDArray[np.float64]) -> F32:
    return np.asarray(x, np.float32)
