"""A target for tests: its artifact is a JSON list of faults, its runtime the Program itself with those faults put in.

What the verifier says about it depends on the emitted file alone, so every outcome can be staged without a compiler.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import run
from ncpc.targets.base import (
    PROGRAM,
    Built,
    Capabilities,
    CompileOptions,
    CycleCounts,
    LinkSpec,
    Lowered,
    Memory,
    Requirement,
    RunResult,
    Session,
    TargetOption,
)

ABACUS = Capabilities(("float32", "int16", "int8"), flash_bytes=65536, ram_bytes=2048)


@dataclass(frozen=True)
class Interpreter:
    """``faults``: ``bump`` {constant: index} adds ``by`` (1) to an element, ``late`` forgets resets, ``nan``."""

    name: str = "interpreter"
    faults: Mapping[str, Any] = field(default_factory=dict)
    absent: tuple[str, ...] = ()
    flash: int = 1234
    summary: str = "runs the program in NumPy"
    core: str | None = "abacus"
    timing_class: Any = "bounds"
    capabilities: Capabilities = ABACUS
    requirements: tuple[Requirement, ...] = ()
    options: tuple[TargetOption, ...] = (TargetOption("beads", "7", "beads on a wire", ("5", "7")),)

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        return {"artifact.json": json.dumps({"beads": options.extra["beads"], **self.faults}).encode()}

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        memory = Memory(self.flash, 96)
        return Built(memory=memory, tools={"abacus": "1.0"}, trace={"neurons": list(lowered.program.labels)})

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        return LinkSpec(PROGRAM, "here", "bitwise", 600), LinkSpec("here", "there", "bitwise", 200)

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        raise NotImplementedError

    def run(
        self, folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, runtime: str,
        initial: NDArray[np.int64] | None = None,
    ) -> RunResult:
        if runtime in self.absent:
            raise MissingTool(f"{runtime} needs an abacus: buy one")
        faults = json.loads((folder / "artifact.json").read_text())
        trace = faulty_run(lowered, inputs, faults)
        counts = 1000 + np.arange(inputs.steps) % 50
        cycles = CycleCounts(counts, counts + 7, {"step": 900.0, "sigmoid": 124.5})
        return RunResult(trace, runtime, "1.0", instructions=counts, cycles=cycles if runtime == "there" else None,
                         memory=Memory(self.flash, 96, 64))

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> Session:
        raise NotImplementedError


def faulty_run(lowered: Lowered, inputs: Sequences, faults: Mapping[str, Any]) -> Trace:
    """Run the program with some constants changed and, if asked, without its resets."""
    program = lowered.program
    constants = dict(program.constants)
    for name, index in faults.get("bump", {}).items():
        value, data = constants[name]
        changed = data.copy()
        changed.flat[index] += faults.get("by", 1)
        constants[name] = (value, changed)
    data = dataclasses.replace(inputs, reset=None) if faults.get("late") else inputs
    trace = run(dataclasses.replace(program, constants=constants), data)
    if faults.get("nan"):
        trace.y[0, 3, 0] = np.nan
    return trace
