"""How many spikes of LIF networks differ from exact arithmetic, and what that does to a readout.

    python -m benchmarks.lif_spikes            # a table, and benchmarks/lif_spikes.json

Ten random networks of each kind, five random walks of 1,000 steps each; the readout is two leaky integrators
(tau = 10 steps) after the last layer. Once a spike differs, a recurrent network may go its own way.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.cells import LeakyIntegrator, Lif
from ncpc.ir.policy import F64, Layer, Policy
from ncpc.ir.schemes import Scheme
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

INPUTS, NETS, ROWS, STEPS = 3, 10, 5, 1000
KINDS = {"8": ((8, False),), "8 recurrent": ((8, True),), "32 recurrent": ((32, True),),
         "16, then 8 recurrent": ((16, False), (8, True))}
SCHEMES: tuple[Scheme, ...] = ("float32", "int16", "int8")
RESULT = Path(__file__).with_suffix(".json")


def layers(kind: str, rng: np.random.Generator) -> list[Layer]:
    """LIF layers whose parameters all differ from neuron to neuron."""
    found: list[Layer] = []
    width = INPUTS
    for units, recurrent in KINDS[kind]:
        found.append(Lif(
            rng.normal(size=(units, width)) / (width / INPUTS) ** 0.5,
            recurrent * rng.normal(size=(units, units)) / units**0.5, rng.normal(0, 0.3, units),
            rng.uniform(3, 9, units), rng.uniform(1, 4, units), rng.uniform(-0.2, 0.3, units),
            rng.uniform(0.4, 1, units), rng.uniform(-0.3, 0.1, units)))
        width = units
    return found


def readout(width: int, rng: np.random.Generator) -> Layer:
    weight = rng.normal(size=(2, width)) / width**0.5
    return LeakyIntegrator(weight, np.zeros((2, 2)), np.zeros(2), np.full(2, 10.0), np.zeros(2), "identity")


def outputs(made: list[Layer], scheme: Scheme, data: Sequences) -> tuple[F64, F64]:
    """Exact ones and those of a scheme."""
    policy = Policy("net", tuple(made), np.tile([-1.0, 1.0], (INPUTS, 1)), calibration=Sequences(data.x[:, :200]))
    lowered = lower_for(Container(policy, None), CompileOptions(quant=scheme)).lowered
    return run(lowered.real, data).y, run(lowered.program, data).y


def measure(kind: str) -> dict[str, float]:
    """Means in %: neurons that fire in a step, spikes that differ, the readout's RMS error of its standard deviation;
    and how many of the networks have no spike that differs.
    """
    rows: list[dict[str, float]] = []
    for seed in range(NETS):
        rng = np.random.default_rng([seed, sum(map(ord, kind))])
        made, walks = layers(kind, rng), np.cumsum(rng.uniform(-0.3, 0.3, (ROWS, STEPS, INPUTS)), axis=1)
        data, last = Sequences(np.clip(walks, -1, 1)), readout(made[-1].outputs, rng)
        row: dict[str, float] = {}
        for scheme in SCHEMES:
            exact, found = outputs(made, scheme, data)
            row["rate"] = 100 * float(exact.mean())
            row[f"{scheme} spikes"] = 100 * float((exact != found).mean())
            exact, found = outputs([*made, last], scheme, data)
            row[f"{scheme} readout"] = 100 * float(np.sqrt(((exact - found) ** 2).mean()) / exact.std())
        rows.append(row)
    equal = {f"{s} equal": float(sum(row[f"{s} spikes"] == 0 for row in rows)) for s in SCHEMES}
    return {name: float(f"{np.mean([row[name] for row in rows]):.3g}") for name in rows[0]} | equal


if __name__ == "__main__":
    results = {kind: measure(kind) for kind in KINDS}
    for each, result in results.items():
        print(each, json.dumps(result))
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
