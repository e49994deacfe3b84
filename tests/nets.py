"""Random networks as policies, without torch: what many tests draw from."""

from __future__ import annotations

import numpy as np

from ncpc.ir.policy import DtRange, Ltc, Policy, Synapses


def random_synapses(rng: np.random.Generator, pre: int, post: int, density: float, scale: float = 1.0) -> Synapses:
    """Each pair is a synapse with probability ``density``; parameters spread like ncps' initial ones."""
    targets, sources = np.nonzero(rng.uniform(size=(post, pre)) < density)
    n = len(sources)
    return Synapses(
        sources.astype(np.int64), targets.astype(np.int64), rng.uniform(0.01, scale, n), rng.uniform(3, 8, n),
        rng.uniform(-0.3, 0.8, n), rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.2, n),
    )


def random_ltc(
    seed: int, neurons: int = 8, inputs: int = 3, outputs: int = 2, density: float = 0.4, **changes: object
) -> Ltc:
    """A small LTC; ``changes`` replace fields."""
    rng = np.random.default_rng(seed)
    fields: dict[str, object] = {
        "sensory": random_synapses(rng, inputs, neurons, density),
        "recurrent": random_synapses(rng, neurons, neurons, density),
        "cm": rng.uniform(0.4, 0.6, neurons), "gleak": rng.uniform(0.1, 1.0, neurons),
        "vleak": rng.uniform(-0.2, 0.2, neurons), "input_w": rng.uniform(0.5, 1.5, inputs),
        "input_b": rng.uniform(-0.2, 0.2, inputs), "output_w": rng.uniform(0.5, 1.5, outputs),
        "output_b": rng.uniform(-0.2, 0.2, outputs), "roles": ("motor",) * outputs + ("inter",) * (neurons - outputs),
        "names": tuple(f"n{i}" for i in range(neurons)),
    }
    return Ltc(**{**fields, **changes})  # type: ignore[arg-type]


def random_policy(seed: int, dt: DtRange | None = None, **changes: object) -> Policy:
    """``random_ltc`` as a policy whose inputs lie in [-1, 1]."""
    layer = random_ltc(seed, **changes)  # type: ignore[arg-type]
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)), dt or DtRange())
