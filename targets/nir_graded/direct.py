"""Layers that NIR has: convolutions, average pooling, linear layers and leaky integrators with identity readout, in
float32, one tick per step.

``u <- i + exp(-dt/tau)*(u - i)`` with ``i = W_x x + W_h r + b`` is what forward Euler makes of a LI node whose
``tau`` is ``tick / (1 - exp(-dt/tau))``; its feedback ``W_h`` runs around a cycle and arrives one tick later, as r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.cells import LeakyIntegrator
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.policy import Dense, Layer, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import ports
from ncpc.targets.nir.graph import TICK_S, library
from ncpc.targets.nir_graded.frames import F32, channels_first, frame_node, frame_shape, one_row, run_frame

I64 = NDArray[np.int64]
FRAMES = (Conv2d, Pool)
FLATTEN = "flatten"
INSTEAD = {
    "ltc": "use --quant int16 for an LTC, target 'nir' for thresholds, or target 'c'",
    "activation": "NIR has no such function; leave it out and train again, or use target 'c'",
    "softmax": "take its arguments as the policy's outputs, whose order is the same, or use target 'c'",
    "leaky_integrator": "retrain with an identity readout and no look-ahead, or use target 'c'",
}
"""By kind of layer."""

FORM = "dense layers, convolutions, average pooling and leaky integrators with identity readout and no look-ahead"


@dataclass(frozen=True)
class Part:
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


def _parts(nir: Any, policy: Policy) -> list[Part]:
    """Layers over frames first, then one Flatten, then the flat ones, the first of which reads (C, H, W)."""
    frames: list[Any] = list(takewhile(lambda layer: isinstance(layer, FRAMES), policy.layers))
    parts = [_framed(nir, layer, f"layer{k}") for k, layer in enumerate(frames)]
    _require_one_kind(frames)
    order = None
    if frames:
        w, channels = frames[-1].windows, _channels(frames[-1])
        shape = (channels, w.cols) if one_row(w) else (channels, w.rows, w.cols)
        flat = nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0)
        parts.append(Part({FLATTEN: flat}, (), FLATTEN, FLATTEN))
        order = channels_first(w.rows, w.cols, channels, w.layout)
        _require_readable(frames, policy, order)
    for k, layer in enumerate(policy.layers[len(frames):], len(frames)):
        parts.append(_mapped(nir, layer, f"layer{k}", policy.dt.nominal, order))
        order = None
    return parts


def _framed(nir: Any, layer: Any, name: str) -> Part:
    return Part({name: frame_node(nir, layer, name)}, (), name, name)


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


def _mapped(nir: Any, layer: Layer, name: str, dt: float, order: I64 | None) -> Part:
    """A flat layer. ``order`` says where in its inputs each value that reaches it is; None: they come as they are."""
    if isinstance(layer, Dense):
        return Part({name: nir.Affine(weight=_read(layer.weight, order), bias=_single(layer.bias))}, (), name, name)
    if isinstance(layer, LeakyIntegrator) and layer.function == "identity" and not np.any(layer.lookahead):
        ones = np.ones(layer.outputs, np.float32)
        tau = _single(TICK_S / -np.expm1(-dt / layer.tau))
        state, back = f"{name}_state", f"{name}_back"
        nodes = {name: nir.Affine(weight=_read(layer.weight_x, order), bias=_single(layer.bias)),
                 state: nir.LI(tau=tau, r=ones, v_leak=0 * ones), back: nir.Linear(weight=_single(layer.weight_h))}
        return Part(nodes, ((name, state), (state, back), (back, state)), name, state)
    raise Unsupported(f"target 'nir-graded': layer '{layer.kind}' is none of {FORM}; {_instead(layer)}")


def _instead(layer: Layer) -> str:
    """The nearest alternative to a layer that NIR has no node for."""
    if isinstance(layer, FRAMES):
        return "NIR cannot make a frame of a flat layer's values; put it first, or use target 'c'"
    return INSTEAD.get(layer.kind, "use target 'c'")


def _read(weight: NDArray[np.float64], order: I64 | None) -> F32:
    return _single(weight if order is None else weight[:, order])


def _single(x: NDArray[np.float64]) -> F32:
    return np.asarray(x, np.float32)


@dataclass
class Chain:
    """A direct graph at work on a batch: forward Euler in float32, one tick per step. ``u`` name -> (B, n)."""

    nodes: dict[str, Any]
    order: list[str]
    reads: I64
    u: dict[str, F32] = field(default_factory=dict)

    def step(self, x: F32) -> F32:
        """Outputs (B, outputs) for ``x`` (B, inputs)."""
        value = x[:, self.reads].reshape(len(x), *self.nodes["input"].input_type["input"])
        for name in self.order:
            value = self._through(name, value)
        return np.asarray(value, np.float32)

    def _through(self, name: str, value: F32) -> F32:
        node = self.nodes[name]
        if name == FLATTEN:
            return value.reshape(len(value), -1)
        if value.ndim > 2:
            return run_frame(node, value)
        value = value @ node.weight.T + node.bias
        if f"{name}_state" not in self.nodes:
            return value
        return self._integrated(f"{name}_state", value, self.nodes[f"{name}_back"].weight)

    def _integrated(self, name: str, current: F32, back: F32) -> F32:
        node, u = self.nodes[name], self.u.get(name, np.zeros_like(current))
        drive = node.r * (current + u @ back.T)
        self.u[name] = u + np.float32(TICK_S) / node.tau * ((node.v_leak - u) + drive)
        return self.u[name]

    def reset(self, rows: NDArray[np.bool_]) -> None:
        """Put ``rows`` (B,) back to rest."""
        self.u = {name: np.where(rows[:, None], np.float32(0), u) for name, u in self.u.items()}


def chain(graph: Any, reads: I64) -> Chain:
    """A graph written by ``direct_graph``, at rest; ``reads`` is its policy's ``input_order``."""
    after = {a: b for a, b in graph.edges if not b.endswith("_back") and not a.endswith("_back")}
    order, name = [], after["input"]
    while name != "output":
        if not name.endswith("_state"):
            order.append(name)
        name = after[name]
    return Chain(dict(graph.nodes), order, reads)


def execute_direct(graph: Any, reads: I64, data: Sequences) -> Trace:
    """Run sequences, each from rest. The trace holds no states: its readers compare outputs."""
    machine, ys = chain(graph, reads), []
    for t in range(data.x.shape[1]):
        if data.reset is not None and t and data.reset[:, t].any():
            machine.reset(data.reset[:, t])
        ys.append(machine.step(data.x[:, t].astype(np.float32)))
    y = np.stack(ys, 1)
    none = np.zeros((*y.shape[:2], 0))
    return Trace(y.astype(np.float64), none, ports.bits(y), none.astype(np.int64), np.zeros(y.shape[:2], np.int64))
