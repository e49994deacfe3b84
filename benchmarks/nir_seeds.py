"""Whether the figures of ``benchmarks.nir_units`` and ``nir_chips`` are luck: the same for freshly trained networks.

    python -m benchmarks.nir_seeds            # trains four AutoNCP(12, 1), a table, and benchmarks/nir_seeds.json

Ten minutes on one core; the networks are not kept.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import nir_chips
from benchmarks.nir_units import ROWS, SEED, STEPS, errors
from benchmarks.spike_policies import signals, train
from ncpc.frontend.container import read_policy
from ncpc.targets.nir.lower import lower
from ncpc.targets.nir.study import study
from ncpc.targets.nir.trajectory import trajectory

SEEDS, UNITS, INPUTS, TRAINED = (3, 4, 5, 6), 4000, 3, 400
RESULT = Path(__file__).with_suffix(".json")


def measure(seed: int, folder: Path) -> dict[str, Any]:
    """Errors of one network as spikes, placed and evenly spaced levels, and in Loihi 2's arithmetic."""
    from ncps.wirings import AutoNCP

    path = folder / f"autoncp12-{seed}.safetensors"
    train(path, lambda: AutoNCP(12, 1, seed=seed), INPUTS, seed, TRAINED)
    known = study(read_policy(path))
    x = np.clip(signals(np.random.default_rng(SEED), ROWS, STEPS, INPUTS), *known.policy.input_range.T)
    run = trajectory(known.cell, x)
    placed, uniform = (errors(known, lower(known, UNITS, even), x, run) for even in (False, True))
    return {"placed": placed, "uniform": uniform, "loihi2_rmse_std": nir_chips.measure(path)["loihi2"]["rmse_std"]}


if __name__ == "__main__":
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for each in SEEDS:
            results[str(each)] = measure(each, Path(scratch))
            print(each, json.dumps(results[str(each)]), flush=True)
    RESULT.write_text(json.dumps({"units": UNITS, "seeds": results}, indent=1) + "\n")
