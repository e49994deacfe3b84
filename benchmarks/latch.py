"""The network that remembers one bit: an LTC neuron that excites itself, set by a high input and reset by a low one.

    python -m benchmarks.latch        # writes benchmarks/policies/latch.safetensors, which is committed

Its numbers are set by hand. Under the input 0 it has two rest points, so no small bound of the error holds for all
time: an error certificate proves that of it instead (docs/error_certificate.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncpc.frontend.container import write_policy
from ncpc.ir.policy import Ltc, Policy, Synapses

FILE = Path(__file__).parent / "policies/latch.safetensors"


def latch() -> Policy:
    """One input in [-1, 1], one neuron, one output: it."""
    zero, one = np.zeros(1), np.ones(1)
    at = np.zeros(1, np.int64)
    own = Synapses(at, at, np.array([5.0]), np.array([10.0]), np.array([0.5]), one)
    set_, reset = (3.0, 10.0, 0.6, 1.0), (8.0, -10.0, -0.6, 0.0)
    both = np.zeros(2, np.int64)
    inputs = Synapses(both, both, *(np.array(pair) for pair in zip(set_, reset, strict=True)))
    layer = Ltc(inputs, own, one, one, zero, one, zero, one, zero, ("motor",), ("bit",))
    return Policy("latch", (layer,), np.array([[-1.0, 1.0]]), input_names=("set",), output_names=("bit",))


if __name__ == "__main__":
    write_policy(latch(), FILE)
