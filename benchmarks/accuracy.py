"""How far integers are from the float64 network: the benchmark networks in every integer scheme, 10,000 steps each.

    python -m benchmarks.accuracy                    # all; writes accuracy.json beside this file
    python -m benchmarks.accuracy autoncp19-trained

Errors are fractions of the output range on generated sequences that cover the declared inputs and timespans, measured
on the compiled host library, which equals the integer program bit for bit in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import ncpc
from benchmarks.make_policies import FOLDER, RANDOM, TRAINED, keep

RESULT = Path(__file__).with_suffix(".json")
GOAL = {"int16": 2e-3, "w8a16": 1e-2, "int8": 5e-2}
GOAL_UNIT_DT = {"autoncp19-random": 1e-3, "autoncp19-trained": 1e-3}
"""At dt = 1, int16."""


def measure(name: str, scheme: str, folder: Path) -> dict[str, Any]:
    """Compile one network for the host and read its report."""
    path = FOLDER / f"{name}.safetensors" if name in TRAINED else keep(name, RANDOM[name](), folder)
    outcome = ncpc.compile(path, folder / f"{name}-{scheme}", "host", quant=scheme)  # type: ignore[arg-type]
    error = outcome.report["error"]
    goal = GOAL_UNIT_DT.get(name, GOAL[scheme]) if scheme == "int16" else GOAL[scheme]
    return {
        "network": name, "scheme": scheme, "steps": error["steps"], "max_over_range": _digits(error["max_range"]),
        "rms_over_range": _digits(error["nrmse_range"]), "state": outcome.report["quant"]["formats"]["v"],
        "goal": goal, "met": error["max_range"] <= goal, "verdict": outcome.report["verdict"]["holds"],
    }


def _digits(value: float) -> float:
    return float(f"{value:.3g}")


def show(rows: list[dict[str, Any]]) -> None:
    """The rows as a table."""
    table = Table("network", "scheme", "state", "max / range", "rms / range", "goal", "met")
    for row in rows:
        table.add_row(row["network"], row["scheme"], row["state"], f"{row['max_over_range']:.2g}",
                      f"{row['rms_over_range']:.2g}", f"{row['goal']:g}", "yes" if row["met"] else "no")
    Console().print(table)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these networks; the result is printed and not kept")
    options = parser.parse_args(arguments)
    names = options.names or [n for n in (*RANDOM, *TRAINED) if not n.startswith("growth")]
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, scheme, Path(folder)) for name in names for scheme in GOAL]
    show(rows)
    if not options.names:
        RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
