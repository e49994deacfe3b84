"""Certified errors of the shipped LTC policies beside the worst errors found, into error_certificates.json.

    python -m benchmarks.error_certificates            # goes on where it was stopped; --again starts anew
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import read_container
from ncpc.ir.schemes import Scheme
from ncpc.proofs.errors.certify import certify
from ncpc.proofs.errors.words import output_range
from ncpc.semantics.run import run
from ncpc.system.files import write_atomically
from ncpc.targets.base import CompileOptions, DtMode
from ncpc.verification.sequences import suite

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_suffix(".json")
SHIPPED = [*sorted((ROOT / "benchmarks/policies").glob("*.safetensors")),
           *sorted((ROOT / "examples").glob("*/policy.safetensors"))]
POLICIES = [path for path in SHIPPED if {layer.kind for layer in read_container(path).policy.layers} == {"ltc"}]
"""Those that certificates of errors cover."""
SCHEMES: tuple[Scheme, ...] = ("int16", "int8")
STEPS, SEEDS = 4000, (11, 12)


def main() -> None:
    held: dict[str, Any] = {} if "--again" in sys.argv or not RESULT.exists() else json.loads(RESULT.read_text())
    for scheme in SCHEMES:
        for path in POLICIES:
            key = f"{path.relative_to(ROOT).as_posix()} {scheme}"
            if key not in held:
                held[key] = measured(path, scheme)
                print(key, json.dumps(held[key]), flush=True)
                write_atomically(RESULT, (json.dumps(held, indent=1, sort_keys=True) + "\n").encode())


def measured(path: Path, scheme: Scheme) -> dict[str, Any]:
    """Outcome, bounds in physical units and in % of the proved range, worst errors found, seconds of one core."""
    container = read_container(path)
    policy = container.policy
    dt: DtMode = "fixed" if policy.dt.fixed else "runtime"
    lowered = lower_for(container, CompileOptions(quant=scheme, dt=dt)).lowered
    worst = np.zeros(policy.outputs)
    for seed in SEEDS:
        data = suite(policy, STEPS, dt == "runtime", seed)
        worst = np.maximum(worst, np.abs(run(lowered.real, data).y - run(lowered.program, data).y).max(axis=(0, 1)))
    start = time.process_time()
    found = certify(policy, lowered.program)
    record: dict[str, Any] = {"certified": found.certificate is not None, "found": _digits(worst),
                              "seconds": round(time.process_time() - start, 1)}
    if found.certificate is None:
        return {**record, "reason": found.reason, "two_rest_points": found.witness is not None}
    bound = found.certificate.outputs
    return {**record, "bound": _digits(bound), "ratio": _digits(bound / worst),
            "percent": _digits(100 * bound / output_range(policy, found.certificate.box))}


def _digits(values: np.ndarray) -> list[float]:
    return [float(f"{value:.3g}") for value in values]


if __name__ == "__main__":
    main()
