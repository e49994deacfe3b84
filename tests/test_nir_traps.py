"""What the importers of NIR files do that a writer has to know; the table in docs/targets/nir.md, row by row."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ncpc.targets.nir import graph as names
from ncpc.targets.nir.consumers import CONSUMERS, load, quiet
from ncpc.targets.nir.machine import euler
from ncpc.targets.nir.probe import DIRECT, FACTORED, TICKS, ring
from ncpc.targets.nir_graded.chain import DirectExecutor
from tests.conftest import RequireTool


@pytest.fixture
def nir(require_tool: RequireTool) -> ModuleType:
    return require_tool("nir")


def chain(nir: ModuleType, *nodes: Any) -> Any:
    """Input -> nodes -> Output."""
    return nir.NIRGraph.from_list(*nodes)


def lif(nir: ModuleType, **changes: Any) -> Any:
    fields = {"tau": 1e-3, "r": 1.0, "v_leak": 0.0, "v_reset": 0.0, "v_threshold": 1.0} | changes
    return nir.LIF(**{name: np.broadcast_to(np.float32(value), (2,)).copy() for name, value in fields.items()})


def spikes_of(machine: Any, x: float, ticks: int = 30, width: int = 2) -> np.ndarray:
    return np.concatenate([machine.tick(np.full((1, width), x, np.float32))[0] for _ in range(ticks)])


def written(nir: ModuleType, graph: Any, tmp_path: Path) -> Path:
    path = tmp_path / "graph.nir"
    nir.write(path, graph)
    return path


def test_snntorch_rewires_a_cycle_of_two_nodes(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("snntorch.import_nir")
    expected = np.eye(4)[np.arange(TICKS) % 4]
    outcome = {form: spikes_of(load("snntorch", written(nir, ring(form), tmp_path)), 0.0, TICKS, 1)
               for form in (DIRECT, FACTORED)}
    assert np.array_equal(outcome[FACTORED], expected)
    assert not np.array_equal(outcome[DIRECT], expected)


def test_snntorch_keeps_membranes_in_the_module(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """A second run that passes no state does not start at rest: import again for every run."""
    require_tool("snntorch.import_nir")
    machine = load("snntorch", written(nir, chain(nir, lif(nir)), tmp_path))
    first = spikes_of(machine, 1.5, 15)
    machine.state = None
    again = spikes_of(machine, 1.5, 15)
    assert not np.array_equal(first, again)
    fresh = load("snntorch", written(nir, chain(nir, lif(nir)), tmp_path))
    assert np.array_equal(first, spikes_of(fresh, 1.5, 15))


def test_snntorch_makes_an_if_leak(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """An IF forgets nothing; the importer makes it a leaky unit that keeps 0.9 of its membrane from tick to tick."""
    require_tool("snntorch.import_nir")
    one = np.ones(2, np.float32)
    machine = load("snntorch", written(nir, chain(nir, nir.IF(r=one, v_threshold=one, v_reset=0 * one)), tmp_path))
    assert float(machine.module.nir_node_if.beta) == pytest.approx(0.9)


def test_snntorch_refuses_unequal_thresholds(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("snntorch.import_nir")
    with pytest.raises(AssertionError, match="v_threshold must be same"):
        load("snntorch", written(nir, chain(nir, lif(nir, v_threshold=np.array([1.0, 2.0]))), tmp_path))


def test_spikingjelly_refuses_a_time_constant_of_one_tick(nir: ModuleType, tmp_path: Path,
                                                          require_tool: RequireTool) -> None:
    require_tool("spikingjelly.activation_based.nir_exchange")
    with pytest.raises(ValueError, match="greater than 1"):
        load("spikingjelly", written(nir, chain(nir, lif(nir, tau=np.float32(0.99e-4))), tmp_path))
    load("spikingjelly", written(nir, chain(nir, lif(nir, tau=names.TAU_S)), tmp_path))


def test_spikingjelly_refuses_unequal_parameters(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("spikingjelly.activation_based.nir_exchange")
    with pytest.raises(ValueError, match="uniform"):
        load("spikingjelly", written(nir, chain(nir, lif(nir, tau=np.array([1e-3, 2e-3]))), tmp_path))


def test_norse_steps_a_millisecond_unless_told(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """Its dt is 1e-3 s, the others' 1e-4 s: the same file forgets ten times as fast."""
    norse = require_tool("norse.torch")
    with quiet():
        default, told = norse.from_nir(ring(FACTORED)), norse.from_nir(ring(FACTORED), dt=names.TICK_S)
    modules = {m: next(c for c in m.modules() if type(c).__name__ == "LIFBoxCell") for m in (default, told)}
    assert modules[default].dt == pytest.approx(1e-3)
    assert modules[told].dt == pytest.approx(names.TICK_S)
    assert modules[told].dt * float(modules[told].p.tau_mem_inv[0]) == pytest.approx(1.0, abs=1e-6)


