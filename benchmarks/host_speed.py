"""How fast the host C is beside ncps in torch eager: one step of AutoNCP(19, 4), 32 inputs, batch 1, one thread.

    python -m benchmarks.host_speed        # writes host_speed.json beside this file

The C is timed inside C, over 100,000 steps with carried state; the same library through Python (a session's ``step``,
which asks a worker process: the time of both) stands beside it. Times are of the processor, so that other processes do
not count; only ratios of one run say something, as times depend on the machine.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.make_policies import FOLDER, autoncp_random
from ncpc.cores.toolchain import build_host_library
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import read_container
from ncpc.semantics import ports
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of, numpy_type
from ncpc.targets.c.sessions import HostSession

RESULT = Path(__file__).with_suffix(".json")
NETWORK = "autoncp19-trained"
STEPS, PYTHON_STEPS, TORCH_STEPS, ROUNDS = 100_000, 5_000, 200, 3
GOAL = 200.0

DRIVER = """
#include <time.h>
#include "{name}.h"
double drive({name}_t *s, const {x} *x, int rows, long steps, {y} *y);
double drive({name}_t *s, const {x} *x, int rows, long steps, {y} *y)
{{
    struct timespec start, end;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
    for (long t = 0; t < steps; t++) {{
        (void){name}_step(s, x + t % rows * {inputs}, y);
    }}
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
    return (double)(end.tv_sec - start.tv_sec) + 1e-9 * (double)(end.tv_nsec - start.tv_nsec);
}}
"""


def inputs(policy_inputs: int, rows: int = 512) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (rows, policy_inputs))


def build(lowered: Lowered, folder: Path) -> Path:
    face = interface_of(lowered.program)
    driver = DRIVER.format(name=face.name, x=face.x.name, y=face.y.name, inputs=face.inputs)
    path = folder / f"{lowered.scheme}.so"
    sources = {**emit_c(face), "driver.c": driver.encode()}
    path.write_bytes(build_host_library(sources, None, extra_flags=("-D_POSIX_C_SOURCE=199309L",)))
    return path


def seconds_in_c(library: Path, lowered: Lowered, steps: int) -> float:
    """Seconds per step."""
    face, lib = interface_of(lowered.program), ctypes.CDLL(str(library))
    lib.drive.restype = ctypes.c_double
    state = np.zeros(face.struct_bytes(), np.uint8)
    raw = ports.encode(lowered.program.x, inputs(face.inputs))
    x = np.ascontiguousarray(raw, numpy_type(face.x))
    y = np.zeros(face.outputs, numpy_type(face.y))
    getattr(lib, f"{face.name}_init")(ctypes.c_void_p(state.ctypes.data))
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (state, x, y)]
    taken = lib.drive(pointers[0], pointers[1], len(x), ctypes.c_long(steps), pointers[2])
    return float(taken) / steps


def seconds_in_python(library: Path, lowered: Lowered, steps: int) -> float:
    session, x = HostSession(library, interface_of(lowered.program)), inputs(lowered.policy.inputs)
    worker = session._worker.process.pid
    start = time.process_time() + on_processor(worker)
    for t in range(steps):
        session.step(x[t % len(x)], lowered.policy.dt.nominal)
    taken = time.process_time() + on_processor(worker) - start
    session.close()
    return taken / steps


def on_processor(pid: int) -> float:
    """Seconds that another process's main thread has run (Linux)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) * 1e-9


def seconds_in_torch(steps: int) -> float:
    """ncps as users call it in a loop: batch 1, one step per call, state carried."""
    torch.set_num_threads(1)
    model = autoncp_random().model.eval()
    x, state = torch.tensor(inputs(model.input_size), dtype=torch.float32)[:, None, None], None
    with torch.no_grad():
        _, state = model(x[0], state)
        start = time.process_time()
        for t in range(steps):
            _, state = model(x[t % len(x)], state)
    return (time.process_time() - start) / steps


def measure(scheme: str, folder: Path, steps: int = STEPS) -> dict[str, Any]:
    """The best of some rounds, C, Python and torch in turn."""
    container = read_container(FOLDER / f"{NETWORK}.safetensors")
    lowered = lower_for(container, CompileOptions(quant=scheme)).lowered  # type: ignore[arg-type]
    library = build(lowered, folder)
    rounds = [(seconds_in_c(library, lowered, steps), seconds_in_python(library, lowered, PYTHON_STEPS),
               seconds_in_torch(TORCH_STEPS)) for _ in range(ROUNDS)]
    in_c, in_python, in_torch = (min(column) for column in zip(*rounds, strict=True))
    return {
        "network": NETWORK, "scheme": scheme, "steps": steps, "microseconds_in_c": round(in_c * 1e6, 3),
        "microseconds_in_python": round(in_python * 1e6, 1), "microseconds_in_torch": round(in_torch * 1e6, 1),
        "torch_over_c": round(in_torch / in_c), "torch_over_python": round(in_torch / in_python, 1), "goal": GOAL,
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(scheme, Path(folder)) for scheme in ("float32", "int16", "int8")]
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    table = Table("scheme", "C, µs per step", "Python, µs", "torch, µs", "torch / C", "torch / Python")
    for row in rows:
        table.add_row(row["scheme"], *(f"{row[key]:,}" for key in list(row)[3:8]))
    Console().print(table)
    return 0 if all(row["torch_over_c"] >= GOAL for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
