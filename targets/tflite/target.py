"""The target ``tflite``: one step as a .tflite file, checked in LiteRT, TFLite Micro and tflite-runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput, MissingTool
from ncpc.ir.heads import affordable
from ncpc.ir.program import Program
from ncpc.ir.schemes import NumberScheme
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.bounds import Range
from ncpc.semantics.restore import physical_states
from ncpc.targets.base import (
    MODEL,
    POLICY,
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
from ncpc.targets.graph.corners import STARTS
from ncpc.targets.tflite import corners, emit, libraries, npu, runtimes, sequences
from ncpc.targets.tflite.difference import unequal
from ncpc.targets.tflite.flatbuffer import write
from ncpc.targets.tflite.graph import TfliteGraph
from ncpc.targets.tflite.model import IntegerModel
from ncpc.targets.tflite.reading import File, read
from ncpc.targets.tflite.session import TfliteSession

FLOAT_TOLERANCE = 1e-5
"""How far float kernels may be from the policy, a share of the output range; integer kernels of XNNPACK may be as far
from the reference kernels as the build is asked to hold.
"""
CORNER_STEPS, OPERATOR_STEPS, FEWEST_STEPS = 50, 16, 2
"""Steps from each corner of the box, and steps whose operators are compared one by one; so many in any case."""
EXPLAINED = (runtimes.REFERENCE, runtimes.MICRO)
"""Runtimes whose operators are compared with the model one by one."""


def target(name: str) -> Target:
    """The target; ``name`` is ``tflite``."""
    options = (TargetOption("npu", "none", "also compile the file for an Arm Ethos-U with Vela", npu.CHOICES),
               TargetOption("state", "input", "the state as input and output, or kept inside as resource variables",
                            ("input", "variable")))
    needs = (Requirement("ai_edge_litert", "tflite", "to write the file and run it in LiteRT"),
             Requirement("flatbuffers", "tflite", "to write the file"),
             Requirement("tflite_micro", "tflite", "to run the file in TFLite Micro"))
    summary = "TFLite file, float32, int16x8 or int8, run in LiteRT and TFLite Micro; Ethos-U by Vela"
    schemes = Capabilities(("float32", "int16", "w8a16", "w4a16", "int8"))
    return Target(name, summary, schemes, _prepared, needs, options)


def _prepared(lowered: Lowered, options: CompileOptions) -> TfliteArtifact:
    npu.refuse(lowered, options)
    real = emit.timed(lowered, options)
    limited = emit.limits(lowered, real)
    boxes = emit.boxes(lowered, real, limited)
    graph = emit.step_graph(lowered, real, boxes, options)
    plain, inside = write(graph), options.extra.get("state", "input") == "variable"
    content = write(emit.stateful(graph, lowered)) if inside else plain
    return TfliteArtifact(lowered, options, real, limited, boxes, graph, plain, {emit.file_name(lowered): content})


@dataclass(frozen=True, eq=False)
class TfliteArtifact:
    """One step as a graph, made of ``real``: ``plain`` is its file with the states as inputs. ``boxes`` are the states'
    ranges, ``limited`` those that are narrower than what is proved.
    """

    lowered: Lowered
    options: CompileOptions
    real: Program
    limited: Mapping[str, Range]
    boxes: dict[str, Range]
    graph: TfliteGraph
    plain: bytes
    files: Mapping[str, bytes]

    @property
    def name(self) -> str:
        """The file's name."""
        return emit.file_name(self.lowered)

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """Integers: every runtime equals the model bit for bit, but XNNPACK, which has kernels of its own."""
        return tuple(_link(runtime, self.lowered.numbers, self.options.tolerance) for runtime in runtimes.RUNTIMES)

    def model(self, inputs: Sequences) -> Trace:
        """The reference kernels in NumPy, the whole batch at once."""
        model, file = IntegerModel(self.graph), read(self.plain, self.name)
        raw = sequences.encode(file, inputs, self.lowered.policy.dt.nominal)
        return sequences.decode(file, model.run(raw))

    def build(self, folder: Path) -> Built:
        """Runs Vela when an NPU is asked for; the report gets the operators, the boundary's scales, and a run from
        the corners of the state's box.
        """
        compiled = npu.compile_file(folder / self.name, self.options.extra.get("npu", "none"))
        tools = {"ai-edge-litert": libraries.installed("ai-edge-litert"), **compiled.tools}
        content, file = self._opened(folder)
        extra = {"tflite": {**_facts(file), **_checks(self, content, file)}, **compiled.extra}
        return Built(files=compiled.files, tools=tools, extra=extra, missing=compiled.missing)

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        content, file = self._opened(folder)
        begin = None if inputs.restored is None else physical_states(inputs.restored, self.lowered.program)
        raw = sequences.encode(file, inputs, self.lowered.policy.dt.nominal, begin)
        found = runtimes.run(content, file, runtime, raw)
        return RunResult(sequences.decode(file, found), runtime, runtimes.version(runtime), runtimes.describe(runtime))

    def open(self, folder: Path, runtime: str) -> Session:
        if runtime == runtimes.OLD:
            raise BadInput(f"{runtime}: runs whole sequences only; open {runtimes.REFERENCE}")
        content, file = self._opened(folder)
        return TfliteSession(runtimes.RuntimeInstance(content, file, runtime), file)

    def _opened(self, folder: Path) -> tuple[bytes, File]:
        """The file as it stands in ``folder``."""
        content = (folder / self.name).read_bytes()
        return content, read(content, self.name)


def _link(runtime: str, scheme: NumberScheme, tolerance: float) -> LinkSpec:
    required = runtime == runtimes.REFERENCE
    if scheme.arithmetic == "float":
        return LinkSpec(POLICY, runtime, "tolerance", 1000, FLOAT_TOLERANCE, required)
    if runtime == runtimes.XNNPACK:
        return LinkSpec(MODEL, runtime, "tolerance", 1000, tolerance, required)
    return LinkSpec(MODEL, runtime, "bitwise", 10_000, 0.0, required)


def _checks(made: TfliteArtifact, content: bytes, file: File) -> dict[str, Any]:
    """What links cannot say: states at the box's corners; operators that differ from their model, and by how much."""
    policy, graph = made.lowered.policy, None if made.lowered.numbers.arithmetic == "float" else made.graph
    found: dict[str, Any] = {}
    if not file.keeps_state:
        steps = affordable(policy.layers, CORNER_STEPS, STARTS, FEWEST_STEPS)
        found["corners"] = corners.check(content, file, made.real, graph, made.boxes, steps)
    if graph is not None:
        found["limited_states"] = {name: [float(lo.min()), float(hi.max())] for name, (lo, hi) in made.limited.items()}
        # The operators of a file that keeps its state are those of one that does not, where any state can be set.
        steps = affordable(policy.layers, OPERATOR_STEPS, len(EXPLAINED), FEWEST_STEPS)
        found["unequal_operators"] = {name: _unequal(made.plain, graph, name, steps) for name in EXPLAINED}
    return found


def _unequal(content: bytes, graph: TfliteGraph, runtime: str, steps: int) -> dict[str, dict[str, int]] | str:
    try:
        return unequal(content, graph, runtime, steps)
    except MissingTool as missing:
        return f"not run: {missing}"


def _facts(file: File) -> dict[str, object]:
    edges = {edge.name: {"dtype": edge.dtype, "size": edge.size,
                         "scale": None if edge.quant is None else edge.quant.step,
                         "zero_point": None if edge.quant is None else edge.quant.zero_point}
             for edge in (*file.inputs, *file.outputs)}
    return {"operators": file.operators, "signature": edges}
