"""Target ``nir``: a file of standard primitives that every simulator of spikes can load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
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
    TargetOption,
    TimingClass,
    step_input,
)
from ncpc.targets.nir import consumers
from ncpc.targets.nir.cost import cost
from ncpc.targets.nir.files import read_graph, read_interface, stem, written
from ncpc.targets.nir.machine import euler
from ncpc.targets.nir.proof import formats, proved
from ncpc.targets.nir.runs import Machine, against, collected, cut, execute, predicted
from ncpc.targets.nir.sizing import require_units, sized
from ncpc.targets.nir.spikes import Interface, Spikes
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


@dataclass(frozen=True)
class NirTarget:
    """Threshold lowering; see ``docs/targets/nir.md``."""

    name: str = "nir"
    summary: str = "NIR file of standard primitives: the LTC as threshold units, the same in every simulator"
    core: str | None = None
    timing_class: TimingClass | None = None
    capabilities: Capabilities = CAPABILITIES
    requirements: tuple[Requirement, ...] = (
        Requirement("nir", "nir", "writing and reading NIR files"),
        Requirement("norse", "consumers", "running the file in Norse"),
        Requirement("snntorch", "consumers", "running the file in snnTorch"),
        Requirement("spikingjelly", "consumers", "running the file in SpikingJelly"),
    )
    options: tuple[TargetOption, ...] = (
        TargetOption("units", "auto", "Threshold units to spend; auto: the fewest that hold the tolerance.",
                     check=require_units),
        TargetOption("levels", "placed", "Levels placed by use and influence, or evenly.", ("placed", "uniform")),
        TargetOption("plot", "no", "Also draw the graph and a raster of one run (matplotlib).", ("no", "yes")),
    )

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        """The .nir file, its interface and golden vectors (and pictures)."""
        net = network(lowered, options)
        files = written(net)
        if options.extra.get("plot") == "yes":
            from ncpc.targets.nir.plots import pictures

            files |= pictures(net)
        return files

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        """Nothing is compiled; says what the network costs and proves its ranges and sums."""
        net, versions = network(lowered, options), {"nir": metadata.version("nir")}
        return Built(tools=versions, extra={self.name: cost(net)}, formats=formats(net),
                     proof=proved(lowered.policy, net))

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        """The integer model against the file under Euler, and that against every consumer."""
        others = (LinkSpec(EULER, name, "bitwise", CONSUMER_STEPS, required=False) for name in consumers.CONSUMERS)
        return (LinkSpec(MODEL, EULER, "bitwise", STEPS), *others)

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        """The integer model."""
        return predicted(network(lowered, options), inputs)

    def run(
        self, folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, runtime: str,
        initial: NDArray[np.int64] | None = None,
    ) -> RunResult:
        """The written file in ``runtime``, every spike of every tick compared with the integer model's.

        Raises ProofFailed at the first spike that differs, MissingTool when the runtime is not installed.
        """
        if initial is not None:
            raise Unsupported("target 'nir': a network of spikes starts from silence; it takes no start states")
        net = network(lowered, options)
        with consumers.faults(runtime):
            machine, face, version = load(folder, lowered.policy, runtime)
            trace, rate = collected(face, cut(face, inputs), lambda x: execute(
                face, machine.fork(), x, against(net, x, runtime)))
        return RunResult(trace, runtime, version, "float32, dt = 1e-4 s", extra={"spikes_per_step": round(rate, 1)})

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> SpikeSession:
        """A session on ``runtime``."""
        with consumers.faults(runtime):
            machine, face, _ = load(folder, lowered.policy, runtime)
        return SpikeSession(face, machine, machine.fork())


def load(folder: Path, policy: Policy, runtime: str) -> tuple[Machine, Interface, str]:
    """The build's network at rest in ``runtime``, its interface, the runtime's version."""
    face, path = read_interface(folder, policy.name), folder / f"{stem(policy.name)}.nir"
    graph = read_graph(path)
    if runtime == EULER:
        return euler(graph), face, metadata.version("nir")
    return consumers.load(runtime, path), face, consumers.CONSUMERS[runtime].version() or ""


def network(lowered: Lowered, options: CompileOptions) -> Spikes:
    """The lowered network; a pure function of the policy and the options."""
    extra: Mapping[str, Any] = options.extra
    uniform = extra.get("levels", "placed") == "uniform"
    return _network(lowered.policy, str(extra.get("units", "auto")), options.tolerance, uniform)


@lru_cache(maxsize=2)  # emit, build, model and run ask for the same one, and sizing takes seconds
def _network(policy: Policy, units: str, tolerance: float, uniform: bool) -> Spikes:
    return sized(study(policy), units, tolerance, uniform)


@dataclass
class SpikeSession:
    """The network in a closed loop. An output is read one tick after its step, so that tick is first run on a fork
    with the input repeated, and again with the next one when that comes.
    """

    interface: Interface
    resting: Machine
    machine: Machine
    status: int = 0

    def reset(self) -> None:
        """Back to silence."""
        self.machine = self.resting.fork()

    def step(self, x: NDArray[np.float64], dt: float | None = None) -> NDArray[np.float64]:
        """One step of the policy; the timespan is compiled in, ``dt`` is not looked at."""
        vector = step_input(x, len(self.interface.x_frac), self.interface.name)
        raw, saturated, nan = self.interface.quantized(vector)
        self.status = int(saturated) << FLAGS.index("input_saturated") | int(nan) << FLAGS.index("input_nan")
        current = self.interface.physical_x(raw).astype(np.float32)[None]
        for _ in range(self.interface.unfolds):
            self.machine.tick(current)
        y, _ = self.machine.fork().tick(current)
        return np.asarray(self.interface.physical_y(self.interface.raw_y(y))[0])

    def close(self) -> None:
        """Nothing is held open."""
