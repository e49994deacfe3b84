"""The target ``onnx``: a step model and a sequence model, checked in the runtimes that people deploy with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.ops import OPS
from ncpc.ir.sequences import Sequences, Trace
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
    TargetOption,
    TimingClass,
)
from ncpc.targets.onnx import corners, emit, runtime
from ncpc.targets.onnx.cost import FORMS
from ncpc.targets.onnx.evaluate import evaluate
from ncpc.targets.onnx.library import onnx
from ncpc.targets.onnx.session import OnnxSession
from ncpc.targets.onnx.translate import LINEAR, NODES

FLOAT_TOLERANCE = 1e-5
"""Of the output range; sums are rounded in another order than the program's."""


@dataclass(frozen=True)
class Onnx:
    """See ``ncpc.targets.base.Target``; methods do what that protocol says."""

    name: str = "onnx"
    summary: str = "ONNX opset 21: a step model and a Scan over sequences, float32 or QDQ, run in ONNX Runtime"
    core: str | None = None
    timing_class: TimingClass | None = None

    @property
    def capabilities(self) -> Capabilities:
        ops = frozenset({*LINEAR, *NODES, "segment_sum", "mix"} & OPS.keys())
        return Capabilities(schemes=("float32", "int16", "int8"), ops=ops)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        return (Requirement("onnx", "onnx", "to write, check and interpret the models"),
                Requirement("onnxruntime", "onnx", "to run them as they are deployed"))

    @property
    def options(self) -> tuple[TargetOption, ...]:
        form = TargetOption("form", "auto", "how synapses are laid out; auto: a static cost model chooses per axis",
                            ("auto", *FORMS))
        weights = TargetOption("weights", "auto", "bits of quantized weights; auto: as wide as the activations",
                               ("auto", "int8", "int16"))
        return form, weights

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        return emit.files(lowered, options)

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        """Nothing is built; the report gets the forms, what they were predicted to cost, node counts, and a run from
        the corners of the state's box.
        """
        model = (folder / emit.file_names(lowered)[False]).read_bytes()
        found = corners.check(model, emit.exact_program(lowered, options), emit.boxes(lowered),
                              emit.nominal_dt(lowered, options))
        facts = {**emit.facts(lowered, options), "corners": found}
        return Built(tools={"onnx": str(onnx().__version__)}, extra={self.name: facts})

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        """The evaluator first, being slow over fewer steps; fully optimized ONNX Runtime, the deployed one, last."""
        source = PROGRAM if lowered.scheme == "float32" else MODEL
        tolerance = emit.QDQ_TOLERANCE.get(lowered.scheme, FLOAT_TOLERANCE)
        steps = {runtime.REFERENCE: 200}
        return tuple(LinkSpec(source, name, "tolerance", steps.get(name, 10_000), tolerance, name == runtime.REFERENCE)
                     for name in runtime.RUNTIMES)

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        graph = emit.step_graph(lowered, options).graph
        start = emit.reset_state(lowered)
        return runtime.run_steps(lambda feeds: evaluate(graph, feeds), inputs, start, _rows(start, inputs),
                                 emit.nominal_dt(lowered, options))

    def run(self, folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, runtime: str,
            initial: NDArray[np.int64] | None = None) -> RunResult:
        return _run(folder, lowered, options, inputs, runtime, initial)

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> Session:
        return _open(folder, lowered, options, runtime)


def target(name: str) -> Onnx:
    """The target; ``name`` is ``onnx``."""
    return Onnx(name)


def _run(folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, name: str,
         initial: NDArray[np.int64] | None) -> RunResult:
    scan = name == runtime.ORT_SCAN
    call = runtime.load((folder / emit.file_names(lowered)[scan]).read_bytes(), name)
    start = emit.reset_state(lowered)
    begin = _rows(start, inputs) if initial is None else emit.physical_state(lowered, initial)
    run = runtime.run_scan if scan else runtime.run_steps
    trace = run(call, inputs, start, begin, emit.nominal_dt(lowered, options))
    return RunResult(trace, name, runtime.version(name), runtime.describe(name))


def _open(folder: Path, lowered: Lowered, options: CompileOptions, name: str) -> Session:
    """Steps always run the step model; ``ort-enable-all-scan`` opens it fully optimized."""
    name = runtime.ORT_FULL if name == runtime.ORT_SCAN else name
    call = runtime.load((folder / emit.file_names(lowered)[False]).read_bytes(), name)
    return OnnxSession(call, emit.reset_state(lowered), emit.nominal_dt(lowered, options))


def _rows(start: NDArray[np.float32], inputs: Sequences) -> NDArray[np.float32]:
    return np.tile(start, (inputs.x.shape[0], 1))
