"""Direct graphs in Norse, snnTorch and SpikingJelly: who reads what, equal outputs, equal spikes, and faults."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.cli.commands import run as command
from ncpc.driver.lowering import lower_for
from ncpc.errors import ProofFailed
from ncpc.frontend.container import Container, write_policy
from ncpc.frontend.heads import windows_over
from ncpc.ir.cells import LeakyIntegrator, Lif
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.policy import Dense, DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.nir.consumers import CONSUMERS
from ncpc.targets.nir.graph import from_bytes, library, to_bytes
from ncpc.targets.nir_graded import direct_runs
from ncpc.targets.nir_graded.direct import direct_graph, input_order
from ncpc.targets.nir_graded.direct_runs import DirectArtifact, readers
from ncpc.targets.nir_graded.simulated import GRAZE, Compared, Rows, lif_nodes, program_spikes, run_beside, simulator
from tests.conftest import RequireTool

TARGET = "nir-graded"
ASKED = CompileOptions(quant="float32")


@pytest.fixture(params=list(CONSUMERS))
def consumer(request: pytest.FixtureRequest, require_tool: RequireTool) -> str:
    require_tool("nir")
    require_tool(CONSUMERS[request.param].module)
    return str(request.param)


def dense(outputs: int, inputs: int) -> Dense:
    rng = np.random.default_rng(outputs)
    return Dense(rng.normal(size=(outputs, inputs)) / inputs**0.5, rng.normal(size=outputs))


def lif(inputs: int, units: int, recurrent: bool = True, **changes: Any) -> Lif:
    """All parameters but tau differ from neuron to neuron."""
    rng = np.random.default_rng(units)
    cell = Lif(
        rng.normal(size=(units, inputs)) / inputs**0.5, recurrent * rng.normal(0, 0.5, (units, units)),
        rng.normal(0, 0.2, units), np.full(units, 3.0), rng.uniform(1, 6, units), rng.uniform(-0.3, 0.4, units),
        rng.uniform(0.2, 0.8, units), rng.uniform(-0.4, 0.1, units))
    return dataclasses.replace(cell, **changes)


def conv(shape: tuple[int, int, int], kernel: tuple[int, int], layout: str) -> Conv2d:
    windows = windows_over(shape, kernel, (1, 1), (0, 0, 0, 0), layout, "conv")
    rng = np.random.default_rng(7)
    return Conv2d(windows, rng.normal(size=(3, *kernel, shape[2])), rng.normal(size=3))


def pool(first: Conv2d, kernel: tuple[int, int], layout: str) -> Pool:
    w = first.windows
    return Pool(windows_over((w.rows, w.cols, 3), kernel, kernel, (0, 0, 0, 0), layout, "mean"), "avg")


def over_frames(layout: str, pooled: bool) -> tuple[Layer, ...]:
    first = conv((6, 7, 2), (3, 3), layout)
    mean = (pool(first, (2, 2), layout),) if pooled else ()
    width = mean[0].outputs if mean else first.outputs
    return (first, *mean, lif(width, 5), dense(2, 5))


def along_a_row(layout: str) -> tuple[Layer, ...]:
    first = conv((1, 9, 2), (1, 3), layout)
    return (first, lif(first.outputs, 5), dense(2, 5))


GRAPHS: dict[str, tuple[Layer, ...]] = {
    "dense": (dense(4, 3), dense(2, 4)),
    "lif": (lif(3, 6, recurrent=False),),
    "recurrent": (lif(3, 6),),
    "layers": (dense(4, 3), lif(4, 6), lif(6, 5, recurrent=False), lif(5, 4), dense(2, 4)),
    "slow": (lif(3, 6, tau=np.linspace(2, 9, 6)), dense(2, 6)),
    "fast": (lif(3, 6, tau=np.full(6, 0.7)), dense(2, 6)),
    "frames": over_frames("hwc", pooled=False),
    "pooled": over_frames("chw", pooled=True),
    "row": along_a_row("hwc"),
    "leaky": (LeakyIntegrator(np.eye(3), np.eye(3) / 2, np.ones(3), np.full(3, 2.0), np.zeros(3), "identity"),),
}
UNREAD = {
    ("norse", "pooled"): "leaves out without a word AvgPool2d",
    ("norse", "row"): "leaves out without a word Conv1d",
    ("snntorch", "slow"): "scales the inputs of all by the largest of them",
    ("spikingjelly", "slow"): "it refuses them",
    ("norse", "leaky"): "leaves out without a word LI",
    ("snntorch", "leaky"): "refuses LI",
    ("spikingjelly", "leaky"): "refuses LI",
}
"""What a simulator does not read, and what is said of it."""


def policy(*layers: Layer) -> Policy:
    return Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)), DtRange(0.7, 0.7, 0.7))


def lowered(*layers: Layer) -> Lowered:
    return lower_for(Container(policy(*layers)), ASKED).lowered


def sequences(width: int, rows: int = 2, steps: int = 40) -> Sequences:
    rng = np.random.default_rng(1)
    return Sequences(rng.uniform(-1, 1, (rows, steps, width)), reset=rng.random((rows, steps)) < 0.05)


def written(made: Lowered, folder: Path, changed: Any = None) -> Path:
    """The graph's file, with ``changed`` applied to the graph."""
    graph = from_bytes(registry.load(TARGET).prepare(made, ASKED).files["net.nir"])
    if changed is not None:
        changed(graph)
    (folder / "net.nir").write_bytes(to_bytes(graph))
    return folder / "net.nir"


