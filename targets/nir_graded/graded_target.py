"""Target ``nir-graded``: one NIR node per layer for chips that run programs and send numbers."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, MissingTool, ProofFailed, Unsupported
from ncpc.ir.sequences import Sequences, Trace
from ncpc.targets import registry
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
from ncpc.targets.nir.files import stem
from ncpc.targets.nir.graph import from_bytes, to_bytes
from ncpc.targets.nir.study import study
from ncpc.targets.nir_graded import direct_runs
from ncpc.targets.nir_graded.chips import Chip, chip, names, require_fit
from ncpc.targets.nir_graded.direct import direct_graph
from ncpc.targets.nir_graded.executor import Machine, execute
from ncpc.targets.nir_graded.extract import FORM, record_of
from ncpc.targets.nir_graded.loihi2 import loihi2
from ncpc.targets.nir_graded.node import graph, register
from ncpc.targets.nir_graded.record import GradedLtc

RUNTIME = direct_runs.EXECUTOR
STEPS = 2000
MOST_THETA = 1 << 15
CAPABILITIES = Capabilities(schemes=("int16", "int8", "float32"), dt=("fixed",))
"""Layers are not listed: a refusal by ``emit`` knows what to do instead, which depends on the scheme."""


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
        TargetOption("theta", "0", "Least change of a state, raw, that is sent to its synapses, plus one."),
    )

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        """The .nir file; ``ncpc.nir.register()`` lets nir read it."""
        held = direct_graph(lowered.policy) if _direct(lowered, options) else graph(_record(lowered, options))
        return {f"{stem(lowered.policy.name)}.nir": to_bytes(held)}

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        """What the layer costs, and whether it fits the chip; raises ProofFailed when it does not."""
        if _direct(lowered, options):
            return direct_runs.built(lowered.policy, self.name)
        record, profile = _record(lowered, options), _chip(options)
        used = execute(record, _probe(lowered))
        cost: dict[str, Any] = {
            "node": "GradedLTC", "synapses": len(record.sensory) + len(record.recurrent), "theta": record.theta,
            "messages_per_step": round(used.messages, 2), "synaptic_events_per_step": round(used.events, 2),
            "events_per_synapse": round(used.events / max(len(record.sensory) + len(record.recurrent), 1), 3),
        }
        missing: tuple[str, ...] = ()
        if profile is not None:
            cost["chip"] = {"name": profile.name, "title": profile.title, "note": profile.note,
                            "limits": {k: vars(v) for k, v in profile.limits.items()},
                            "needs": require_fit(record, profile)}
            if profile.arithmetic == "program":
                memory, missing = _as_c(lowered, options, profile)
                cost["chip"]["c_memory_bytes"] = memory
        return Built(tools={"nir": metadata.version("nir")}, extra={self.name: cost}, missing=missing)

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        """The written file against the Program, bit for bit; against the record's own arithmetic where that differs.

        Standard nodes within a tolerance, and then in every simulator that reads them.
        """
        if _direct(lowered, options):
            return direct_runs.links(lowered.policy)
        record = _record(lowered, options)
        own = record.theta > 0 or record.inverse_bits > 0
        return (LinkSpec(MODEL if own else PROGRAM, RUNTIME, "bitwise", STEPS),)

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        """The record's arithmetic."""
        return execute(_record(lowered, options), inputs).trace

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
        record = load(folder, lowered.policy.name)
        found = execute(record, inputs, initial)
        extra = {"messages_per_step": round(found.messages, 2), "synaptic_events_per_step": round(found.events, 2)}
        return RunResult(found.trace, runtime, metadata.version("nir"), f"theta {record.theta}", extra=extra)

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> Session:
        """A session on the written file."""
        if _direct(lowered, options):
            _read(folder, lowered.policy.name)
            path = folder / f"{stem(lowered.policy.name)}.nir"
            return direct_runs.DirectSession(path, lowered.policy, runtime)
        return GradedSession(load(folder, lowered.policy.name))


def load(folder: Path, name: str) -> GradedLtc:
    """The record in the build of policy ``name``; raises BadInput when the file holds none."""
    register()
    try:
        record = _read(folder, name).nodes["ltc"].record
    except (KeyError, AttributeError) as error:
        raise BadInput(f"{folder / stem(name)}.nir: holds no graded LTC node ({error}); compile again") from None
    assert isinstance(record, GradedLtc)
    return record


def _read(folder: Path, name: str) -> Any:
    """The graph in the build of policy ``name``; raises BadInput when the file is none."""
    path = folder / f"{stem(name)}.nir"
    try:
        return from_bytes(path.read_bytes())
    except (OSError, KeyError, ValueError, AttributeError, AssertionError) as error:
        raise BadInput(f"{path}: is no NIR file of this build ({error}); compile again") from None


