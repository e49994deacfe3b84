"""A minimal target, whole: the constants of the Program as one file, and the Program run with what that file holds.

``tests/test_extension.py`` puts this file into a copy of the sources, as ``targets/constants/__init__.py``, and adds
the line to ``targets/registry.py``: that is all that a target needs.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import run
from ncpc.targets.base import (
    PROGRAM,
    Artifact,
    Built,
    Capabilities,
    CompileOptions,
    LinkSpec,
    Lowered,
    RunResult,
    Session,
    Target,
)


def target(name: str) -> Target:
    """What ``ncpc compile --target constants`` goes by."""
    return Target(name, "the constants as an npz file", Capabilities(("float32", "int16", "int8")), _prepared)


def _prepared(lowered: Lowered, options: CompileOptions) -> Artifact:
    file = io.BytesIO()
    np.savez(file, **{name: data for name, (_, data) in lowered.program.constants.items()})
    return Constants(lowered.program, {f"{lowered.program.name}.npz": file.getvalue()})


@dataclass(frozen=True, eq=False)
class Constants:
    """The six members of an artifact."""

    program: Program
    files: Mapping[str, bytes]
    links: tuple[LinkSpec, ...] = (LinkSpec(PROGRAM, "numpy", "bitwise", 600),)

    def model(self, inputs: Sequences) -> Trace:
        raise Unsupported("constants compute nothing of their own")

    def build(self, folder: Path) -> Built:
        return Built()

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        with np.load(folder / f"{self.program.name}.npz") as file:
            held = {name: (value, file[name]) for name, (value, _) in self.program.constants.items()}
        return RunResult(run(dataclasses.replace(self.program, constants=held), inputs), runtime, np.__version__)

    def open(self, folder: Path, runtime: str) -> Session:
        raise Unsupported("constants have no sessions")
