"""TFLite files of LTC networks: error, size and step time in each runtime, and what Vela says of them.

    python -m benchmarks.tflite_files      # writes tflite_files.json beside this file

1,000 steps with carried state against the float64 policy. Times are through Python, and only their ratio to ncps in
torch eager, in the same run, says something. NPU figures are Vela's own estimate: nothing was run on an NPU.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from ncps.torch import LTC
from ncps.wirings import AutoNCP
from rich.console import Console
from rich.table import Table

from benchmarks.make_policies import FOLDER
from ncpc.driver.lowering import lower_for
from ncpc.errors import MissingTool
from ncpc.frontend.container import Container, read_container
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.base import Artifact, CompileOptions, Lowered
from ncpc.targets.tflite import npu, runtimes, target
from ncpc.targets.tflite.reading import read

RESULT = Path(__file__).with_suffix(".json")
STEPS, TIMED = 1000, 200
GOAL = {"float32": ("max_abs", 1e-6), "int16": ("rmse_over_std", 5e-3)}
"""int8 has no goal: its error is stated."""


def networks() -> Iterator[tuple[str, Policy]]:
    """LTC(20, AutoNCP(19, 4)) as ncps draws it, and the trained network with 32 inputs."""
    torch.manual_seed(0)
    drawn = LTC(20, AutoNCP(19, 4))
    yield "ltc20-autoncp19-random", Policy("random", import_model(drawn).layers, np.tile([-1.0, 1.0], (20, 1)))
    yield "autoncp19-trained", read_container(FOLDER / "autoncp19-trained.safetensors").policy


def inputs(policy: Policy) -> Sequences:
    """One sequence: sums of sinusoids, then noise, over the input range."""
    rng, t = np.random.default_rng(3), np.arange(STEPS)[:, None]
    waves = sum(np.sin(t * rng.uniform(0.01, 0.3, policy.inputs) + rng.uniform(0, 6, policy.inputs)) for _ in range(3))
    unit = np.where(t < STEPS // 2, waves / 6 + 0.5, rng.random((STEPS, policy.inputs)))
    lo, hi = policy.input_range.T
    return Sequences((lo + (hi - lo) * unit)[None])


def measure(name: str, policy: Policy, scheme: str, torch_seconds: float) -> list[dict[str, Any]]:
    """One row per runtime."""
    options = CompileOptions(quant=scheme)  # type: ignore[arg-type]
    lowered = lower_for(Container(policy), options).lowered
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        artifact = target("tflite").prepare(lowered, options)
        for file, content in artifact.files.items():
            (folder / file).write_bytes(content)
        rows = [row for runtime in runtimes.RUNTIMES
                if (row := _row(folder, lowered, artifact, runtime, torch_seconds))]
        extra = {} if scheme == "float32" else _npu(next(folder.glob("*.tflite")))
    return [{"network": name, "scheme": scheme, **row, **extra} for row in rows]


def _row(
    folder: Path, lowered: Lowered, artifact: Artifact, runtime: str, torch_seconds: float
) -> dict[str, Any] | None:
    data = inputs(lowered.policy)
    try:
        found = artifact.run(folder, data, runtime)
    except MissingTool as missing:
        print(f"not run: {missing}", file=sys.stderr)
        return None
    content = next(folder.glob("*.tflite")).read_bytes()
    error, expected = found.trace.y - (y := run(lowered.real, data).y), y
    row = {
        "runtime": runtime, "version": found.runtime_version, "steps": STEPS, "file_bytes": len(content),
        "operators": sum(read(content, "file").operators.values()), "max_abs": digits(np.abs(error).max()),
        "max_over_range": digits(np.abs(error).max() / np.ptp(expected)),
        "rmse_over_std": digits(np.sqrt((error**2).mean()) / expected.std()),
    }
    if lowered.scheme != "float32":
        model = artifact.model(data)
        row["outputs_unequal_to_model"] = int(np.count_nonzero(found.trace.raw_y != model.raw_y))
    if runtime != runtimes.OLD:
        session = artifact.open(folder, runtime)
        dt = lowered.policy.dt.nominal
        row["torch_over_step"] = digits(torch_seconds / seconds(lambda t: session.step(data.x[0, t], dt)), 3)
    return {**row, **_judged(row, lowered.scheme)}


def _judged(row: dict[str, Any], scheme: str) -> dict[str, Any]:
    if scheme not in GOAL:
        return {"goal": None, "met": None}
    figure, limit = GOAL[scheme]
    return {"goal": f"{figure} <= {limit:g}", "met": bool(row[figure] <= limit)}


def _npu(file: Path) -> dict[str, Any]:
    return {unit: npu.compile_file(file, unit).extra.get("npu") for unit in npu.CHOICES[1:]}


def seconds(step: Callable[[int], object]) -> float:
    """The median time of a step."""
    times = []
    for t in range(TIMED):
        begin = time.perf_counter()
        step(t)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def torch_step_seconds() -> float:
    """ncps in torch eager, one thread, batch 1: LTC(20, AutoNCP(19, 4))."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module, x, state = LTC(20, AutoNCP(19, 4)), torch.zeros(1, 1, 20), torch.zeros(1, 19)
    with torch.no_grad():
        return seconds(lambda t: module(x, state))


def digits(value: Any, count: int = 4) -> float:
    """Rounded to ``count`` significant digits."""
    return float(f"{float(value):.{count}g}")


def main() -> None:
    base = torch_step_seconds()
    rows = [row for name, policy in networks() for scheme in ("float32", "int16", "int8")
            for row in measure(name, policy, scheme, base)]
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    table = Table("network", "scheme", "runtime", "max / range", "RMSE / std", "torch / step", "goal", "met")
    for row in rows:
        table.add_row(*(str(row.get(key)) for key in ("network", "scheme", "runtime", "max_over_range", "rmse_over_std",
                                                      "torch_over_step", "goal", "met")))
    Console().print(table)


if __name__ == "__main__":
    main()
