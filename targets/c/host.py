"""The generated C on this machine: a shared library, called in a worker process."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import encoded_dt
from ncpc.targets.c.device import RunBytes, plan_for, trace_of_bytes
from ncpc.targets.c.interface import Interface, numpy_type
from ncpc.worker.process import Service, Worker, borrowed, opened

SERVICE = Service(str(Path(__file__).with_name("worker.py")), patience=120.0)


def run_library(path: Path, face: Interface, data: Sequences) -> Trace:
    """Run ``data`` through the library, each sequence from reset or from the states it restores.

    Where ``data`` restores states, save and the self test run too: ProofFailed says where one of them does not agree,
    and that the library brought its process down.
    """
    plan, dt = plan_for(face, data), encoded_dt(face.program, data)
    arrays = {"x": plan.x, "dt": None if dt is None else typed_dt(dt, face), "reset": plan.reset, "start": plan.start}
    given = {name: array for name, array in arrays.items() if array is not None}
    restores, (batch, steps), width = plan.start is not None, data.x.shape[:2], plan.interface.state_bytes
    with borrowed(SERVICE, path.name) as worker, loading(path) as copy:
        worker.ask("open", opening(copy, face))
        found = worker.ask("run", {}, given)
    saved = found.array("saved", np.uint8, (batch, width)) if restores else None
    wrong = int(found.head["self_test"]) if restores else None
    ran = RunBytes(found.array("y", np.uint8, (batch, steps, plan.interface.y_bytes)),
                   found.array("state", np.uint8, (batch, steps, width)),
                   found.array("status", np.uint32, (batch, steps)), saved, wrong)
    return trace_of_bytes(face, ran, "this machine")


def open_library(path: Path, face: Interface) -> Worker:
    """A worker with one instance of the library, which answers to ``reset`` and ``step``."""
    with loading(path) as copy:
        return opened(SERVICE, path.name, opening(copy, face))


@contextmanager
def loading(path: Path) -> Iterator[Path]:
    """The library as the file is now, under a name of its own: a name once loaded stays what it was."""
    with tempfile.TemporaryDirectory(prefix="ncpc-load-") as folder:
        yield Path(shutil.copy(path, folder))


def opening(path: Path, face: Interface) -> dict[str, Any]:
    """What the worker has to know of the library at ``path``."""
    return {"path": str(path), "name": face.name, "struct_bytes": face.struct_bytes(),
            "y_bytes": face.outputs * face.y.bytes, "state": [list(part) for part in face.offsets()]}


def typed_dt(dt: NDArray[Any], face: Interface) -> NDArray[Any]:
    """Timespans in the type that the step takes."""
    if face.dt is None:
        raise ProofFailed(f"{face.name}_step takes no timespan")
    return dt.astype(numpy_type(face.dt))
