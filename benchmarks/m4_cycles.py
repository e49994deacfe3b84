"""Cycles, flash, RAM and stack of compiled LTCs on the simulated Cortex-M4 (and Ibex beside it).

    python -m benchmarks.m4_cycles         # writes m4_cycles.json beside this file

Cycles are the upper bound of the core's timing model, the worst of the measured steps, default optimization, zig. The
goal on the two networks of 19 neurons is 32 E + 60 U cycles, E the synapse evaluations and U the neuron updates of a
step. The networks of 8 to 256 neurons show that cycles and flash grow with the synapses.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.make_policies import FOLDER, GROWTH, growth_network, keep, reference_network
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import read_container
from ncpc.ir.policy import Ltc
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions, RunResult
from ncpc.targets.registry import load

RESULT = Path(__file__).with_suffix(".json")
STEPS = 100
CORES = ("cortex-m4", "rv32imc-ibex")
RAM_AND_STACK = 1024
"""Bytes that 19 neurons may take."""


def networks(folder: Path) -> dict[str, tuple[Path, str]]:
    """Name -> container and dt mode."""
    trained = {
        "autoncp19-trained": (FOLDER / "autoncp19-trained.safetensors", "fixed"),
        "autoncp19-trained-irregular": (FOLDER / "autoncp19-trained-irregular.safetensors", "runtime"),
    }
    reference = {"reference19": (keep("reference19", reference_network(), folder), "fixed")}
    growth = {f"growth{n}": (keep(f"growth{n}", growth_network(n), folder), "fixed") for n in GROWTH}
    return {**trained, **reference, **growth}


def measure(name: str, path: Path, dt: str, core: str, folder: Path, scheme: str = "int16") -> dict[str, Any]:
    """Build, run ``STEPS`` steps, check that they equal the program."""
    options = CompileOptions(quant=scheme, dt=dt)  # type: ignore[arg-type]
    lowered = lower_for(read_container(path), options).lowered
    target = load(core)
    start = time.perf_counter()
    artifact = target.prepare(lowered, options)
    for file, text in artifact.files.items():
        (folder / file).write_bytes(text)
    artifact.build(folder)
    seconds = time.perf_counter() - start
    data = Sequences(np.random.default_rng(0).uniform(-1, 1, (1, STEPS, lowered.policy.inputs)))
    result = artifact.run(folder, data, core)
    expected = run(lowered.program, data)
    assert (result.trace.raw_state == expected.raw_state).all(), name
    (layer,) = lowered.policy.layers
    assert isinstance(layer, Ltc)
    return {"network": name, "core": core, "dt": dt, "scheme": scheme, **figures(layer, result),
            "compile_seconds": round(seconds, 1)}


def figures(layer: Ltc, result: RunResult) -> dict[str, Any]:
    assert result.cycles is not None
    assert result.memory is not None
    evaluations = len(layer.recurrent) * layer.unfolds + len(layer.sensory)
    updates = layer.neurons * layer.unfolds
    return {
        "neurons": layer.neurons, "evaluations": evaluations, "updates": updates,
        "cycles": int(result.cycles.upper.max()), "cycles_lower": int(result.cycles.lower.min()),
        "goal": 32 * evaluations + 60 * updates, "flash_bytes": result.memory.flash_bytes,
        "ram_bytes": result.memory.ram_bytes, "stack_bytes": result.memory.stack_bytes,
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [measure(network, path, dt, core, folder) for network, (path, dt) in networks(folder).items()
                for core in CORES]
    kept = [{key: value for key, value in row.items() if key != "compile_seconds"} for row in rows]
    RESULT.write_text(json.dumps({"rows": kept}, indent=1) + "\n")
    table = Table("network", "core", "E", "U", "cycles", "32 E + 60 U", "flash", "RAM", "stack", "compile, s")
    keys = ("network", "core", "evaluations", "updates", "cycles", "goal", "flash_bytes", "ram_bytes", "stack_bytes",
            "compile_seconds")
    for row in rows:
        table.add_row(*(f"{row[key]:,}" if isinstance(row[key], int) else str(row[key]) for key in keys))
    Console().print(table)
    return 0 if all(row["cycles"] <= row["goal"] for row in rows if held_to_goal(row)) else 1


def held_to_goal(row: dict[str, Any]) -> bool:
    """The goal is for the Cortex-M4, the network of 787 evaluations and the trained one."""
    return row["core"] == "cortex-m4" and row["network"] in ("autoncp19-trained", "reference19")


if __name__ == "__main__":
    sys.exit(main())