def test_norse_drops_the_reset_potential(nir: ModuleType, require_tool: RequireTool) -> None:
    norse = require_tool("norse.torch")
    with quiet():
        module = norse.from_nir(chain(nir, lif(nir, v_reset=0.5)), dt=names.TICK_S)
    cell = next(c for c in module.modules() if type(c).__name__ == "LIFBoxCell")
    assert float(cell.p.v_reset) == 0.0


def fired(machine: Any, x: Any, ticks: int = 30) -> np.ndarray:
    """Spikes (ticks, width) for a constant input (width,)."""
    return np.concatenate([machine.tick(np.asarray(x, np.float32)[None])[0] for _ in range(ticks)])


def test_norse_leaves_out_what_it_does_not_know(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """A graph with a leaky integrator, a mean or a convolution along a row runs without it."""
    require_tool("norse.torch")
    one = np.ones(2, np.float32)
    leaky = chain(nir, nir.Linear(weight=np.eye(2, dtype=np.float32)), nir.LI(tau=1e-3 * one, r=one, v_leak=0 * one))
    assert np.array_equal(fired(load("norse", written(nir, leaky, tmp_path)), one, 3), np.ones((3, 2)))
    mean = nir.AvgPool2d(kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 0]))
    row = nir.Conv1d(4, np.full((1, 1, 2), 7.0, np.float32), 1, 0, 1, 1, np.zeros(1, np.float32))
    for node, shape, out in ((mean, (1, 4, 4), (1, 2, 2)), (row, (1, 4), (1, 3))):
        x = np.linspace(0.0, 4.0, int(np.prod(shape)), dtype=np.float32).reshape(shape)
        y, _ = load("norse", written(nir, behind_units(nir, node, shape, out), tmp_path)).tick(x[None])
        assert np.array_equal(y[0], (x > 1.0).astype(np.float32))


def behind_units(nir: ModuleType, node: Any, shape: tuple[int, ...], out: tuple[int, ...]) -> Any:
    """Input -> units that fire above 1 -> node -> Output."""
    one = np.ones(shape, np.float32)
    units = nir.LIF(tau=one * names.TAU_S, r=one, v_leak=0 * one, v_reset=0 * one, v_threshold=one)
    nodes = {"input": nir.Input(input_type={"input": np.array(shape)}), "units": units, "node": node,
             "output": nir.Output(output_type={"output": np.array(out)})}
    return nir.NIRGraph(nodes, list(pairwise(nodes)))


@pytest.mark.parametrize("name", ["snntorch", "spikingjelly"])
def test_the_others_refuse_a_leaky_integrator(name: str, nir: ModuleType, tmp_path: Path,
                                              require_tool: RequireTool) -> None:
    require_tool(CONSUMERS[name].module)
    one = np.ones(2, np.float32)
    graph = chain(nir, nir.Linear(weight=np.eye(2, dtype=np.float32)), nir.LI(tau=1e-3 * one, r=one, v_leak=0 * one))
    with pytest.raises(ValueError, match=r"Unknown node type .*\.LI"):
        load(name, written(nir, graph, tmp_path))