def _direct(lowered: Lowered, options: CompileOptions) -> bool:
    """Whether layers are written as NIR's own nodes; raises BadInput for options that only graded nodes have."""
    if lowered.scheme != "float32":
        return False
    if _chip(options) is not None or _theta(options):
        raise BadInput("--chip and --theta: graded nodes only; compile with --quant int16")
    return True


def _record(lowered: Lowered, options: CompileOptions) -> GradedLtc:
    """A pure function of the policy and the options."""
    kinds = [layer.kind for layer in lowered.policy.layers]
    if kinds != ["ltc"]:
        raise Unsupported(f"target 'nir-graded': layers [{', '.join(kinds)}] are not {FORM}; {_nearest(kinds)}")
    return _cached(lowered, str(options.extra.get("chip", "none")), _theta(options))


def _nearest(kinds: list[str]) -> str:
    """What else takes layers of these kinds."""
    if set(kinds) <= {"dense", "conv2d", "pool", "leaky_integrator", "lif"}:
        return "use --quant float32 for NIR's own nodes, or target 'c'"
    return "use target 'nir' or 'c'" if "ltc" in kinds else "use target 'c'"


@lru_cache(maxsize=2)  # emit, build, links and model ask for the same one
def _cached(lowered: Lowered, chip_name: str, theta: int) -> GradedLtc:
    base = record_of(lowered.program, theta)
    if chip_name == "none" or chip(chip_name).arithmetic == "program":
        return base
    if lowered.scheme != "int16":
        raise BadInput(f"--chip {chip_name}: has its own weights; compile with --quant int16")
    return loihi2(base, study(lowered.policy), chip(chip_name))


def _theta(options: CompileOptions) -> int:
    text = str(options.extra.get("theta", "0"))
    if not text.isdecimal() or int(text) >= MOST_THETA:
        raise BadInput(f"--theta {text}: give a whole number from 0 to {MOST_THETA - 1}, in units of the sent state")
    return int(text)


def _chip(options: CompileOptions) -> Chip | None:
    name = str(options.extra.get("chip", "none"))
    return None if name == "none" else chip(name)


def _probe(lowered: Lowered, steps: int = 100) -> Sequences:
    """Inputs held for a few steps, to count messages on."""
    lo, hi = lowered.policy.input_range.T
    x = np.random.default_rng(0).random((4, steps // 5, len(lo)))
    return Sequences(np.repeat(lo + (hi - lo) * x, 5, axis=1))


def _as_c(lowered: Lowered, options: CompileOptions, profile: Chip) -> tuple[int | None, tuple[str, ...]]:
    """Bytes of code, constants and state of the same program as C for the chip's core; raises ProofFailed if too many.

    None, and why, where the compiler is missing.
    """
    target = registry.load("cortex-m4")
    plain = CompileOptions(quant=options.quant, dt="fixed", cc=options.cc, tolerance=options.tolerance,
                           extra={option.name: option.default for option in target.options})
    with tempfile.TemporaryDirectory() as folder:
        for name, content in target.emit(lowered, plain).items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            memory = target.build(Path(folder), lowered, plain).memory
        except MissingTool as error:
            return None, (f"memory on {profile.title}: {error}",)
    if memory is None:
        return None, (f"memory on {profile.title}: the C was not built",)
    total = memory.flash_bytes + memory.ram_bytes
    if total > profile["core_bytes"]:
        limit = profile.limits["core_bytes"]
        raise ProofFailed(f"--chip {profile.name}: its C needs {total:,} bytes, a core has {limit.value:,} "
                          f"({limit.source}); use a smaller layer")
    return total, ()


@dataclass
class GradedSession:
    """The layer in a closed loop."""

    record: GradedLtc
    status: int = 0
    machine: Machine | None = None

    def reset(self) -> None:
        """State 0, nothing sent."""
        self.machine = None

    def step(self, x: NDArray[np.float64], dt: float | None = None) -> NDArray[np.float64]:
        """One step; ``dt`` is the one compiled in."""
        r = self.record
        if self.machine is None:
            self.machine = Machine(r, np.zeros((1, r.neurons), np.int64))
        raw = np.floor(np.ldexp(np.nan_to_num(np.asarray(x, np.float64), nan=0.0), r.x_frac) + 0.5).astype(np.int64)
        y, flags = self.machine.step(raw[None])
        self.status = int(flags[0])
        return np.asarray(np.ldexp(y[0].astype(np.float64), -r.y_frac))

    def close(self) -> None:
        """Nothing is held open."""
