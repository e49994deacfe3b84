"""What fine-tuning wins, cell by cell: small networks rounded as they are, and after a training on their grids.

    python -m benchmarks.qat_cells        # goes on where qat_cells.json ends; a quarter of an hour of one core

Each network is trained in floating point on a small task (a product and a difference of three signals, smoothed), then
prepared (``ncpc.quant.prepare``) and taught its own float outputs on generated sequences. Errors are those of the
integer program against the *original* float network, largest and rms, as fractions of its output range, on sequences
that neither the training nor its choice of an epoch has seen.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from rich.console import Console
from rich.table import Table

import ncpc
from ncpc import quant
from ncpc.cells import CtGru, Sequential
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

RESULT = Path(__file__).with_suffix(".json")
INPUTS, STEPS = 3, 32
TASK, TEACHING, HELD_OUT = 1, 2, 3
"""Seeds: of the float training, of fine-tuning, of the errors."""
TOLD: dict[str, Any] = {"input_range": (-1.0, 1.0), "dt": 1.0}
RECIPE: dict[str, Any] = {"epochs": 8, "batch": 8, "window": 16}
RATES = {"w4a16": 5e-4, "w8a16": 1e-4}
"""Where steps are fine, what moves faster undoes what rounding together made up for."""
LONGER = {("GRU", "w4a16"): 16}
"""Epochs where those of the recipe lower the rms alone."""
WANTED = ("w4a16", "w8a16")
nn = torch.nn


def _cfc(mode: str, **options: Any) -> Any:
    return CfC(INPUTS, 8, mode=mode, proj_size=1, backbone_units=12, **options)


def _headed(cell: Any) -> Any:
    return Sequential([cell, nn.Linear(8, 1)])


CELLS: dict[str, Callable[[], Any]] = {
    "dense": lambda: nn.Sequential(nn.Linear(INPUTS, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1)),
    "LSTM": lambda: _headed(nn.LSTM(INPUTS, 8, batch_first=True)),
    "GRU": lambda: _headed(nn.GRU(INPUTS, 8, batch_first=True)),
    "RNN": lambda: _headed(nn.RNN(INPUTS, 8, batch_first=True)),
    "CfC": lambda: _cfc("default"),
    "CfC, pure": lambda: _cfc("pure"),
    "CfC, no_gate": lambda: _cfc("no_gate"),
    "CfC, wired": lambda: CfC(INPUTS, AutoNCP(16, 1, seed=3)),
    "CfC, mixed memory": lambda: _cfc("default", mixed_memory=True),
    "LTC": lambda: LTC(INPUTS, AutoNCP(12, 1, seed=3)),
    "CT-GRU": lambda: _headed(CtGru(INPUTS, 8, scales=4)),
}


def signals(seed: int, rows: int = 24) -> Any:
    """Smooth random inputs (rows, STEPS, INPUTS) within -1 and 1."""
    rng = np.random.default_rng(seed)
    x = np.cumsum(rng.normal(0, 0.4, (rows, STEPS, INPUTS)), axis=1) + rng.uniform(-1, 1, (rows, 1, INPUTS))
    return np.sin(x)


def task(x: Any) -> Any:
    """What the float networks learn, (rows, STEPS, 1): 0.6*x0*x1 + 0.4*(x2 - x0), smoothed over time."""
    drive = 0.6 * x[..., 0] * x[..., 1] + 0.4 * (x[..., 2] - x[..., 0])
    y, at = np.zeros_like(drive), np.zeros(len(x))
    for t in range(x.shape[1]):
        at = at + 0.5 * (drive[:, t] - at)
        y[:, t] = at
    return y[..., None]


@cache
def float_network(cell: str, updates: int = 150) -> Any:
    """A network of one kind, trained in floating point; as it is for every scheme."""
    torch.manual_seed(0)
    module = CELLS[cell]()
    x = torch.as_tensor(signals(TASK), dtype=torch.float32)
    target = torch.as_tensor(task(signals(TASK)), dtype=torch.float32)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(updates):
        y = module(x)
        loss = (((y[0] if isinstance(y, tuple) else y) - target) ** 2).mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        if hasattr(module, "apply_weight_constraints"):
            module.apply_weight_constraints()
    return module


def saved(module: Any) -> Policy:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dt as told
        return ncpc.save(module, Path(folder) / "network.safetensors", **TOLD)


def errors(reference: Policy, policy: Policy, scheme: Any) -> dict[str, float]:
    """The integer program of ``policy`` against ``reference`` over the reals."""
    data = Sequences(signals(HELD_OUT, 64), np.ones((64, STEPS)))
    program = lower_for(Container(policy), CompileOptions(quant=scheme, dt="fixed")).lowered.program
    exact, found = run(lower(reference), data).y, run(program, data).y
    span = float(np.ptp(exact))
    return {"max_over_range": _short(float(np.abs(found - exact).max()) / span),
            "rms_over_range": _short(float(np.sqrt(np.mean((found - exact) ** 2))) / span)}


def _short(number: float) -> float:
    return float(f"{number:.3g}")


def row(cell: str, scheme: str) -> dict[str, Any]:
    """One line of the table."""
    module = float_network(cell)
    reference = saved(module)
    prepared = quant.prepare(module, scheme, **TOLD)
    epochs, rate = LONGER.get((cell, scheme), RECIPE["epochs"]), RATES[scheme]
    quant.fine_tune(prepared, signals(TEACHING, 40), **{**RECIPE, "rate": rate, "epochs": epochs, "patience": epochs})
    return {"cell": cell, "scheme": scheme, "epochs": epochs, "rate": rate,
            "rounded": errors(reference, reference, scheme), "fine_tuned": errors(reference, saved(prepared), scheme)}


def show(rows: list[dict[str, Any]]) -> None:
    table = Table("cell", "scheme", "rounded: max", "rms", "fine-tuned: max", "rms")
    for found in rows:
        numbers = [f"{found[kind][which]:.2%}" for kind in ("rounded", "fine_tuned")
                   for which in ("max_over_range", "rms_over_range")]
        table.add_row(found["cell"], found["scheme"], *numbers)
    Console().print(table)


def main() -> int:
    """Make the rows that are missing."""
    torch.set_num_threads(1)
    held = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = {(found["cell"], found["scheme"]): found for found in held}
    for scheme in WANTED:
        for cell in CELLS:
            if (cell, scheme) not in rows:
                begin = time.perf_counter()
                rows[cell, scheme] = row(cell, scheme)
                print(f"{cell}, {scheme}: {time.perf_counter() - begin:.0f} s", flush=True)
                ordered = [rows[c, s] for s in WANTED for c in CELLS if (c, s) in rows]
                RESULT.write_text(json.dumps({"recipe": RECIPE, "rows": ordered}, indent=1) + "\n")
    show(list(rows.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