def test_norse_takes_what_it_meets_last_for_the_output(nir: ModuleType, tmp_path: Path,
                                                       require_tool: RequireTool) -> None:
    """Depth first along the edges: one that leaves the cycle has to come after those of the cycle."""
    require_tool("norse.torch")
    graph = ring(FACTORED)
    wires = list(graph.edges)
    out = [(names.UNITS, names.READOUT), (names.READOUT, names.OUTPUT)]
    expected = np.eye(4)[np.arange(TICKS) % 4]
    assert np.array_equal(spikes_of(load("norse", written(nir, graph, tmp_path)), 0.0, TICKS, 1), expected)
    graph.edges = [*out, *(wire for wire in wires if wire not in out)]
    assert not np.array_equal(spikes_of(load("norse", written(nir, graph, tmp_path)), 0.0, TICKS, 1), expected)


def test_norse_takes_every_resistance_for_1(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("norse.torch")
    runs = [fired(load("norse", written(nir, chain(nir, lif(nir, r=r)), tmp_path)), [0.5, 1.5]) for r in (1.0, 4.0)]
    assert runs[0][:, 1].any()
    assert np.array_equal(runs[0], runs[1])


def test_norse_starts_at_the_leak_potential(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """Membranes start at 0 elsewhere: one that leaks to just below its threshold fires sooner."""
    require_tool("norse.torch")
    machine = load("norse", written(nir, chain(nir, lif(nir, v_leak=0.99, tau=1e-2)), tmp_path))
    assert fired(machine, [2.0, 2.0], 1).all()


@pytest.mark.parametrize(("changes", "said"), [
    ({"r": 4.0}, r"r must equal 1 or tau / dt"), ({"v_leak": 0.5}, "v_leak must equal v_reset")])
def test_spikingjelly_refuses_other_units(changes: dict[str, float], said: str, nir: ModuleType, tmp_path: Path,
                                          require_tool: RequireTool) -> None:
    require_tool("spikingjelly.activation_based.nir_exchange")
    with pytest.raises(ValueError, match=said):
        load("spikingjelly", written(nir, chain(nir, lif(nir, **changes)), tmp_path))


def test_spikingjelly_fires_at_the_threshold(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """NIR asks for more than the threshold. Half of 2 is exactly 1."""
    for name in CONSUMERS:
        require_tool(CONSUMERS[name].module)
    graph = written(nir, chain(nir, lif(nir, tau=2 * names.TICK_S)), tmp_path)
    first = {name: fired(load(name, graph), [2.0, 2.1], 1)[0].tolist() for name in CONSUMERS}
    assert first == {"norse": [0, 1], "snntorch": [0, 1], "spikingjelly": [1, 1]}


def test_snntorch_scales_by_one_time_constant(nir: ModuleType, tmp_path: Path, require_tool: RequireTool) -> None:
    """Where time constants differ, all thresholds are scaled by the largest one's: the faster neuron is wrong."""
    require_tool("snntorch.import_nir")
    graph = chain(nir, lif(nir, tau=np.array([5e-4, 1e-3])))
    machine = DirectExecutor({**graph.nodes, "lif_state": graph.nodes["lif"]}, ["lif_state"], np.arange(2))
    expected = np.concatenate([machine.step(np.full((1, 2), 3.0, np.float32)) for _ in range(30)])
    found = fired(load("snntorch", written(nir, graph, tmp_path)), [3.0, 3.0])
    assert np.array_equal(found[:, 1], expected[:, 1])
    assert not np.array_equal(found[:, 0], expected[:, 0])


def test_snntorch_refuses_a_leak_potential_and_resets_to_0(nir: ModuleType, tmp_path: Path,
                                                           require_tool: RequireTool) -> None:
    require_tool("snntorch.import_nir")
    with pytest.raises(AssertionError, match="v_leak not supported"):
        load("snntorch", written(nir, chain(nir, lif(nir, v_leak=0.5)), tmp_path))
    runs = [fired(load("snntorch", written(nir, chain(nir, lif(nir, v_reset=v)), tmp_path)), [1.5, 1.5])
            for v in (0.0, 0.5)]
    assert runs[0].any()
    assert np.array_equal(runs[0], runs[1])


@pytest.mark.parametrize("name", list(CONSUMERS))
def test_a_flatten_counts_the_batch_or_not(name: str, nir: ModuleType, tmp_path: Path,
                                           require_tool: RequireTool) -> None:
    """Axes in a file are without the batch; Norse and snnTorch flatten it with the frame."""
    require_tool(CONSUMERS[name].module)
    flat = nir.Flatten(input_type={"input": np.array([2, 3])}, start_dim=0)
    linear = nir.Linear(weight=np.ones((1, 6), np.float32))
    nodes = {"input": nir.Input(input_type={"input": np.array([2, 3])}), "flat": flat, "sum": linear,
             "output": nir.Output(output_type={"output": np.array([1])})}
    order = list(nodes)
    path = written(nir, nir.NIRGraph(nodes, list(pairwise(order))), tmp_path)
    assert load(name, path).tick(np.ones((1, 2, 3), np.float32))[0].reshape(-1).tolist() == [6.0]
    two = np.ones((2, 2, 3), np.float32)
    if name == "spikingjelly":
        assert load(name, path).tick(two)[0].tolist() == [[6.0], [6.0]]
    else:
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            load(name, path).tick(two)


def test_nirtorch_leaves_an_affine_bias_random(nir: ModuleType, require_tool: RequireTool) -> None:
    """Its default map stores the bias beside the module's: an importer must bring its own Affine."""
    nirtorch = require_tool("nirtorch")
    bias = np.full(3, 7.0, np.float32)
    with quiet():
        graph = chain(nir, nir.Affine(weight=np.ones((3, 2), np.float32), bias=bias))
        module = nirtorch.nir_to_torch(graph, {})
    assert not np.any(np.isclose(module.affine.bias.detach().numpy(), bias))


def test_sinabs_has_no_linear(nir: ModuleType, require_tool: RequireTool) -> None:
    sinabs = require_tool("sinabs.nir", optional=True)
    with quiet(), pytest.raises(KeyError):
        sinabs.from_nir(ring(FACTORED), batch_size=1)


def test_sinabs_drops_recurrence(nir: ModuleType, require_tool: RequireTool) -> None:
    """The ring with Affine for Linear: unit 0 alone fires; what should come around the cycle never does."""
    torch, sinabs = require_tool("torch"), require_tool("sinabs.nir", optional=True)
    graph = ring(FACTORED)
    for name in (names.DECODE, names.ENCODE, names.READOUT):
        weight = graph.nodes[name].weight
        graph.nodes[name] = nir.Affine(weight=weight, bias=np.zeros(len(weight), np.float32))
    with quiet(), torch.no_grad():
        out = sinabs.from_nir(graph, batch_size=1)(torch.zeros(TICKS, 1))
    fired = (out[0] if isinstance(out, tuple) else out).numpy().reshape(TICKS, -1) > 0
    assert fired[:, 0].any()
    assert not fired[:, 1:].any()


def test_rockpool_cannot_import_a_lif(nir: ModuleType, require_tool: RequireTool) -> None:
    """It reads a field that only nir.CubaLIF has."""
    rockpool = require_tool("rockpool.nn.modules.torch.nir", optional=True)
    with quiet(), pytest.raises(AttributeError, match="'LIF' object has no attribute 'tau_mem'"):
        rockpool.from_nir(chain(nir, lif(nir)))


def test_the_reference_executor_reads_nirs_equations(nir: ModuleType) -> None:
    """The ring under forward Euler: the yardstick of this file."""
    machine = euler(ring(FACTORED))
    assert np.array_equal(spikes_of(machine, 0.0, TICKS, 1), np.eye(4)[np.arange(TICKS) % 4])
