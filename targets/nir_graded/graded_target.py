"""Target ``nir-graded``: one NIR node per layer for chips that run programs and send numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.policy import Ltc
from ncpc.ir.sequences import Sequences, Trace
from ncpc.ir.wires import only_layer
from ncpc.targets.base import (
    MODEL,
    PROGRAM,
    Artifact,
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
from ncpc.targets.nir.consumers import faults
from ncpc.targets.nir.files import read_graph, stem
from ncpc.targets.nir.graph import to_bytes
from ncpc.targets.nir.study import study
from ncpc.targets.nir_graded import direct_runs, spinnaker2
from ncpc.targets.nir_graded.chips import Chip, chip, names, require_fit
from ncpc.targets.nir_graded.direct_runs import direct_artifact
from ncpc.targets.nir_graded.joined import execute
from ncpc.targets.nir_graded.layers import GradedLayer
from ncpc.targets.nir_graded.loihi2 import loihi2
from ncpc.targets.nir_graded.ltc_program import FORM, program_of, record_of
from ncpc.targets.nir_graded.node import graph, held_by, register
from ncpc.targets.nir_graded.record import GradedLtc, number_formats
from ncpc.targets.nir_graded.sessions import GradedSession
from ncpc.targets.nir_graded.split import layers_of
from ncpc.targets.nir_graded.traffic import GradedRun
from ncpc.targets.nir_graded.widths import ProvedWidths, proved_widths

RUNTIME = direct_runs.EXECUTOR
STEPS = 2000
MOST_THETA = 1 << 15
ASSUMPTIONS = (
    "inputs outside their ranges are saturated and flagged",
    "the run starts from 0, or from states within the box",
    "two's complement integers; a right shift of a negative integer rounds down",
)
CAPABILITIES = Capabilities(schemes=("int16", "int8", "float32"))
"""Layers are not listed: a refusal by ``prepare`` knows what to do instead, which depends on the scheme."""


@dataclass(frozen=True, eq=False)
class FileContents:
    """What the file holds, and the record of its one LTC where a chip's own arithmetic changed it."""

    layers: tuple[GradedLayer, ...]
    record: GradedLtc | None = None


def theta_of(text: str) -> int:
    """``--theta`` as a number; raises BadInput for what is none."""
    if not text.isdecimal() or int(text) >= MOST_THETA:
        raise BadInput(f"--theta {text}: give a whole number from 0 to {MOST_THETA - 1}, in units of the sent state")
    return int(text)


REQUIREMENTS = (
    Requirement("nir", "nir", "writing and reading NIR files"),
    Requirement("norse", "consumers", "running standard nodes in Norse"),
    Requirement("snntorch", "consumers", "running standard nodes in snnTorch"),
    Requirement("spikingjelly", "consumers", "running standard nodes in SpikingJelly"),
)
OPTIONS = (
    TargetOption("chip", "none", "Chip whose arithmetic and limits apply.", ("none", *names())),
    TargetOption("theta", "0", "Send a state to its synapses only when it moved by more than this since it was "
                 "last sent, in units of its 16-bit view.", check=theta_of),
)


def target(name: str) -> Target:
    """Custom nodes with the integer arithmetic of the Program, NIR's own in float32; see ``docs/targets/nir.md``."""
    summary = "NIR file with one graded node per layer, integer arithmetic, under a chip's limits"
    return Target(name, summary, CAPABILITIES, _prepared, REQUIREMENTS, OPTIONS)


def _prepared(lowered: Lowered, options: CompileOptions) -> Artifact:
    """Raises BadInput for options that do not go with the scheme, ProofFailed for what exceeds the chip's numbers."""
    if _direct(lowered, options):
        return direct_artifact(lowered)
    beside = spinnaker2.c_artifact(lowered, options) if _as_c(options) else None
    held = _held(lowered, options)
    files = {f"{stem(lowered.policy.name)}.nir": to_bytes(graph(held.layers))}
    return GradedArtifact(lowered, held, _chip(options), beside,
                          files if beside is None else {**files, **spinnaker2.c_files(beside)})


@dataclass(frozen=True, eq=False)
class GradedArtifact:
    """Graded nodes under the limits of ``chip``; ``beside``: the C that runs on it."""

    lowered: Lowered
    held: FileContents
    chip: Chip | None
    beside: Artifact | None
    files: Mapping[str, bytes]

    @property
    def theta(self) -> int:
        """How far a state may move without being sent."""
        return self.held.layers[0].theta

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """The written file against the Program, bit for bit; against the nodes' own arithmetic where that differs."""
        own = self.theta > 0 or self.held.record is not None
        file = LinkSpec(MODEL if own else PROGRAM, RUNTIME, "bitwise", STEPS)
        return (file,) if self.beside is None else (spinnaker2.c_link(), file)

    def model(self, inputs: Sequences) -> Trace:
        """The nodes' arithmetic."""
        return execute(self.held.layers, inputs).trace

    def build(self, folder: Path) -> Built:
        """What the nodes cost, and whether they fit the chip; raises ProofFailed when they do not."""
        held, profile, tools = self.held, self.chip, {"nir": metadata.version("nir")}
        cost, built = _cost(held, execute(held.layers, _probe(self.lowered))), Built()
        if profile is not None:
            needs: dict[str, Any] = {}
            if self.beside is not None:
                needs["core_bytes"], built = spinnaker2.c_built(folder, self.beside, profile)
            elif held.record is not None:
                widths = proved_widths(held.record)
                needs = {**require_fit(held.record, profile), "proved": widths.reached}
                built = Built(formats=number_formats(held.record), proof=_proof(held.record, widths, self.lowered))
            cost["chip"] = {"name": profile.name, "title": profile.title, "note": profile.note, "needs": needs,
                            "limits": {k: vars(v) for k, v in profile.limits.items()}}
        return replace(built, memory=None, tools={**built.tools, **tools}, trace={}, extra={"nir-graded": cost})

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        """The written file, read by nir, in ncpc's executor; or the C beside it."""
        if self.beside is not None and runtime == spinnaker2.CORE:
            return self.beside.run(folder / spinnaker2.FOLDER, inputs, runtime)
        layers = load(folder, self.lowered.policy.name)
        with faults(runtime):
            found = execute(layers, inputs)
        extra = {"messages_per_step": round(found.messages, 2), "synaptic_events_per_step": round(found.events, 2)}
        return RunResult(found.trace, runtime, metadata.version("nir"), f"theta {self.theta}", extra=extra)

    def open(self, folder: Path, runtime: str) -> Session:
        """A session on the written file, or on the C beside it."""
        if self.beside is not None and runtime == spinnaker2.CORE:
            return self.beside.open(folder / spinnaker2.FOLDER, runtime)
        return GradedSession(load(folder, self.lowered.policy.name))


