"""Target ``nir-graded``: one NIR node per layer for chips that run programs and send numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.policy import Ltc
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
from ncpc.targets.nir.consumers import faults
from ncpc.targets.nir.files import read_graph, stem
from ncpc.targets.nir.graph import to_bytes
from ncpc.targets.nir.study import study
from ncpc.targets.nir_graded import direct_runs, spinnaker2
from ncpc.targets.nir_graded.chips import Chip, chip, names, require_fit
from ncpc.targets.nir_graded.direct import direct_graph
from ncpc.targets.nir_graded.executor import GradedRun, execute
from ncpc.targets.nir_graded.extract import FORM, record_of
from ncpc.targets.nir_graded.interpreter import execute_layers
from ncpc.targets.nir_graded.layers import GradedLayer
from ncpc.targets.nir_graded.loihi2 import loihi2
from ncpc.targets.nir_graded.node import LAYER, LTC, graph, held_by, register
from ncpc.targets.nir_graded.record import GradedLtc, number_formats
from ncpc.targets.nir_graded.sessions import ChainSession, LtcSession
from ncpc.targets.nir_graded.split import layers_of
from ncpc.targets.nir_graded.widths import Widths, proved_widths

RUNTIME = direct_runs.EXECUTOR
STEPS = 2000
MOST_THETA = 1 << 15
Held = GradedLtc | tuple[GradedLayer, ...]
"""What the file holds: one LTC, or a chain of layers."""
ASSUMPTIONS = (
    "inputs outside their declared ranges are saturated and flagged",
    "the run starts from 0, or from states within the box",
    "two's complement integers; a right shift of a negative integer rounds down",
)
CAPABILITIES = Capabilities(schemes=("int16", "int8", "float32"))
"""Layers are not listed: a refusal by ``emit`` knows what to do instead, which depends on the scheme."""


def theta_of(text: str) -> int:
    """``--theta`` as a number; raises BadInput for what is none."""
    if not text.isdecimal() or int(text) >= MOST_THETA:
        raise BadInput(f"--theta {text}: give a whole number from 0 to {MOST_THETA - 1}, in units of the sent state")
    return int(text)


@dataclass(frozen=True)
class GradedTarget:
    """Custom nodes with the integer arithmetic of the Program, NIR's own in float32; see ``docs/targets/nir.md``."""

    name: str = "nir-graded"
    summary: str = "NIR file with one graded node per layer, integer arithmetic, under a chip's limits"
    core: str | None = None
    timing_class: TimingClass | None = None
    capabilities: Capabilities = CAPABILITIES
    requirements: tuple[Requirement, ...] = (
        Requirement("nir", "nir", "writing and reading NIR files"),
        Requirement("norse", "consumers", "running standard nodes in Norse"),
        Requirement("snntorch", "consumers", "running standard nodes in snnTorch"),
        Requirement("spikingjelly", "consumers", "running standard nodes in SpikingJelly"),
    )
    options: tuple[TargetOption, ...] = (
        TargetOption("chip", "none", "Chip whose arithmetic and limits apply.", ("none", *names())),
        TargetOption("theta", "0", "Send a state to its synapses only when it moved by more than this since it was "
                     "last sent, in units of its 16-bit view.", check=theta_of),
    )

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        """The .nir file; ``ncpc.nir.register()`` lets nir read it."""
        name = f"{stem(lowered.policy.name)}.nir"
        if _direct(lowered, options):
            return {name: to_bytes(direct_graph(lowered.policy))}
        beside = spinnaker2.c_files(lowered, options) if _as_c(options) else {}
        return {name: to_bytes(graph(_held(lowered, options))), **beside}

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        """What the nodes cost, and whether they fit the chip; raises ProofFailed when they do not."""
        if _direct(lowered, options):
            return direct_runs.built(lowered.policy, self.name)
        held, profile, tools = _held(lowered, options), _chip(options), {"nir": metadata.version("nir")}
        cost, built = _cost(held, _executed(held, _probe(lowered), None)), Built()
        if profile is not None:
            needs: dict[str, Any] = {}
            if _as_c(options):
                needs["core_bytes"], built = spinnaker2.c_built(folder, lowered, options, profile)
            elif isinstance(held, GradedLtc):
                widths = proved_widths(held)
                needs = {**require_fit(held, profile), "proved": widths.reached}
                built = Built(formats=number_formats(held), proof=_proof(held, widths, lowered))
            cost["chip"] = {"name": profile.name, "title": profile.title, "note": profile.note, "needs": needs,
                            "limits": {k: vars(v) for k, v in profile.limits.items()}}
        return replace(built, memory=None, tools={**built.tools, **tools}, trace={}, extra={self.name: cost})

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        """The written file against the Program, bit for bit; against the record's own arithmetic where that differs.

        Standard nodes within a tolerance, and then in every simulator that reads them.
        """
        if _direct(lowered, options):
            return direct_runs.links(lowered.policy)
        held = _held(lowered, options)
        own = _theta(options) > 0 or (isinstance(held, GradedLtc) and held.inverse_bits > 0)
        file = LinkSpec(MODEL if own else PROGRAM, RUNTIME, "bitwise", STEPS)
        return (spinnaker2.c_link(), file) if _as_c(options) else (file,)

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        """The nodes' arithmetic."""
        return _executed(_held(lowered, options), inputs, None).trace

    def run(
        self, folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, runtime: str,
        initial: NDArray[np.int64] | None = None,
    ) -> RunResult:
        """The written file, read by nir, in ncpc's executor; standard nodes also in a simulator."""
        if _direct(lowered, options):
            if initial is not None:
                raise Unsupported("target 'nir-graded': standard nodes start from rest; they take no start states")
            _read(folder, lowered.policy.name)
            return direct_runs.run_direct(folder / f"{stem(lowered.policy.name)}.nir", lowered, inputs, runtime)
        if runtime == spinnaker2.CORE:
            return spinnaker2.c_run(folder, lowered, options, inputs)
        held = load(folder, lowered.policy.name)
        with faults(runtime):
            found = _executed(held, inputs, initial)
        extra = {"messages_per_step": round(found.messages, 2), "synaptic_events_per_step": round(found.events, 2)}
        return RunResult(found.trace, runtime, metadata.version("nir"), f"theta {_theta(options)}", extra=extra)

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> Session:
        """A session on the written file."""
        if _direct(lowered, options):
            _read(folder, lowered.policy.name)
            path = folder / f"{stem(lowered.policy.name)}.nir"
            return direct_runs.DirectSession(path, lowered.policy, runtime)
        held = load(folder, lowered.policy.name)
        return LtcSession(held) if isinstance(held, GradedLtc) else ChainSession(held)