@pytest.mark.parametrize("name", GRAPHS)
def test_a_simulator_says_what_the_executor_says(name: str, consumer: str, tmp_path: Path) -> None:
    made, target = lowered(*GRAPHS[name]), registry.load(TARGET)
    artifact = target.prepare(made, ASKED)
    assert isinstance(artifact, DirectArtifact)
    why = readers(artifact.graph)[consumer]
    runtimes = [link.runtime for link in artifact.links]
    if (consumer, name) in UNREAD:
        assert UNREAD[consumer, name] in why
        assert consumer not in runtimes
        assert any(consumer in line for line in artifact.build(tmp_path).missing)
        return
    assert why == ""
    assert consumer in runtimes
    written(made, tmp_path)
    data = sequences(made.policy.inputs)
    expected = artifact.run(tmp_path, data, "ncpc.nir").trace.y
    found = artifact.run(tmp_path, data, consumer)
    assert np.ptp(expected) > 0.5
    assert found.trace.y.shape == expected.shape
    assert np.abs(found.trace.y - expected).max() <= 2e-6 * np.ptp(expected)
    assert found.extra == {}
    assert np.abs(run(made.program, data).y - expected).max() <= 1e-6 * np.ptp(expected)


def test_every_spike_of_every_node_is_compared(consumer: str, tmp_path: Path) -> None:
    made = lowered(*GRAPHS["layers"])
    path = written(made, tmp_path)
    other = Rows(simulator(path, consumer))
    seen: dict[str, float] = {}

    class Counting:
        def step(self, t: int, frames: Any, reset: Any) -> Any:
            y, spikes = other.step(t, frames, reset)
            seen.update({name: seen.get(name, 0) + fired.mean() / 40 for name, fired in spikes.items()})
            return y, spikes

    run_beside(library().read(path), input_order(made.policy), sequences(3), Counting(), consumer)
    assert list(seen) == ["layer1_state", "layer2_state", "layer3_state"]
    assert all(0.02 < rate < 0.98 for rate in seen.values())


def test_a_session_is_a_run(consumer: str, tmp_path: Path) -> None:
    made, target = lowered(*GRAPHS["recurrent"]), registry.load(TARGET)
    written(made, tmp_path)
    data = Sequences(sequences(3, rows=1).x)
    artifact = target.prepare(made, ASKED)
    expected = artifact.run(tmp_path, data, consumer).trace.y[0]
    session = artifact.open(tmp_path, consumer)
    for _ in range(2):
        session.reset()
        assert np.array_equal([session.step(x, 1.0) for x in data.x[0]], expected)


def wrong_weight(graph: Any) -> None:
    graph.nodes["layer0"].weight[2] *= np.float32(1.2)


def wrong_threshold(graph: Any) -> None:
    graph.nodes["layer0_state"].v_threshold[:] *= np.float32(1.02)


def wrong_feedback(graph: Any) -> None:
    graph.nodes["layer0_back"].weight[:] = graph.nodes["layer0_back"].weight.T.copy()


@pytest.mark.parametrize("fault", [
    wrong_feedback, *(pytest.param(f, marks=pytest.mark.slow) for f in (wrong_weight, wrong_threshold))])
def test_a_fault_in_a_simulator_is_named(fault: Any, consumer: str, tmp_path: Path) -> None:
    """As if it read another file than the executor."""
    made = lowered(*GRAPHS["recurrent"])
    right = library().read(written(made, tmp_path))
    other = Rows(simulator(written(made, tmp_path, fault), consumer))
    with pytest.raises(ProofFailed, match=rf"{consumer}: neuron \d of 'layer0_state' (fires|is silent) at step \d+ of"):
        run_beside(right, input_order(made.policy), sequences(3, steps=200), other, consumer)