def load(folder: Path, name: str) -> tuple[GradedLayer, ...]:
    """The nodes in the build of policy ``name``; raises BadInput when the file holds others."""
    register()
    graph = read_graph(folder / f"{stem(name)}.nir")
    try:
        return held_by(graph)
    except (KeyError, AttributeError) as error:
        raise BadInput(f"{folder / stem(name)}.nir: holds no graded nodes ({error}); compile again") from None


def _direct(lowered: Lowered, options: CompileOptions) -> bool:
    """Whether layers are written as NIR's own nodes; raises BadInput for options that only graded nodes have."""
    if lowered.numbers.arithmetic != "float":
        return False
    if _chip(options) is not None or _theta(options):
        raise BadInput("--chip and --theta: graded nodes only; compile with --quant int16")
    if options.dt == "runtime":
        raise Unsupported("target 'nir-graded': NIR's own nodes have their timespan compiled in; give --dt fixed, "
                          "or --quant int16 for graded nodes, which take dt as an input")
    return True


def _held(lowered: Lowered, options: CompileOptions) -> FileContents:
    """A pure function of the policy and the options."""
    theta, chip_name = _theta(options), str(options.extra.get("chip", "none"))
    only = only_layer(lowered.policy)
    fused = isinstance(only, Ltc) and only.solver == "fused"
    single = fused and lowered.program.dt is None
    own_arithmetic = chip_name != "none" and chip(chip_name).arithmetic != "program"
    if own_arithmetic and not single:
        raise _unheld(lowered, chip_name)
    if not own_arithmetic:
        return FileContents(layers_of(lowered.program, theta))
    if lowered.scheme != "int16":
        raise BadInput(f"--chip {chip_name}: has its own weights; compile with --quant int16")
    record = loihi2(record_of(lowered.program), study(lowered.policy), chip(chip_name))
    return FileContents(layers_of(program_of(record), theta), record)


def _unheld(lowered: Lowered, chip_name: str) -> Unsupported:
    """What a chip with its own arithmetic says of other layers."""
    layers = lowered.policy.layers
    named = [f"{k.kind} ({k.solver})" if isinstance(k, Ltc) and k.solver != "fused" else k.kind for k in layers]
    timed = "" if lowered.program.dt is None else " with dt as an input"
    ways = ["give --dt fixed" if timed else "use --chip none or spinnaker2"]
    ways += ["compile the LTC layer alone"] if len(layers) > 1 and any(isinstance(k, Ltc) for k in layers) else []
    return Unsupported(f"--chip {chip_name}: layers [{', '.join(named)}]{timed} are not {FORM}; {', or '.join(ways)}")


def _cost(held: FileContents, used: GradedRun) -> dict[str, Any]:
    """JSON for the report: nodes, synapses, and traffic on the probe's inputs."""
    widths = {layer.name: [layer.width_in, layer.width_out] for layer in held.layers}
    return {"messages": widths, "theta": held.layers[0].theta, "synapses": used.synapses,
            "messages_per_step": round(used.messages, 2),
            "synaptic_events_per_step": round(used.events, 2),
            "messages_per_synapse": round(used.events / max(used.synapses, 1), 3)}


def _proof(record: GradedLtc, widths: ProvedWidths, lowered: Lowered) -> dict[str, Any]:
    """The report's ``proof`` for a chip's own widths, its box in physical units."""
    return {"no_overflow": True, "box": np.ldexp(widths.box.astype(float), -record.v_frac).tolist(),
            "input_range": lowered.program.x.range.tolist(), "dt_range": None, "assumptions": list(ASSUMPTIONS),
            "formats": []}


def _theta(options: CompileOptions) -> int:
    return theta_of(str(options.extra.get("theta", "0")))


def _chip(options: CompileOptions) -> Chip | None:
    name = str(options.extra.get("chip", "none"))
    return None if name == "none" else chip(name)


def _probe(lowered: Lowered, steps: int = 100) -> Sequences:
    """Inputs held for a few steps, to count messages on."""
    lo, hi = lowered.policy.input_range.T
    x = np.random.default_rng(0).random((4, steps // 5, len(lo)))
    return Sequences(np.repeat(lo + (hi - lo) * x, 5, axis=1))


def _as_c(options: CompileOptions) -> bool:
    """Whether the chip runs the C."""
    profile = _chip(options)
    return profile is not None and profile.arithmetic == "program"
