"""Where the integer errors of convolutional heads come from: the whole network, its cell alone, its outputs alone.

    python -m benchmarks.head_errors         # writes head_errors.json beside this file

``strong`` networks are the heads of the table of cells; in ``weak`` ones another untrained NCP follows the same kind of
head, whose outputs move little. Errors are the largest on generated sequences by the output range. ``cell`` has the
exact features as inputs, with half as much room above those of the calibration; ``output`` is the exact output, rounded
to the format that the integer program gives it: what no arithmetic can do without.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells_table import INTEGERS, policy_over
from benchmarks.cells_table_rows import FRAMES, head
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import F64, Policy
from ncpc.ir.schemes import Scheme
from ncpc.passes.lower import lower
from ncpc.semantics import ports
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.registry import load
from ncpc.verification.sequences import suite

RESULT = Path(__file__).with_suffix(".json")
STEPS, ROOM = 200, 1.5
NETWORKS = [(row, kind) for row in FRAMES for kind in ("strong", "weak")]


def network(row: str, kind: str) -> Policy:
    return policy_over(head(*FRAMES[row], weak=kind == "weak")())


def lowered(policy: Policy, scheme: Scheme) -> Lowered:
    return lower_for(Container(policy, None), CompileOptions(quant=scheme)).lowered


def cell_of(policy: Policy) -> tuple[Policy, Policy]:
    """The head, and the cell behind it with inputs of what the head gives on the calibration."""
    before = dataclasses.replace(policy, layers=policy.layers[:-1], output_names=(), calibration=None)
    assert policy.calibration is not None
    data = dataclasses.replace(policy.calibration, x=run(lower(before), policy.calibration).y)
    most = float(np.abs(data.x).max()) * ROOM
    limits = np.tile([-most, most], (policy.layers[-1].inputs, 1))
    cell = Policy("cell", policy.layers[-1:], limits, policy.dt, calibration=data)
    return before, cell


def share(found: F64, want: F64) -> float:
    """The largest error by the range of the output that moves most, two digits."""
    return float(f"{np.abs(found - want).max() / np.ptp(want, axis=(0, 1)).max():.1e}")


def measure(row: str, kind: str) -> dict[str, Any]:
    """The errors of one network, in both schemes and in TFLite's 16 bits."""
    policy = network(row, kind)
    data = suite(policy, STEPS, False)
    want = run(lower(policy), data).y
    before, cell = cell_of(policy)
    exact = dataclasses.replace(data, x=run(lower(before), data).y)
    found: dict[str, Any] = {"network": row, "kind": kind, "moves": round(float(np.ptp(want, axis=(0, 1)).max()), 3)}
    for scheme in INTEGERS:
        made = lowered(policy, scheme)
        port = made.program.y
        found[scheme] = {
            "whole": share(run(made.program, data).y, want),
            "cell": share(run(lowered(cell, scheme).program, exact).y, want),
            "output": share(ports.decode(port, ports.encode(port, want)), want),
        }
    options = CompileOptions(quant="int16", dt="fixed")
    found["tflite"] = share(load("tflite").prepare(lowered(policy, "int16"), options).model(data).y, want)
    return found


def main() -> int:
    """Measure, show and store."""
    rows = [measure(*one) for one in NETWORKS]
    RESULT.write_text(json.dumps({"command": "python -m benchmarks.head_errors", "rows": rows}, indent=1) + "\n")
    sys.stdout.write(table(rows) + "\n")
    return 0


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, as docs/heads.md shows it."""
    names = ["network", "outputs move by", "int16", "its cell", "its output", "TFLite, int16", "int8", "its cell",
             "its output"]
    lines = [f"| {' | '.join(names)} |", "|" + " --- |" * len(names)]
    for r in rows:
        numbers = [r[s][part] for s in INTEGERS for part in ("whole", "cell", "output")]
        numbers.insert(3, r["tflite"])
        parts = [f"{100 * number:.2g} %" for number in numbers]
        name = r["network"] + (", weak" if r["kind"] == "weak" else "")
        lines.append(f"| {name} | {r['moves']} | {' | '.join(parts)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
