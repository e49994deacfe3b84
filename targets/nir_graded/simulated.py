"""Direct graphs in Norse, snnTorch and SpikingJelly, step by step beside ncpc's executor, spike by spike.

A simulator adds in another order, so a membrane that comes within rounding of its threshold may fire there and not
here, and from then on both runs are right and differ: the comparison ends at that step. Any other spike that differs
is a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.program import Program, statements
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import run
from ncpc.system.torch_library import torch_module
from ncpc.targets.nir import consumers
from ncpc.targets.nir.graph import library
from ncpc.targets.nir_graded.chain import Bools, DirectExecutor, Firing, direct_executor, trace_of
from ncpc.targets.nir_graded.direct import I64
from ncpc.targets.nir_graded.frames import F32

GRAZE = 1e-5
"""Share of its way to the threshold, or of its drive, within which rounding may decide whether a membrane fires."""
Spikes = Mapping[str, Bools]


@dataclass(frozen=True, eq=False)
class Compared:
    """Outputs (B, T, outputs) up to the first step at which rounding decided on a spike; ``ended`` says where."""

    trace: Trace
    ended: str = ""


class Other(Protocol):
    """Another run of the same graph: ``step`` gives its outputs (B, outputs), None to take the executor's, and its
    spikes (B, n) by LIF node.
    """

    def step(self, t: int, frames: F32, reset: Bools) -> tuple[F32 | None, Spikes]: ...


def run_beside(graph: Any, reads: I64, data: Sequences, other: Other, name: str) -> Compared:
    """Sequences, each from rest, here and in ``other``; raises ProofFailed at the first wrong spike of ``name``."""
    machine = direct_executor(graph, reads)
    ys: list[F32] = []
    rows, steps = data.x.shape[:2]
    for t in range(steps):
        reset = np.zeros(rows, np.bool_) if data.reset is None or not t else data.reset[:, t]
        machine.reset(reset)
        x = data.x[:, t].astype(np.float32)
        own = machine.step(x)
        y, spikes = other.step(t, machine.frame(x), reset)
        if _grazed(machine, spikes, name, t):
            return Compared(_joined(ys, name, t), f"step {t} of {steps}: a membrane met its threshold within rounding")
        ys.append(own if y is None else y)
    return Compared(_joined(ys, name, steps))


def _joined(ys: list[F32], name: str, t: int) -> Trace:
    if not ys:
        raise ProofFailed(f"{name}: at the first step a membrane meets its threshold within rounding, so simulators "
                          "differ from then on; move thresholds or weights off round numbers")
    return trace_of(np.stack(ys, 1))


def _grazed(machine: DirectExecutor, spikes: Spikes, name: str, t: int) -> bool:
    """Whether spikes differ where rounding decides; nodes that hear of it in the same sequence are not looked at."""
    decided = np.zeros(len(next(iter(machine.firings.values())).spikes) if machine.firings else 0, np.bool_)
    for node, firing in machine.firings.items():
        wrong = (firing.spikes != spikes[node]) & ~decided[:, None]
        _refuse_plain(firing, wrong & (firing.margin > GRAZE), name, node, t)
        decided |= wrong.any(axis=1)
    return bool(decided.any())


def _refuse_plain(firing: Firing, wrong: Bools, name: str, node: str, t: int) -> None:
    if wrong.any():
        row, unit = (int(i) for i in np.argwhere(wrong)[0])
        found = "is silent" if firing.spikes[row, unit] else "fires"
        raise ProofFailed(f"{name}: neuron {unit} of '{node}' {found} at step {t} of sequence {row}, "
                          f"{firing.margin[row, unit]:.2g} off its threshold: NIR's equations say otherwise")


@dataclass(frozen=True, eq=False)
class ProgramSpikes:
    """The Program's spikes (B, T, n) by LIF node; its outputs are compared elsewhere."""

    spikes: Mapping[str, Bools]

    def step(self, t: int, frames: F32, reset: Bools) -> tuple[F32 | None, Spikes]:
        return None, {name: fired[:, t] for name, fired in self.spikes.items()}


def program_spikes(program: Program, nodes: list[str], data: Sequences) -> ProgramSpikes:
    """``nodes`` are the LIF nodes in order, as the Program's comparisons are."""
    made = [op.out for op in statements(program.body) if op.kind == "gt"]
    ports = [replace(program.y, value=v, names=tuple(map(str, range(v.shape[0])))) for v in made]
    found = [run(replace(program, y=port), data).y > 0 for port in ports]
    return ProgramSpikes(dict(zip(nodes, found, strict=True)))


@dataclass
class Simulator:
    """One row of a graph in a consumer, at rest while ``state`` is None; ``nodes`` are the LIF nodes to watch."""

    module: Any
    nodes: tuple[str, ...]
    holds_state: bool
    state: Any = None
    seen: dict[str, Bools] = field(default_factory=dict)

    def tick(self, frame: F32) -> F32:
        """Outputs (1, outputs) for one frame (1, ...); ``seen`` then holds the spikes (1, n)."""
        torch = torch_module()
        handles = [self.module.get_submodule(n).register_forward_hook(self._watch(n)) for n in self.nodes]
        with torch.no_grad(), consumers.quiet():
            x = torch.from_numpy(np.ascontiguousarray(frame))
            y, self.state = self.module(x) if self.state is None else self.module(x, self.state)
        for handle in handles:
            handle.remove()
        return np.asarray(y.numpy().reshape(1, -1), np.float32)

    def fork(self) -> Simulator:
        """Another one at rest."""
        module = deepcopy(self.module) if self.holds_state else self.module
        return Simulator(module, self.nodes, self.holds_state)

    def _watch(self, name: str) -> Any:
        def hook(module: Any, given: Any, out: Any) -> None:
            spikes = out[0] if isinstance(out, tuple) else out
            self.seen[name] = np.asarray(spikes.numpy().reshape(1, -1) > 0)

        return hook


@dataclass
class Rows:
    """A simulator for each sequence: some flatten a batch with its frames, and none resets one row of it."""

    resting: Simulator
    rows: list[Simulator] = field(default_factory=list)

    def step(self, t: int, frames: F32, reset: Bools) -> tuple[F32 | None, Spikes]:
        if not self.rows:
            self.rows = [self.resting.fork() for _ in frames]
        for row in np.flatnonzero(reset):
            self.rows[row] = self.resting.fork()
        y = np.concatenate([machine.tick(frame[None]) for machine, frame in zip(self.rows, frames, strict=True)])
        spikes = {n: np.concatenate([machine.seen[n] for machine in self.rows]) for n in self.resting.nodes}
        return y, spikes


def simulator(path: Path, consumer: str) -> Simulator:
    """The file in a consumer, at rest. Raises MissingTool when that is not installed."""
    loaded = consumers.load(consumer, path)
    return Simulator(loaded.module, lif_nodes(library().read(path)), loaded.holds_state)


def lif_nodes(graph: Any) -> tuple[str, ...]:
    """The LIF nodes, first layer first."""
    return tuple(sorted((name for name, node in graph.nodes.items() if type(node).__name__ == "LIF"), key=_place))


def _place(name: str) -> int:
    return int("".join(c for c in name if c.isdecimal()))