@pytest.mark.parametrize("fault", [wrong_weight, wrong_threshold, wrong_feedback])
def test_a_fault_in_the_file_is_named(fault: Any, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    made = lowered(*GRAPHS["recurrent"])
    written(made, tmp_path, fault)
    with pytest.raises(ProofFailed, match="the program: neuron"):
        registry.load(TARGET).prepare(made, ASKED).run(tmp_path, sequences(3, steps=200), "ncpc.nir")


def graze(offset: float) -> tuple[Lowered, Sequences]:
    """A neuron that is driven to 1 + ``offset`` of its threshold at step 3, and to 0 before."""
    zero, one = np.zeros(1), np.ones(1)
    made = lowered(Lif(np.ones((1, 1)), np.zeros((1, 1)), zero, np.full(1, 1.4), one, zero, one, zero))
    x = np.zeros((2, 6, 1))
    x[0, 3] = 2 * (1 + offset)
    return dataclasses.replace(made, policy=dataclasses.replace(made.policy, input_range=np.array([[-4.0, 4.0]]))), \
        Sequences(x)


class Contrary:
    """Says the opposite of the executor in row 0 at step 3; nothing fires otherwise."""

    def __init__(self, fires: bool, also: bool = False) -> None:
        self.fires, self.also = fires, also

    def step(self, t: int, frames: Any, reset: Any) -> Any:
        return None, {"layer0_state": np.array([[t == 3 and self.fires], [t == 3 and self.also]])}


def test_a_membrane_that_grazes_its_threshold_ends_the_comparison(require_tool: RequireTool) -> None:
    require_tool("nir")
    for offset, fires in ((0.2 * GRAZE, False), (-0.2 * GRAZE, True)):
        made, data = graze(offset)
        graph, reads = direct_graph(made.policy), input_order(made.policy)
        assert run(made.program, data).y[0, 3, 0] == float(not fires)
        found = run_beside(graph, reads, data, Contrary(fires), "other")
        assert found.trace.y.shape[:2] == (2, 3)
        assert found.ended.startswith("step 3 of 6")
        with pytest.raises(ProofFailed, match="neuron 0 of 'layer0_state' fires at step 3 of sequence 1, 1 off"):
            run_beside(graph, reads, data, Contrary(fires, also=True), "other")
    made, data = graze(5 * GRAZE)
    with pytest.raises(ProofFailed, match=r"is silent at step 3 of sequence 0, 2\.5e-05 off its threshold"):
        run_beside(direct_graph(made.policy), reads, data, Contrary(False), "other")


def test_program_spikes_are_those_of_the_executor(require_tool: RequireTool) -> None:
    require_tool("nir")
    made, data = lowered(*GRAPHS["layers"]), sequences(3)
    graph = direct_graph(made.policy)
    nodes = list(lif_nodes(graph))
    found = run_beside(graph, input_order(made.policy), data, program_spikes(made.program, nodes, data), "the program")
    assert found.ended == ""
    assert np.array_equal(found.trace.y, run(made.program, data).y)


def test_a_lif_is_written_in_one_unit_and_in_a_cycle_of_three(require_tool: RequireTool) -> None:
    nir = require_tool("nir")
    graph = direct_graph(policy(*GRAPHS["recurrent"]))
    node = graph.nodes["layer0_state"]
    assert isinstance(node, nir.LIF)
    assert {float(v) for name in ("r", "v_threshold") for v in getattr(node, name)} == {1.0}
    assert not np.any([node.v_leak, node.v_reset])
    assert np.allclose(node.tau, 1e-4 * 3.0 / 0.7)
    assert graph.edges == [("input", "layer0"), ("layer0", "layer0_state"), ("layer0_state", "layer0_hold"),
                           ("layer0_hold", "layer0_back"), ("layer0_back", "layer0_state"), ("layer0_state", "output")]


def test_the_command_line_runs_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           require_tool: RequireTool) -> None:
    for needed in CONSUMERS.values():
        require_tool(needed.module)
    monkeypatch.setattr("ncpc.driver.job.MIN_STEPS", 300)
    from ncpc.verification.search import search
    monkeypatch.setattr("ncpc.verification.verdict.search", partial(search, screens=1, generations=1, length=24))
    first = conv((4, 5, 1), (2, 2), "chw")
    write_policy(policy(first, pool(first, (1, 2), "chw"), lif(18, 4), dense(2, 4)), tmp_path / "net.safetensors")
    out = tmp_path / "build"
    asked = ["compile", str(tmp_path / "net.safetensors"), "-o", str(out), "--target", TARGET, "--quant", "float32"]
    assert command(asked) == 0
    report = json.loads((out / "report.json").read_text())
    assert [(link["from"], link["to"], link["kind"], link["holds"]) for link in report["links"]] == [
        ("program", "ncpc.nir", "tolerance", True), ("ncpc.nir", "snntorch", "tolerance", True),
        ("ncpc.nir", "spikingjelly", "tolerance", True)]
    assert any("norse: its importer leaves out without a word AvgPool2d" in line
               for line in report["verdict"]["not_run"])
    assert report["extra"][TARGET]["nodes"]["LIF"] == 1
    assert command(["verify", str(out)]) == 0
    whole = direct_runs.run_beside

    def grazing(*given: Any) -> Compared:
        found = whole(*given)
        return Compared(Trace(**{k: v[:, :20] for k, v in vars(found.trace).items()}), "step 20 of 50: as told")

    monkeypatch.setattr(direct_runs, "run_beside", grazing)
    asked[3] = str(tmp_path / "again")
    assert command(asked) == 0
    report = json.loads((tmp_path / "again/report.json").read_text())
    assert report["extra"][TARGET]["spikingjelly ended"] == "step 20 of 50: as told"
    assert report["error"]["steps"] == 20 * 6