def load(folder: Path, name: str) -> Held:
    """The nodes in the build of policy ``name``; raises BadInput when the file holds others."""
    register()
    graph = _read(folder, name)
    try:
        return held_by(graph)
    except (KeyError, AttributeError) as error:
        raise BadInput(f"{folder / stem(name)}.nir: holds no graded nodes ({error}); compile again") from None


def _read(folder: Path, name: str) -> Any:
    """The graph in the build of policy ``name``; raises BadInput when the file is none."""
    return read_graph(folder / f"{stem(name)}.nir")


def _direct(lowered: Lowered, options: CompileOptions) -> bool:
    """Whether layers are written as NIR's own nodes; raises BadInput for options that only graded nodes have."""
    if lowered.scheme != "float32":
        return False
    if _chip(options) is not None or _theta(options):
        raise BadInput("--chip and --theta: graded nodes only; compile with --quant int16")
    if options.dt == "runtime":
        raise Unsupported("target 'nir-graded': NIR's own nodes have their timespan compiled in; give --dt fixed, "
                          "or --quant int16 for graded nodes, which take dt as an input")
    return True


def _held(lowered: Lowered, options: CompileOptions) -> Held:
    """A pure function of the policy and the options."""
    return _cached(lowered, str(options.extra.get("chip", "none")), _theta(options))


@lru_cache(maxsize=2)  # emit, build, links and model ask for the same one
def _cached(lowered: Lowered, chip_name: str, theta: int) -> Held:
    kinds = [layer.kind for layer in lowered.policy.layers]
    first = lowered.policy.layers[0]
    single = len(kinds) == 1 and isinstance(first, Ltc) and first.solver == "fused" and lowered.program.dt is None
    own_arithmetic = chip_name != "none" and chip(chip_name).arithmetic != "program"
    if own_arithmetic and not single:
        raise _unheld(lowered, chip_name)
    if not single:
        return layers_of(lowered.program, lowered.policy, theta)
    base = record_of(lowered.program, theta)
    if not own_arithmetic:
        return base
    if lowered.scheme != "int16":
        raise BadInput(f"--chip {chip_name}: has its own weights; compile with --quant int16")
    return loihi2(base, study(lowered.policy), chip(chip_name))


def _unheld(lowered: Lowered, chip_name: str) -> Unsupported:
    """What a chip with its own arithmetic says of other layers."""
    layers = lowered.policy.layers
    named = [f"{k.kind} ({k.solver})" if isinstance(k, Ltc) and k.solver != "fused" else k.kind for k in layers]
    timed = "" if lowered.program.dt is None else " with dt as an input"
    ways = ["give --dt fixed" if timed else "use --chip none or spinnaker2"]
    ways += ["compile the LTC layer alone"] if len(layers) > 1 and any(isinstance(k, Ltc) for k in layers) else []
    return Unsupported(f"--chip {chip_name}: layers [{', '.join(named)}]{timed} are not {FORM}; {', or '.join(ways)}")


def _executed(held: Held, data: Sequences, initial: NDArray[np.int64] | None) -> GradedRun:
    return execute(held, data, initial) if isinstance(held, GradedLtc) else execute_layers(held, data, initial)


def _cost(held: Held, used: GradedRun) -> dict[str, Any]:
    """JSON for the report: nodes, synapses, and traffic on the probe's inputs."""
    if isinstance(held, GradedLtc):
        size: dict[str, Any] = {"node": LTC, "theta": held.theta}
    else:
        widths = {layer.name: [layer.width_in, layer.width_out] for layer in held}
        size = {"node": LAYER, "messages": widths, "theta": held[0].theta}
    return {**size, "synapses": used.synapses, "messages_per_step": round(used.messages, 2),
            "synaptic_events_per_step": round(used.events, 2),
            "messages_per_synapse": round(used.events / max(used.synapses, 1), 3)}


def _proof(record: GradedLtc, widths: Widths, lowered: Lowered) -> dict[str, Any]:
    """The report's ``proof`` for a chip's own widths, its box in physical units."""
    return {"no_overflow": True, "box": np.ldexp(widths.box.astype(float), -record.v_frac).tolist(),
            "input_range": lowered.policy.input_range.tolist(), "dt_range": None, "assumptions": list(ASSUMPTIONS),
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
