"""What chips' arithmetic and sigma-delta messages cost in accuracy.

    python -m benchmarks.nir_chips            # a table, and benchmarks/nir_chips.json

Held-out inputs as in ``benchmarks.nir_units``; ncpc's executor, no chip and no vendor's simulator.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.nir_units import POLICIES, ROWS, SEED, STEPS
from benchmarks.spike_policies import FOLDER, signals
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import read_container
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.targets.nir.study import study
from ncpc.targets.nir_graded.chips import chip, require_fit
from ncpc.targets.nir_graded.joined import execute
from ncpc.targets.nir_graded.loihi2 import loihi2
from ncpc.targets.nir_graded.ltc_program import program_of, record_of
from ncpc.targets.nir_graded.record import GradedLtc
from ncpc.targets.nir_graded.split import layers_of

THETAS = (0, 4, 16, 64)
RESULT = Path(__file__).with_suffix(".json")


def measure(path: Path) -> dict[str, Any]:
    """RMS error in % of the output's standard deviation, and traffic, of one policy."""
    lowered = lower_for(read_container(path), CompileOptions(quant="int16")).lowered
    x = signals(np.random.default_rng(SEED), ROWS, STEPS, lowered.policy.inputs)
    data = Sequences(np.clip(x, *lowered.policy.input_range.T))
    reference, base = run(lowered.real, data).y, record_of(lowered.program)
    small = loihi2(base, study(lowered.policy), chip("loihi2"))

    def of(record: GradedLtc, theta: int = 0) -> dict[str, float]:
        found = execute(layers_of(program_of(record), theta), data)
        rmse = float(np.sqrt(np.mean((found.trace.y - reference) ** 2)) / reference.std())
        return {"rmse_std": round(100.0 * rmse, 3), "messages_per_step": round(found.messages, 1),
                "events_per_step": round(found.events, 1)}

    return {"int16": of(base), "loihi2": {**of(small), "needs": require_fit(small, chip("loihi2"))},
            "theta": {str(theta): of(base, theta) for theta in THETAS}}


if __name__ == "__main__":
    results = {name: measure(FOLDER / f"{name}.safetensors") for name in POLICIES}
    for each, result in results.items():
        print(each, json.dumps(result))
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
