"""What each consumer makes of a recurrent graph, found out by running one: a ring of units that fire in turn."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import MissingTool
from ncpc.targets.nir import graph as names
from ncpc.targets.nir.consumers import CONSUMERS, load

RING, TICKS = 4, 10
DIRECT, FACTORED = "LIF -> Linear -> LIF", "LIF -> Linear -> Linear -> LIF"
AS_WRITTEN, DIFFERS = "as written", "differs"


@dataclass(frozen=True)
class Finding:
    """``version`` None: not installed, ``note`` says what is missing. ``cycles``: form of the recurrence -> what came
    of it: as written, differs, or the importer's error. ``spikes``: whether single spikes can be read.
    """

    name: str
    version: str | None
    cycles: dict[str, str]
    spikes: bool
    note: str = ""


def findings() -> list[Finding]:
    """One for each consumer ncpc knows."""
    return [_finding(name) for name in CONSUMERS]


def _finding(name: str) -> Finding:
    try:
        CONSUMERS[name].imported()
        names.library()
    except MissingTool as error:
        return Finding(name, None, {}, False, str(error))
    runs = {form: _try(name, form) for form in (DIRECT, FACTORED)}
    return Finding(name, CONSUMERS[name].version(), {form: told for form, (told, _) in runs.items()},
                   any(seen for _, seen in runs.values()))


def _try(name: str, form: str) -> tuple[str, bool]:
    """What came of the ring in this form, and whether its spikes could be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ring.nir"
        path.write_bytes(names.to_bytes(ring(form)))
        try:
            machine = load(name, path)
            runs = [machine.tick(np.zeros((1, 1), np.float32)) for _ in range(TICKS)]
        except Exception as error:  # whatever a foreign importer raises is the finding
            return f"{type(error).__name__}: {' '.join(str(error).split())}"[:100], False
    fired = np.concatenate([y for y, _ in runs])
    expected = np.eye(RING)[np.arange(TICKS) % RING]
    same = fired.shape == expected.shape and np.array_equal(fired, expected)
    return AS_WRITTEN if same else DIFFERS, all(s is not None for _, s in runs)


def ring(form: str) -> Any:
    """RING units; unit 0 fires when none or the last did, unit q after unit q-1; every tick's spikes are the output."""
    nir = names.library()
    next_one = np.roll(np.eye(RING, dtype=np.float32), 1, axis=0)
    next_one[0] -= 1.0
    bias = np.array([1.5, 0.5, 0.5, 0.5], np.float32)
    size = np.array([RING])
    nodes = {
        names.INPUT: nir.Input(input_type={"input": np.array([1])}),
        names.SENSE: nir.Affine(weight=np.zeros((RING, 1), np.float32), bias=bias),
        names.UNITS: names.lif(nir, RING), names.DECODE: nir.Linear(weight=np.eye(RING, dtype=np.float32)),
        names.ENCODE: nir.Linear(weight=next_one), names.READOUT: nir.Linear(weight=np.eye(RING, dtype=np.float32)),
        names.OUTPUT: nir.Output(output_type={"output": size}),
    }
    edges = list(names.EDGES)
    if form == DIRECT:
        del nodes[names.DECODE]
        edges = [(a, names.ENCODE) if b == names.DECODE else (a, b) for a, b in edges if a != names.DECODE]
    return nir.NIRGraph(nodes, edges)
