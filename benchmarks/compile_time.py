"""How long ``ncpc compile`` takes for one target, from the command line to the report, with warm caches.

    python -m benchmarks.compile_time        # writes compile_time.json beside this file

Each network is compiled twice in a process of its own, the second run counts: quantize, prove, emit, build, 10,008
verified steps on the host and on the simulated device, the search for the worst input, the report. Processor time does
not depend on what else the machine does; the elapsed time stands beside it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.make_policies import FOLDER

RESULT = Path(__file__).with_suffix(".json")
NETWORK, GOAL = "autoncp19-trained", 20.0
TARGETS = ("host", "cortex-m4", "rv32imc-ibex")


def measure(target: str, folder: Path) -> dict[str, Any]:
    """Compile once to warm the caches and once to measure."""
    command = [sys.executable, "-m", "ncpc", "compile", str(FOLDER / f"{NETWORK}.safetensors"), "--target", target,
               "-o", str(folder / target), "--json"]
    subprocess.run(command, check=True, capture_output=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    elapsed, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steps = min(link["steps"] for link in json.loads(done.stdout)["links"])
    return {"network": NETWORK, "target": target, "steps": steps, "processor_seconds": round(used, 1),
            "elapsed_seconds": round(elapsed, 1), "goal": GOAL}


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(target, Path(folder)) for target in TARGETS]
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    table = Table("target", "verified steps", "processor, s", "elapsed, s", "goal, s")
    for row in rows:
        table.add_row(*(str(row[key]) for key in list(row)[1:]))
    Console().print(table)
    return 0 if all(row["processor_seconds"] < GOAL for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
