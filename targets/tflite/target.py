"""The target ``tflite``: one step as a .tflite file, checked in LiteRT, TFLite Micro and tflite-runtime."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, MissingTool
from ncpc.ir.heads import products
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ports import physical
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
    TargetOption,
    TimingClass,
)
from ncpc.targets.tflite import corners, emit, float_graph, libraries, npu, runtimes, sequences
from ncpc.targets.tflite.difference import unequal
from ncpc.targets.tflite.flatbuffer import write
from ncpc.targets.tflite.graph import Graph
from ncpc.targets.tflite.model import IntegerModel
from ncpc.targets.tflite.reading import File, read
from ncpc.targets.tflite.session import TfliteSession

FLOAT_TOLERANCE = 1e-5
"""How far float kernels may be from the policy, a share of the output range; integer kernels of XNNPACK may be as far
from the reference kernels as the build is asked to hold.
"""
CORNER_STEPS, OPERATOR_STEPS = 50, 16
"""Steps from each corner of the box, and steps whose operators are compared one by one."""
MOST_PRODUCTS = 10**9
"""Products that each of the two may take."""
EXPLAINED = (runtimes.REFERENCE, runtimes.MICRO)
"""Runtimes whose operators are compared with the model one by one."""


@dataclass(frozen=True)
class Tflite:
    """See ``ncpc.targets.base.Target``; methods do what that protocol says."""

    name: str = "tflite"
    summary: str = "TFLite file, float32, int16x8 or int8, run in LiteRT and TFLite Micro; Ethos-U by Vela"
    core: str | None = None
    timing_class: TimingClass | None = None

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(schemes=("float32", "int16", "int8"), ops=frozenset(float_graph.EMITTERS))

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        return (Requirement("ai_edge_litert", "tflite", "to write the file and run it in LiteRT"),
                Requirement("flatbuffers", "tflite", "to write the file"),
                Requirement("tflite_micro", "tflite", "to run the file in TFLite Micro"))

    @property
    def options(self) -> tuple[TargetOption, ...]:
        return (TargetOption("npu", "none", "also compile the file for an Arm Ethos-U with Vela", npu.CHOICES),
                TargetOption("state", "input", "the state as input and output, or kept inside as resource variables",
                             ("input", "variable")))

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        npu.refuse(lowered, options)
        return {emit.file_name(lowered): write(emit.file_graph(lowered, options))}

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        """Runs Vela when an NPU is asked for; the report gets the operators, the boundary's scales, and a run from
        the corners of the state's box.
        """
        name = emit.file_name(lowered)
        compiled = npu.compile_file(folder / name, options.extra.get("npu", "none"))
        tools = {"ai-edge-litert": libraries.installed("ai-edge-litert"), **compiled.tools}
        facts = {**_facts(_file(folder, lowered)), **_checks(folder, lowered, options)}
        extra = {self.name: facts, **compiled.extra}
        return Built(files=compiled.files, tools=tools, extra=extra, missing=compiled.missing)

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        """Integers: every runtime equals the model bit for bit, but XNNPACK, which has kernels of its own."""
        return tuple(_link(runtime, lowered.scheme, options.tolerance) for runtime in runtimes.RUNTIMES)

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        """The reference kernels in NumPy, the whole batch at once."""
        graph = emit.graph(lowered, options)
        model, file = IntegerModel(graph), read(write(graph), emit.file_name(lowered))
        raw = sequences.encode(file, inputs, lowered.policy.dt.nominal)
        return sequences.decode(file, model.run(raw))

    def run(self, folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, runtime: str,
            initial: NDArray[np.int64] | None = None) -> RunResult:
        file, content = _file(folder, lowered), _content(folder, lowered)
        begin = None if initial is None else physical_state(lowered, initial)
        raw = sequences.encode(file, inputs, lowered.policy.dt.nominal, begin)
        found = runtimes.run(content, file, runtime, raw)
        return RunResult(sequences.decode(file, found), runtime, runtimes.version(runtime), runtimes.describe(runtime))

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> Session:
        if runtime == runtimes.OLD:
            raise BadInput(f"{runtime}: runs whole sequences only; open {runtimes.REFERENCE}")
        file = _file(folder, lowered)
        content = _content(folder, lowered)
        return TfliteSession(lambda: runtimes.load(content, file, runtime), file, lowered.policy.dt.nominal)


def target(name: str) -> Tflite:
    """The target; ``name`` is ``tflite``."""
    return Tflite(name)


def physical_state(lowered: Lowered, raw: NDArray[np.int64]) -> NDArray[np.float64]:
    """Raw states (B, S) of the typed program as physical numbers; binary32 comes as its bits."""
    parts, start = [np.zeros((raw.shape[0], 0))], 0
    for state in lowered.program.states:
        part = raw[:, start : start + state.inp.shape[0]]
        start += state.inp.shape[0]
        real = part.astype(np.int32).view(np.float32) if lowered.scheme == "float32" else part
        parts.append(physical(real, state.inp))
    return np.concatenate(parts, axis=1)


def _link(runtime: str, scheme: str, tolerance: float) -> LinkSpec:
    required = runtime == runtimes.REFERENCE
    if scheme == "float32":
        return LinkSpec(POLICY, runtime, "tolerance", 1000, FLOAT_TOLERANCE, required)
    if runtime == runtimes.XNNPACK:
        return LinkSpec(MODEL, runtime, "tolerance", 1000, tolerance, required)
    return LinkSpec(MODEL, runtime, "bitwise", 10_000, 0.0, required)


def _content(folder: Path, lowered: Lowered) -> bytes:
    return (folder / emit.file_name(lowered)).read_bytes()


def _file(folder: Path, lowered: Lowered) -> File:
    return read(_content(folder, lowered), emit.file_name(lowered))


def _checks(folder: Path, lowered: Lowered, options: CompileOptions) -> dict[str, Any]:
    """What links cannot say: states at the box's corners; operators that differ from their model, and by how much."""
    graph = None if lowered.scheme == "float32" else emit.graph(lowered, options)
    real, content, file = emit.timed(lowered, options), _content(folder, lowered), _file(folder, lowered)
    found: dict[str, Any] = {}
    if not file.keeps_state:
        steps = affordable(lowered.policy, CORNER_STEPS, corners.STARTS)
        found["corners"] = corners.check(content, file, real, graph, emit.boxes(lowered, real), steps)
    if graph is not None:
        found["limited_states"] = {name: [float(lo.min()), float(hi.max())]
                                   for name, (lo, hi) in emit.limits(lowered, real).items()}
        # The operators of a file that keeps its state are those of one that does not, where any state can be set.
        steps = affordable(lowered.policy, OPERATOR_STEPS, len(EXPLAINED))
        found["unequal_operators"] = {name: _unequal(write(graph), graph, name, steps) for name in EXPLAINED}
    return found


def affordable(policy: Policy, steps: int, times: int) -> int:
    """As many of ``steps``, done ``times`` times, as the products of a policy that reads frames allow; 2 at least."""
    each = times * products(policy.layers)
    return steps if not each else max(2, min(steps, MOST_PRODUCTS // each))


def _unequal(content: bytes, graph: Graph, runtime: str, steps: int) -> dict[str, dict[str, int]] | str:
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
