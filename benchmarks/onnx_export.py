"""ncpc's ONNX models beside PyTorch's own exports of the same networks.

    python -m benchmarks.onnx_export -o benchmarks/onnx_export.json       # needs the extras torch and onnx, onnxscript

Each row is one network: nodes, file size, export time, latency of one step at batch 1 and 256 in ONNX Runtime (fully
optimized, one thread), for ncpc and for torch.onnx.export with and without dynamo, and the latency of ncps itself.
All models take (x, state, dt) and agree on random inputs, which is checked first. Candidates take turns while timed,
and ratios are of one run.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ncps.torch
import numpy as np
import onnx
import torch
from ncps.wirings import AutoNCP, FullyConnected

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.policy import DtRange, Policy
from ncpc.targets.base import CompileOptions
from ncpc.targets.onnx import target
from ncpc.worker.onnx_runtime import make_session

NETS: dict[str, tuple[Callable[[], Any], int]] = {
    "AutoNCP(19,4), 20 inputs": (lambda: AutoNCP(19, 4, seed=0), 20),
    "FullyConnected(8,1), 4 inputs": (lambda: FullyConnected(8, 1), 4),
    "AutoNCP(16,2), 6 inputs": (lambda: AutoNCP(16, 2, seed=0), 6),
    "FullyConnected(64,4), 16 inputs": (lambda: FullyConnected(64, 4), 16),
    "AutoNCP(128,8), 16 inputs": (lambda: AutoNCP(128, 8, seed=0), 16),
}
BATCHES = (1, 256)
OURS, EAGER = "ncpc", "torch eager"


class Step(torch.nn.Module):
    """One step of an LTC cell, as an exporter wants it."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: torch.Tensor, state: torch.Tensor, dt: torch.Tensor) -> Any:
        return self.cell.forward(x, state, dt)


def export_ncpc(model: Any, inputs: int) -> bytes:
    policy = Policy("net", import_model(model).layers, np.tile([-1.0, 1.0], (inputs, 1)), DtRange(0.1, 10.0, 1.0))
    options = CompileOptions("float32", "runtime")
    return target("onnx").prepare(lower_for(Container(policy), options).lowered, options).files["net.onnx"]


def export_torch(model: Any, inputs: int, dynamo: bool) -> bytes:
    """PyTorch's export with dynamic batch; weights inside the file, so that sizes compare."""
    arguments = (torch.zeros(2, inputs), torch.zeros(2, model.state_size), torch.ones(2, 1))
    names = {"input_names": ["x", "state", "dt"], "output_names": ["y", "state_out"]}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        if dynamo:
            shapes = tuple({0: torch.export.Dim("batch", min=1, max=4096)} for _ in arguments)
            program = torch.onnx.export(Step(model.rnn_cell), arguments, dynamo=True, opset_version=21,
                                        dynamic_shapes=shapes, verbose=False, **names)
            program.save(path, external_data=False)
        else:
            axes = {n: {0: "batch"} for n in (*names["input_names"], *names["output_names"])}
            torch.onnx.export(Step(model.rnn_cell), arguments, path, dynamo=False, opset_version=20, dynamic_axes=axes,
                              **names)
        return path.read_bytes()


EXPORTERS: dict[str, Callable[[Any, int], bytes]] = {
    OURS: export_ncpc,
    "torch.onnx.export(dynamo=False)": lambda m, i: export_torch(m, i, False),
    "torch.onnx.export(dynamo=True)": lambda m, i: export_torch(m, i, True),
}


def compare(name: str) -> dict[str, Any]:
    """Everything about one network."""
    wiring, inputs = NETS[name]
    torch.manual_seed(0)
    model = ncps.torch.LTC(inputs, wiring()).eval()
    models, rows = {}, {}
    for exporter, export in EXPORTERS.items():
        models[exporter], seconds = _timed(export, model, inputs)
        graph = onnx.load_from_string(models[exporter]).graph
        rows[exporter] = {"nodes": len(graph.node), "file_bytes": len(models[exporter]), "export_s": round(seconds, 3)}
    agree(model, models, inputs)
    rows[EAGER] = {}
    for batch in BATCHES:
        for who, seconds in latencies(model, models, inputs, batch).items():
            rows[who][f"us_batch_{batch}"] = round(1e6 * seconds, 1)
    return {"net": name, "rows": rows, "times_ncpc": ratios(rows)}


def _timed(export: Callable[[Any, int], bytes], model: Any, inputs: int) -> tuple[bytes, float]:
    """The export, and the best time of three."""
    best, made = np.inf, b""
    for _ in range(3):
        begin = time.perf_counter()
        made = export(model, inputs)
        best = min(best, time.perf_counter() - begin)
    return made, best


def draw(model: Any, inputs: int, batch: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    drawn = {"x": rng.uniform(-1, 1, (batch, inputs)), "state": rng.uniform(-0.5, 0.5, (batch, model.state_size)),
             "dt": rng.uniform(0.1, 10, (batch, 1))}
    return {key: value.astype(np.float32) for key, value in drawn.items()}


def agree(model: Any, models: dict[str, bytes], inputs: int) -> None:
    """Every export computes what the module does."""
    feeds = draw(model, inputs, 7)
    with torch.no_grad():
        wanted = model.rnn_cell.forward(*(torch.tensor(value) for value in feeds.values()))[0].numpy()
    for exporter, data in models.items():
        found = make_session(data, "ORT_ENABLE_ALL").run(["y"], feeds)[0]
        if np.abs(found - wanted).max() > 1e-5:
            raise SystemExit(f"{exporter} differs from the module by {np.abs(found - wanted).max()}")


def latencies(model: Any, models: dict[str, bytes], inputs: int, batch: int) -> dict[str, float]:
    """Seconds per step of each candidate and of ncps: the best round's median."""
    feeds = draw(model, inputs, batch)
    calls = {who: _call(data, feeds) for who, data in models.items()}
    arguments = [torch.tensor(value) for value in feeds.values()]
    calls[EAGER] = lambda: model.rnn_cell.forward(*arguments)
    best = dict.fromkeys(calls, np.inf)
    with torch.no_grad():
        for _ in range(9):
            for who, call in calls.items():
                best[who] = min(best[who], _median(call))
    return best


def _call(data: bytes, feeds: dict[str, np.ndarray]) -> Callable[[], Any]:
    session = make_session(data, "ORT_ENABLE_ALL")
    return lambda: session.run(None, feeds)


def _median(call: Callable[[], Any], least: float = 0.04) -> float:
    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < least or len(times) < 5:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def ratios(rows: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """How many times ncpc's figure each other figure is: above 1 means ncpc is smaller or faster."""
    ours = rows[OURS]
    return {who: {key: round(value / ours[key], 2) for key, value in row.items()}
            for who, row in rows.items() if who != OURS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, help="write the table as JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    compare("FullyConnected(8,1), 4 inputs")  # the first export pays for what every library loads
    found = [compare(name) for name in NETS]
    for one in found:
        print(one["net"])
        for who, row in one["rows"].items():
            times = one["times_ncpc"].get(who, {})
            cells = (f"{key} {value:,}" + (f" (x{times[key]:g})" if key in times else "") for key, value in row.items())
            print(f"  {who:32} {'  '.join(cells)}")
    libraries = {name: version(name) for name in ("torch", "onnxscript", "onnx", "onnxruntime", "ncps")}
    record = {"machine": platform.machine(), "threads": 1, "libraries": libraries, "nets": found}
    if arguments.o:
        arguments.o.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
