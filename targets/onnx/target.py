"""The target ``onnx``: a step model and a sequence model, checked in the runtimes that people deploy with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.restore import physical_states
from ncpc.system.onnx_library import onnx
from ncpc.targets.base import (
    MODEL,
    PROGRAM,
    Built,
    Capabilities,
    CompileOptions,
    LinkSpec,
    Lowered,
    Requirement,
    RunResult,
    Session,
    Target,
    TargetOption,
)
from ncpc.targets.onnx import corners, emit
from ncpc.targets.onnx import runtime as runtimes
from ncpc.targets.onnx.cost import FORMS
from ncpc.targets.onnx.evaluate import evaluate
from ncpc.targets.onnx.session import OnnxSession

FLOAT_TOLERANCE = 1e-5
"""Of the output range; sums are rounded in another order than the program's."""


def target(name: str) -> Target:
    """The target; ``name`` is ``onnx``."""
    form = TargetOption("form", "auto", "how synapses are laid out; auto: a static cost model chooses per axis",
                        ("auto", *FORMS), shape=True)
    needs = (Requirement("onnx", "onnx", "to write, check and interpret the models"),
             Requirement("onnxruntime", "onnx", "to run them as they are deployed"))
    summary = "ONNX opset 21: a step model and a Scan over sequences, float32 or QDQ, run in ONNX Runtime"
    schemes = Capabilities(("float32", "int16", "w8a16", "w4a16", "int8"))
    return Target(name, summary, schemes, _prepared, needs, (form,))


def _prepared(lowered: Lowered, options: CompileOptions) -> OnnxArtifact:
    step = emit.step_graph(lowered, options)
    return OnnxArtifact(lowered, options, step, emit.files(lowered, step))


@dataclass(frozen=True, eq=False)
class OnnxArtifact:
    """One step as a graph, and its two files."""

    lowered: Lowered
    options: CompileOptions
    step: emit.StepGraph
    files: Mapping[str, bytes]

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """The evaluator first, being slow over fewer steps; fully optimized ONNX Runtime, the deployed one, last."""
        scheme, steps = self.lowered.numbers, {runtimes.REFERENCE: 200}
        source = PROGRAM if scheme.arithmetic == "float" else MODEL
        tolerance = emit.QDQ_TOLERANCE.get(scheme.activation_bits, FLOAT_TOLERANCE)
        return tuple(LinkSpec(source, name, "tolerance", steps.get(name, 10_000), tolerance, name == runtimes.REFERENCE)
                     for name in runtimes.RUNTIMES)

    def model(self, inputs: Sequences) -> Trace:
        """The graph's operators in NumPy."""
        return runtimes.run_steps(lambda feeds: evaluate(self.step.graph, feeds), inputs, self.start(inputs))

    def build(self, folder: Path) -> Built:
        """Nothing is built; the report gets the forms, what they were predicted to cost, node counts, and a run from
        the corners of the state's box.
        """
        lowered = self.lowered
        found = corners.check(self.file(folder), emit.exact_program(lowered, self.options), emit.boxes(lowered),
                              self.dt)
        facts = {**emit.facts(lowered.numbers, self.step), "corners": found}
        return Built(tools={"onnx": str(onnx().__version__)}, extra={"onnx": facts})

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        """The model over sequences in Scan, the step model in all other runtimes."""
        content, outputs = self.file(folder, runtime == runtimes.ORT_SCAN), self.lowered.policy.outputs
        trace, version = runtimes.run(content, runtime, inputs, self.start(inputs), outputs)
        return RunResult(trace, runtime, version, runtimes.describe(runtime))

    def open(self, folder: Path, runtime: str) -> Session:
        """Steps always run the step model; ``ort-enable-all-scan`` opens it fully optimized."""
        model = runtimes.load(self.file(folder), runtimes.ORT_FULL if runtime == runtimes.ORT_SCAN else runtime)
        return OnnxSession(model, emit.reset_state(self.lowered), self.dt is not None)

    def file(self, folder: Path, sequence: bool = False) -> bytes:
        """The step model in ``folder``, or the model over sequences."""
        return (folder / emit.file_names(self.lowered)[sequence]).read_bytes()

    @property
    def dt(self) -> float | None:
        """What is fed where data has no timespans; None where the model takes none."""
        return emit.nominal_dt(self.lowered, self.options)

    def start(self, inputs: Sequences) -> runtimes.Start:
        """Every sequence from the reset state, or from those it restores, which no graph limits."""
        reset, given = emit.reset_state(self.lowered), inputs.restored
        first = (np.tile(reset, (inputs.x.shape[0], 1)) if given is None
                 else physical_states(given, self.lowered.program))
        return runtimes.Start(reset, first.astype(np.float32), self.dt)
