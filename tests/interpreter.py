"""A target for tests: its artifact is a JSON list of faults, its runtime the Program itself with those faults put in.

What the verifier says about it depends on the emitted file alone, so every outcome can be staged without a compiler.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from ncpc.errors import MissingTool
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import run
from ncpc.targets.base import (
    PROGRAM,
    Artifact,
    Built,
    Capabilities,
    CompileOptions,
    CycleCounts,
    LinkSpec,
    Lowered,
    Memory,
    RunResult,
    Session,
    Target,
    TargetOption,
)

ABACUS = Capabilities(("float32", "int16", "int8"), flash_bytes=65536, ram_bytes=2048)


def interpreter_target(
    name: str = "interpreter", faults: Mapping[str, Any] = MappingProxyType({}), absent: tuple[str, ...] = (),
    flash: int = 1234,
) -> Target:
    """``faults``: ``bump`` {constant: index} adds ``by`` (1) to an element, ``late`` forgets resets, ``nan``."""

    def prepare(lowered: Lowered, options: CompileOptions) -> Artifact:
        content = json.dumps({"beads": options.extra["beads"], **faults}).encode()
        return Beads(lowered, {"artifact.json": content}, absent, flash)

    beads = TargetOption("beads", "7", "beads on a wire", ("5", "7"))
    return Target(name, "runs the program in NumPy", ABACUS, prepare, (), (beads,), "abacus", "bounds")


@dataclass(frozen=True, eq=False)
class Beads:
    """What the interpreter makes of a policy."""

    lowered: Lowered
    files: Mapping[str, bytes]
    absent: tuple[str, ...]
    flash: int
    links: tuple[LinkSpec, ...] = (LinkSpec(PROGRAM, "here", "bitwise", 600), LinkSpec("here", "there", "bitwise", 200))

    def build(self, folder: Path) -> Built:
        memory = Memory(self.flash, 96)
        return Built(memory=memory, tools={"abacus": "1.0"}, trace={"neurons": list(self.lowered.program.labels)})

    def model(self, inputs: Sequences) -> Trace:
        raise NotImplementedError

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        if runtime in self.absent:
            raise MissingTool(f"{runtime} needs an abacus: buy one")
        faults = json.loads((folder / "artifact.json").read_text())
        trace = faulty_run(self.lowered, inputs, faults)
        counts = 1000 + np.arange(inputs.steps) % 50
        cycles = CycleCounts(counts, counts + 7, {"step": 900.0, "sigmoid": 124.5})
        return RunResult(trace, runtime, "1.0", instructions=counts, cycles=cycles if runtime == "there" else None,
                         memory=Memory(self.flash, 96, 64, step_stack_bytes=48))

    def open(self, folder: Path, runtime: str) -> Session:
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
