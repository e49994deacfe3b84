"""Fine-tuning for int8: a network whose weights, simply rounded to 8 bits, err more than the tolerance.

    python -m benchmarks.qat        # writes qat.json beside this file; 20 s of one core

The quantized twin (ncpc.quant.qat) is taught the float network's own outputs on generated sequences within the declared
input range. Errors are those of the integer program against the *original* float network, largest and rms, as fractions
of its output range, on 10,000 steps of sequences that were not trained on: the ones ``ncpc compile`` verifies with.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

import ncpc
from benchmarks.make_policies import FOLDER
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.quant.qat import fine_tune, quantized_twin
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.verification.sequences import suite

RESULT = Path(__file__).with_suffix(".json")
NETWORK = "autoncp19-trained"
STEPS, LENGTH = 40_000, 20
UPDATES, BATCH, RATE = 100, 32, 1e-3
HELD_OUT, TRAINING = 1, 1000  # seeds of the generated sequences; compiling verifies with 1


def windows(policy: Policy, steps: int, seed: int) -> Sequences:
    """Generated sequences cut into pieces of ``LENGTH`` steps, each from the reset state."""
    data = suite(policy, steps, False, seed)
    keep = data.x.shape[1] // LENGTH * LENGTH
    x = data.x[:, :keep].reshape(-1, LENGTH, policy.inputs)
    return Sequences(x, np.full(x.shape[:2], policy.dt.nominal))


def errors(reference: Policy, policy: Policy) -> dict[str, Any]:
    """The integer program of ``policy`` against ``reference`` over the reals."""
    data = suite(reference, 10_000, False, HELD_OUT)
    lowered = lower_for(Container(policy), CompileOptions(quant="int8", dt="fixed")).lowered
    exact, found = run(lower(reference), data).y, run(lowered.program, data).y
    difference, span = np.abs(found - exact), float(np.ptp(exact, axis=(0, 1)).max())
    worst, rms = float(difference.max()) / span, float(np.sqrt(np.mean(difference**2))) / span
    return {"max_over_range": float(f"{worst:.3g}"), "rms_over_range": float(f"{rms:.3g}"), "steps": data.steps}


def tuned(policy: Policy) -> Policy:
    """The policy after its twin was taught its own outputs."""
    data = windows(policy, STEPS, TRAINING)
    assert data.dt is not None
    twin = quantized_twin(policy, "int8", SCHEMES["int8"].tolerance)
    fine_tune(twin, data.x, run(lower(policy), data).y, data.dt, updates=UPDATES, batch=BATCH, rate=RATE)
    return replace(policy, layers=(twin.to_layer(),))


def main() -> int:
    torch.set_num_threads(1)
    policy = ncpc.load(FOLDER / f"{NETWORK}.safetensors")
    rows = {"rounded": errors(policy, policy), "fine-tuned": errors(policy, tuned(policy))}
    table = Table(f"{NETWORK}, int8", "max / range", "rms / range")
    for name, row in rows.items():
        table.add_row(name, f"{row['max_over_range']:.2%}", f"{row['rms_over_range']:.2%}")
    Console().print(table)
    RESULT.write_text(json.dumps({
        "network": NETWORK, "scheme": "int8", "tolerance": SCHEMES["int8"].tolerance,
        "training": {"updates": UPDATES, "batch": BATCH, "sequence_steps": LENGTH, "rate": RATE}, "errors": rows,
    }, indent=1) + "\n")
    return 0 if rows["fine-tuned"]["max_over_range"] <= SCHEMES["int8"].tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
