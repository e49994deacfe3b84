"""Target ``nir``: a file of standard primitives that every simulator of spikes can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ops import FLAGS
from ncpc.targets.base import (
    MODEL,
    Built,
    Capabilities,
    CompileOptions,
    LinkSpec,
    Lowered,
    Requirement,
    RunResult,
    Target,
    TargetOption,
)
from ncpc.targets.nir import consumers
from ncpc.targets.nir.cost import cost
from ncpc.targets.nir.files import read_graph, read_interface, stem, written
from ncpc.targets.nir.machine import euler
from ncpc.targets.nir.proof import formats, proved
from ncpc.targets.nir.runs import Machine, against, collected, cut, execute, predicted
from ncpc.targets.nir.sizing import require_units, sized
from ncpc.targets.nir.spikes import SpikeInterface, Spikes
from ncpc.targets.nir.study import study

EULER = "nir"
"""The runtime that is always there: forward Euler by NIR's equations."""
STEPS = 1000
CONSUMER_STEPS = 300
UNITS = "threshold units have no number format: leave --quant out, --units or --tolerance sets their accuracy"
CAPABILITIES = Capabilities(
    schemes=("thresholds",), dt=("fixed",), layers=frozenset({"ltc", "dense", "activation"}),
    instead={"int16": UNITS, "int8": UNITS, "float32": UNITS,
             "layer": "use target 'nir-graded', which has a node for every layer, or 'c'",
             "runtime": "give --dt fixed, which compiles the nominal timespan in, or use target 'nir-graded'"})


REQUIREMENTS = (
    Requirement("nir", "nir", "writing and reading NIR files"),
    Requirement("norse", "consumers", "running the file in Norse"),
    Requirement("snntorch", "consumers", "running the file in snnTorch"),
    Requirement("spikingjelly", "consumers", "running the file in SpikingJelly"),
)
OPTIONS = (
    TargetOption("units", "auto", "Threshold units to spend; auto: the fewest that hold the tolerance.",
                 check=require_units),
    TargetOption("levels", "placed", "Levels placed by use and influence, or evenly.", ("placed", "uniform"),
                 shape=True),
    TargetOption("plot", "no", "Also draw the graph and a raster of one run (matplotlib).", ("no", "yes")),
)


def target(name: str) -> Target:
    """The threshold lowering; see ``docs/targets/nir.md``."""
    summary = "NIR file of standard primitives: the LTC as threshold units, the same in every simulator"
    return Target(name, summary, CAPABILITIES, _prepared, REQUIREMENTS, OPTIONS)


def _prepared(lowered: Lowered, options: CompileOptions) -> NirArtifact:
    """The .nir file, its interface and golden vectors (and pictures)."""
    net = network(lowered, options)
    files = written(net)
    if options.extra.get("plot") == "yes":
        from ncpc.targets.nir.plots import pictures

        files |= pictures(net)
    return NirArtifact(lowered.policy, net, files)


def network(lowered: Lowered, options: CompileOptions) -> Spikes:
    """The lowered network; a pure function of the policy and the options."""
    extra: Mapping[str, Any] = options.extra
    uniform = extra.get("levels", "placed") == "uniform"
    return sized(study(lowered.policy), str(extra.get("units", "auto")), options.tolerance, uniform)


@dataclass(frozen=True, eq=False)
class NirArtifact:
    """A network of threshold units, and its files."""

    policy: Policy
    net: Spikes
    files: Mapping[str, bytes]

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """The integer model against the file under Euler, and that against every consumer."""
        others = (LinkSpec(EULER, name, "bitwise", CONSUMER_STEPS, required=False) for name in consumers.CONSUMERS)
        return (LinkSpec(MODEL, EULER, "bitwise", STEPS), *others)

    def model(self, inputs: Sequences) -> Trace:
        """The integer model."""
        return predicted(self.net, inputs)

    def build(self, folder: Path) -> Built:
        """Nothing is compiled; says what the network costs and proves its ranges and sums."""
        versions = {"nir": metadata.version("nir")}
        return Built(tools=versions, extra={"nir": cost(self.net)}, formats=formats(self.net),
                     proof=proved(self.policy, self.net))

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        """The written file in ``runtime``, every spike of every tick compared with the integer model's.

        Raises ProofFailed at the first spike that differs, MissingTool when the runtime is not installed.
        """
        if inputs.restored is not None:
            raise Unsupported("target 'nir': a network of spikes starts from silence; it takes no start states")
        with consumers.faults(runtime):
            machine, face, version = load(folder, self.policy, runtime)
            trace, rate = collected(face, cut(face, inputs), lambda x: execute(
                face, machine.fork(), x, against(self.net, x, runtime)))
        return RunResult(trace, runtime, version, "float32, dt = 1e-4 s", extra={"spikes_per_step": round(rate, 1)})

    def open(self, folder: Path, runtime: str) -> SpikeSession:
        """A session on ``runtime``."""
        with consumers.faults(runtime):
            machine, face, _ = load(folder, self.policy, runtime)
        return SpikeSession(face, machine, machine.fork())


def load(folder: Path, policy: Policy, runtime: str) -> tuple[Machine, SpikeInterface, str]:
    """The build's network at rest in ``runtime``, its interface, the runtime's version."""
    face, path = read_interface(folder, policy.name), folder / f"{stem(policy.name)}.nir"
    graph = read_graph(path)
    if runtime == EULER:
        return euler(graph), face, metadata.version("nir")
    return consumers.load(runtime, path), face, consumers.CONSUMERS[runtime].version() or ""


@dataclass
class SpikeSession:
    """The network in a closed loop. An output is read one tick after its step, so that tick is first run on a fork
    with the input repeated, and again with the next one when that comes.
    """

    interface: SpikeInterface
    resting: Machine
    machine: Machine
    status: int = 0

    def reset(self) -> None:
        """Back to silence."""
        self.machine = self.resting.fork()

    def step(self, x: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        """One step of the policy; the timespan is compiled in, ``dt`` is not looked at."""
        raw, saturated, nan = self.interface.quantized(x)
        self.status = int(saturated) << FLAGS.index("input_saturated") | int(nan) << FLAGS.index("input_nan")
        current = self.interface.physical_x(raw).astype(np.float32)[None]
        for _ in range(self.interface.unfolds):
            self.machine.tick(current)
        y, _ = self.machine.fork().tick(current)
        return np.asarray(self.interface.physical_y(self.interface.raw_y(y))[0])

    def close(self) -> None:
        """Nothing is held open."""
