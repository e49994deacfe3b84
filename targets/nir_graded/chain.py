"""A direct graph under forward Euler in float32, by the equations of NIR: the executor of ``nir-graded``'s nodes.

``tau dv/dt = (v_leak - v) + r I`` for LI and LIF; a LIF spikes where v exceeds its threshold and is set to ``v_reset``.
Linear, Affine and nodes over frames are instantaneous; what runs around a cycle arrives one tick later. Sums over the
columns of a matrix go in their order, as the Program's do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics import ports
from ncpc.targets.nir.graph import TICK_S
from ncpc.targets.nir_graded.direct import FLATTEN, STATE, is_feedback
from ncpc.targets.nir_graded.frames import F32, run_frame

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]
WIDE = 1024
"""Columns of a matrix beyond which a sum in order takes too long."""


@dataclass(frozen=True, eq=False)
class Firing:
    """One tick of a LIF node: ``spikes`` (B, n) and ``margin`` (B, n), each membrane's distance from its threshold as a
    share of the way from reset to threshold or of the drive, whichever is larger.
    """

    spikes: Bools
    margin: F32


@dataclass
class DirectExecutor:
    """A direct graph at work on a batch: one tick per step. ``u`` and ``fed_back`` name -> (B, n) are its state;
    ``firings`` is what its LIF nodes did last.
    """

    nodes: dict[str, Any]
    order: list[str]
    reads: I64
    u: dict[str, F32] = field(default_factory=dict)
    fed_back: dict[str, F32] = field(default_factory=dict)
    firings: dict[str, Firing] = field(default_factory=dict)

    def frame(self, x: F32) -> F32:
        """Inputs (B, inputs) of the policy as the graph takes them: in its own order and shape."""
        return x[:, self.reads].reshape(len(x), *self.nodes["input"].input_type["input"])

    def step(self, x: F32) -> F32:
        """Outputs (B, outputs) for ``x`` (B, inputs)."""
        value = self.frame(x)
        for name in self.order:
            value = self._through(name, value)
        return np.asarray(value.reshape(len(x), -1), np.float32)

    def _through(self, name: str, value: F32) -> F32:
        node = self.nodes[name]
        if name == FLATTEN:
            return value.reshape(len(value), -1)
        if name.endswith(STATE):
            return self._integrated(name, value)
        if value.ndim > 2:
            return run_frame(node, value)
        return in_order(node.weight, value, node.bias)

    def _integrated(self, name: str, current: F32) -> F32:
        node, u = self.nodes[name], self.u.get(name, np.zeros_like(current))
        drive = node.r * (current + self.fed_back.get(name, np.float32(0)))
        u = u + np.float32(TICK_S) / node.tau * ((node.v_leak - u) + drive)
        self.u[name] = u
        out = self._fired(name, u, drive) if hasattr(node, "v_threshold") else u
        back = self.nodes.get(f"{name.removesuffix(STATE)}_back")
        if back is not None:
            self.fed_back[name] = in_order(back.weight, out, None)
        return np.asarray(out, np.float32)

    def _fired(self, name: str, v: F32, drive: F32) -> F32:
        node = self.nodes[name]
        spikes = v > node.v_threshold
        self.u[name] = np.where(spikes, node.v_reset, v).astype(np.float32)
        scale = np.maximum(node.v_threshold - node.v_reset, np.abs(drive))
        self.firings[name] = Firing(spikes, np.asarray(np.abs(v - node.v_threshold) / scale, np.float32))
        return np.asarray(spikes, np.float32)

    def reset(self, rows: Bools) -> None:
        """Put ``rows`` (B,) back to rest."""
        for held in (self.u, self.fed_back):
            held.update({name: np.where(rows[:, None], np.float32(0), v) for name, v in held.items()})


def in_order(weight: F32, x: F32, start: F32 | None) -> F32:
    """``weight @ x + start`` (B, outputs), added up column by column from ``start`` on unless there are many."""
    total = np.zeros((len(x), len(weight)), np.float32)
    total += np.float32(0) if start is None else start
    if weight.shape[1] > WIDE:
        return np.asarray(total + x @ weight.T, np.float32)
    for j in range(weight.shape[1]):
        total += weight[:, j] * x[:, j : j + 1]
    return total


def direct_executor(graph: Any, reads: I64) -> DirectExecutor:
    """A graph written by ``direct_graph``, at rest; ``reads`` is its policy's ``input_order``."""
    after = {a: b for a, b in graph.edges if not is_feedback(a) and not is_feedback(b)}
    order, name = [], after["input"]
    while name != "output":
        order.append(name)
        name = after[name]
    return DirectExecutor(dict(graph.nodes), order, reads)


def execute_direct(graph: Any, reads: I64, data: Sequences) -> Trace:
    """Run sequences, each from rest."""
    machine, ys = direct_executor(graph, reads), []
    for t in range(data.x.shape[1]):
        if data.reset is not None and t and data.reset[:, t].any():
            machine.reset(data.reset[:, t])
        ys.append(machine.step(data.x[:, t].astype(np.float32)))
    return trace_of(np.stack(ys, 1))


def trace_of(y: F32) -> Trace:
    """Outputs (B, T, outputs) as a trace without states: its readers compare outputs."""
    none = np.zeros((*y.shape[:2], 0))
    return Trace(y.astype(np.float64), none, ports.bits(y), none.astype(np.int64), np.zeros(y.shape[:2], np.int64))
