"""The reference executor: a .nir file of threshold units under forward Euler in float32, by the equations of NIR.

``tau dv/dt = (v_leak - v) + r I``, a spike where v exceeds the threshold, then ``v = v_reset``; Linear and Affine are
instantaneous, and what runs around the cycle arrives one tick later.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.nir import graph as names
from ncpc.targets.nir.spikes import Bools

F32 = NDArray[np.float32]


@dataclass
class Euler:
    """A graph of the form that ``graph`` writes. ``v`` and ``fed_back`` are (B, U) float32, or None at rest."""

    nodes: dict[str, Any]
    tick_s: float = names.TICK_S
    v: F32 | None = None
    fed_back: F32 | None = None

    def tick(self, x: F32) -> tuple[F32, Bools | None]:
        """One tick; see ``runs.Machine``."""
        n, sense = self.nodes, self.nodes[names.SENSE]
        current = x @ sense.weight.T + sense.bias
        if self.fed_back is not None:
            current = current + self.fed_back
        spikes = self._integrate(n[names.UNITS], current)
        s = spikes.astype(np.float32)
        self.fed_back = (s @ n[names.DECODE].weight.T) @ n[names.ENCODE].weight.T
        return s @ n[names.READOUT].weight.T, spikes

    def _integrate(self, lif: Any, current: F32) -> Bools:
        v = np.zeros_like(current) if self.v is None else self.v
        share = np.float32(self.tick_s) / lif.tau
        v = v + share * ((lif.v_leak - v) + lif.r * current)
        spikes = v > lif.v_threshold
        self.v = np.where(spikes, lif.v_reset, v).astype(np.float32)
        return np.asarray(spikes)

    def fork(self) -> Euler:
        """A copy in the same state."""
        return Euler(self.nodes, self.tick_s, deepcopy(self.v), deepcopy(self.fed_back))


def euler(graph: Any) -> Euler:
    """``graph`` as read by nir, at rest."""
    return Euler(dict(graph.nodes))
