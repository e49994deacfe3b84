"""Layers that NIR has: linear layers and leaky integrators with identity readout, in float32, one tick per step.

``u <- i + exp(-dt/tau)*(u - i)`` with ``i = W_x x + W_h r + b`` is what forward Euler makes of a LI node whose
``tau`` is ``tick / (1 - exp(-dt/tau))``; its feedback ``W_h`` runs around a cycle and arrives one tick later, as r.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.cells import LeakyIntegrator
from ncpc.ir.policy import Dense, Layer, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import ports
from ncpc.targets.nir.graph import TICK_S, library

F32 = NDArray[np.float32]

FORM = "dense layers and leaky integrators with identity readout and no look-ahead"


def direct_graph(policy: Policy) -> Any:
    """The policy as standard nodes; raises Unsupported for a layer that NIR has no node for."""
    nir = library()
    nodes: dict[str, Any] = {"input": nir.Input(input_type={"input": np.array([policy.inputs])})}
    edges, last = [], "input"
    for position, layer in enumerate(policy.layers):
        added, wires, end = _mapped(nir, layer, f"layer{position}", policy.dt.nominal)
        nodes |= added
        edges += [(last, f"layer{position}"), *wires]
        last = end
    nodes["output"] = nir.Output(output_type={"output": np.array([policy.outputs])})
    return nir.NIRGraph(nodes, [*edges, (last, "output")])


def _mapped(nir: Any, layer: Layer, name: str, dt: float) -> tuple[dict[str, Any], list[tuple[str, str]], str]:
    """Nodes, inner edges, and the node that holds the result."""
    if isinstance(layer, Dense):
        return {name: nir.Affine(weight=_single(layer.weight), bias=_single(layer.bias))}, [], name
    if isinstance(layer, LeakyIntegrator) and layer.function == "identity" and not np.any(layer.lookahead):
        ones = np.ones(layer.outputs, np.float32)
        tau = _single(TICK_S / -np.expm1(-dt / layer.tau))
        state, back = f"{name}_state", f"{name}_back"
        nodes = {name: nir.Affine(weight=_single(layer.weight_x), bias=_single(layer.bias)),
                 state: nir.LI(tau=tau, r=ones, v_leak=0 * ones), back: nir.Linear(weight=_single(layer.weight_h))}
        return nodes, [(name, state), (state, back), (back, state)], state
    raise Unsupported(f"target 'nir-graded': layer '{layer.kind}' is none of {FORM}; use --quant int16 for an LTC, "
                      "target 'nir' for thresholds, or target 'c'")


def _single(x: NDArray[np.float64]) -> F32:
    return np.asarray(x, np.float32)


@dataclass
class Chain:
    """A direct graph at work on a batch: forward Euler in float32, one tick per step. ``u`` name -> (B, n)."""

    nodes: dict[str, Any]
    order: list[str]
    u: dict[str, F32] = field(default_factory=dict)

    def step(self, x: F32) -> F32:
        """Outputs (B, outputs) for ``x`` (B, inputs)."""
        value = x
        for name in self.order:
            node = self.nodes[name]
            value = value @ node.weight.T + node.bias
            if f"{name}_state" in self.nodes:
                value = self._integrated(f"{name}_state", value, self.nodes[f"{name}_back"].weight)
        return np.asarray(value, np.float32)

    def _integrated(self, name: str, current: F32, back: F32) -> F32:
        node, u = self.nodes[name], self.u.get(name, np.zeros_like(current))
        drive = node.r * (current + u @ back.T)
        self.u[name] = u + np.float32(TICK_S) / node.tau * ((node.v_leak - u) + drive)
        return self.u[name]

    def reset(self, rows: NDArray[np.bool_]) -> None:
        """Put ``rows`` (B,) back to rest."""
        self.u = {name: np.where(rows[:, None], np.float32(0), u) for name, u in self.u.items()}


def chain(graph: Any) -> Chain:
    """A graph written by ``direct_graph``, at rest."""
    order = sorted((n for n in graph.nodes if n.startswith("layer") and "_" not in n), key=lambda n: int(n[5:]))
    return Chain(dict(graph.nodes), order)


def execute_direct(graph: Any, data: Sequences) -> Trace:
    """Run sequences, each from rest. The trace holds no states: its readers compare outputs."""
    machine, ys = chain(graph), []
    for t in range(data.x.shape[1]):
        if data.reset is not None and t and data.reset[:, t].any():
            machine.reset(data.reset[:, t])
        ys.append(machine.step(data.x[:, t].astype(np.float32)))
    y = np.stack(ys, 1)
    none = np.zeros((*y.shape[:2], 0))
    return Trace(y.astype(np.float64), none, ports.bits(y), none.astype(np.int64), np.zeros(y.shape[:2], np.int64))
