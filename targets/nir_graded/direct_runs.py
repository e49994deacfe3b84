"""Direct graphs at work: the links to check, one run, one session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.targets.base import PROGRAM, Built, LinkSpec, Lowered, RunResult, Session
from ncpc.targets.nir.consumers import CONSUMERS, faults, obstacle
from ncpc.targets.nir.files import read_graph, stem
from ncpc.targets.nir.graph import library, to_bytes
from ncpc.targets.nir_graded.chain import DirectExecutor, direct_executor
from ncpc.targets.nir_graded.direct import direct_graph, input_order
from ncpc.targets.nir_graded.simulated import Rows, Simulator, lif_nodes, program_spikes, run_beside, simulator

EXECUTOR = "ncpc.nir"
STEPS, SIMULATED_STEPS = 2000, 300
TOLERANCE, SIMULATED_TOLERANCE = 1e-6, 1e-5
"""Of the output range: sums of float32 in another order, and in any order."""


def readers(graph: Any) -> dict[str, str]:
    """Every simulator ncpc knows, and why it does not read a graph as written ("" where it does)."""
    return {name: obstacle(consumer, graph) for name, consumer in CONSUMERS.items()}


@dataclass(frozen=True, eq=False)
class DirectArtifact:
    """Layers as NIR's own nodes, and their file; ``obstacles``: why a simulator does not read it ("" where it does)."""

    lowered: Lowered
    graph: Any
    obstacles: Mapping[str, str]
    files: Mapping[str, bytes]

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """The Program against ncpc's executor, and that against every simulator that reads the graph."""
        others = (LinkSpec(EXECUTOR, name, "tolerance", SIMULATED_STEPS, SIMULATED_TOLERANCE, required=False)
                  for name, why in self.obstacles.items() if not why)
        return (LinkSpec(PROGRAM, EXECUTOR, "tolerance", STEPS, TOLERANCE), *others)

    def model(self, inputs: Sequences) -> Trace:
        """The Program is compared with."""
        raise Unsupported("target 'nir-graded': standard nodes have no model of their own; compare with the program")

    def build(self, folder: Path) -> Built:
        """What the report says of the graph."""
        kinds = [type(node).__name__ for node in self.graph.nodes.values()]
        cost = {"node": "standard nodes", "nodes": {kind: kinds.count(kind) for kind in sorted(set(kinds))}}
        missing = tuple(f"{reader}: {why}" for reader, why in self.obstacles.items() if why)
        return Built(tools={"nir": metadata.version("nir")}, extra={"nir-graded": cost}, missing=missing)

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        """The written file in ncpc's executor, or in a simulator beside it."""
        if inputs.restored is not None:
            raise Unsupported("target 'nir-graded': standard nodes start from rest; they take no start states")
        return run_direct(self._path(folder), self.lowered, inputs, runtime)

    def open(self, folder: Path, runtime: str) -> Session:
        """A session on the written file."""
        return DirectSession(self._path(folder), self.lowered.policy, runtime)

    def _path(self, folder: Path) -> Path:
        """The file in ``folder``; raises BadInput when it holds no graph."""
        (name,) = self.files
        read_graph(folder / name)
        return folder / name


def direct_artifact(lowered: Lowered) -> DirectArtifact:
    """Raises Unsupported for layers that NIR has no node for."""
    graph = direct_graph(lowered.policy)
    return DirectArtifact(lowered, graph, readers(graph), {f"{stem(lowered.policy.name)}.nir": to_bytes(graph)})


def run_direct(path: Path, lowered: Lowered, data: Sequences, runtime: str) -> RunResult:
    """The file at ``path`` in ``runtime``, beside ncpc's executor; raises ProofFailed at a spike that is wrong."""
    graph, reads = library().read(path), input_order(lowered.policy)
    with faults(runtime):
        if runtime == EXECUTOR:
            nodes = list(lif_nodes(graph))
            found = run_beside(graph, reads, data, program_spikes(lowered.program, nodes, data), "the program")
            version, how = metadata.version("nir"), "forward Euler, float32"
        else:
            found = run_beside(graph, reads, data, Rows(simulator(path, runtime)), runtime)
            version, how = CONSUMERS[runtime].version() or "", "float32, dt = 1e-4 s"
    ended = {f"{runtime} ended": found.ended} if found.ended else {}
    return RunResult(found.trace, runtime, version, how, extra=ended)


@dataclass
class DirectSession:
    """Standard nodes in a closed loop, in ncpc's executor or in a simulator."""

    path: Path
    policy: Policy
    runtime: str
    status: int = 0
    machine: DirectExecutor | None = None
    resting: Simulator | None = field(default=None, repr=False)
    running: Simulator | None = field(default=None, repr=False)

    def reset(self) -> None:
        """Back to rest."""
        self.machine = self.running = None

    def step(self, x: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        """One step; the timespan is compiled in, ``dt`` is not looked at."""
        if self.machine is None:
            self.machine = direct_executor(library().read(self.path), input_order(self.policy))
        row = x.astype(np.float32)[None]
        if self.runtime == EXECUTOR:
            return np.asarray(self.machine.step(row)[0], np.float64)
        self.resting = self.resting or simulator(self.path, self.runtime)
        self.running = self.running or self.resting.fork()
        return np.asarray(self.running.tick(self.machine.frame(row))[0], np.float64)

    def close(self) -> None:
        """Nothing is held open."""
