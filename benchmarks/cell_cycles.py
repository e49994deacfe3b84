"""Cycles, products and memory of the other cells on the simulated cores, int16: 16 units, 8 inputs, dt fixed.

    python -m benchmarks.cell_cycles       # writes cell_cycles.json beside this file

``asked`` counts the products of weight matrices in the cell's equations, ``formed`` those of the compiled program.
Cycles are the upper bound of the core's timing model, the worst of the measured steps; weights are initial ones.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.program import Program, statements
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.system.torch_library import torch_module
from ncpc.targets.base import CompileOptions
from ncpc.targets.registry import load

RESULT = Path(__file__).with_suffix(".json")
CORES = ("cortex-m4", "rv32imc-ibex")
INPUTS, UNITS, STEPS = 8, 16, 50
BOTH = INPUTS + UNITS
GATE = UNITS * BOTH
"""Products of one gate: its matrices on inputs and state."""


def cells() -> dict[str, tuple[Callable[[], Any], int]]:
    """Name -> what makes the cell, and the products its equations ask for."""
    from ncps.torch import CfC

    nn = torch_module().nn
    return {
        "lstm": (lambda: nn.LSTM(INPUTS, UNITS, batch_first=True), 4 * GATE),
        "gru": (lambda: nn.GRU(INPUTS, UNITS, batch_first=True), 3 * GATE),
        "rnn": (lambda: nn.RNN(INPUTS, UNITS, batch_first=True), GATE),
        "cfc": (lambda: CfC(INPUTS, UNITS), 128 * BOTH + 4 * UNITS * 128),
        "cfc, backbone of 32": (lambda: CfC(INPUTS, UNITS, backbone_units=32), 32 * BOTH + 4 * UNITS * 32),
        "cfc, no backbone": (lambda: CfC(INPUTS, UNITS, backbone_layers=0), 4 * GATE),
    }


def policy(make: Callable[[], Any]) -> Policy:
    """The cell with its initial weights, calibrated on noise."""
    torch_module().manual_seed(0)
    noise = Sequences(np.random.default_rng(1).uniform(-1, 1, (4, 60, INPUTS)))
    return Policy("net", import_model(make()).layers, np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(), calibration=noise)


def formed(program: Program) -> int:
    """Products of matrices in one step."""
    table = program.constants
    return sum(table[op.args[0]][1].size for op in statements(program.body) if op.kind in ("matmul", "matmulshr"))


def measure(name: str, make: Callable[[], Any], asked: int, core: str) -> dict[str, Any]:
    """Build, run ``STEPS`` steps, check that they equal the program."""
    options, target = CompileOptions(), load(core)
    lowered = lower_for(Container(policy(make), None), options).lowered
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        artifact = target.prepare(lowered, options)
        for file, content in artifact.files.items():
            (folder / file).write_bytes(content)
        artifact.build(folder)
        data = Sequences(np.random.default_rng(0).uniform(-1, 1, (1, STEPS, INPUTS)))
        result = artifact.run(folder, data, core)
    assert (result.trace.raw_state == run(lowered.program, data).raw_state).all(), name
    assert result.cycles is not None
    assert result.memory is not None
    return {"cell": name, "core": core, "asked": asked, "formed": formed(lowered.program),
            "cycles": int(result.cycles.upper.max()), "flash_bytes": result.memory.flash_bytes,
            "ram_bytes": result.memory.ram_bytes, "stack_bytes": result.memory.stack_bytes}


def main() -> int:
    jobs = [(name, make, asked, core) for name, (make, asked) in cells().items() for core in CORES]
    rows = [measure(*job) for job in track(jobs, "cells on cores", console=Console(stderr=True))]
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    table = Table("cell", "core", "products asked", "formed", "cycles", "per product", "flash", "RAM", "stack")
    for row in rows:
        numbers = (row["asked"], row["formed"], row["cycles"])
        memory = (row["flash_bytes"], row["ram_bytes"], row["stack_bytes"])
        table.add_row(row["cell"], row["core"], *(f"{n:,}" for n in numbers), f"{row['cycles'] / row['formed']:.1f}",
                      *(f"{n:,}" for n in memory))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
