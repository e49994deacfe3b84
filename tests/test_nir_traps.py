"""What the importers of NIR files do that a writer has to know; the table in docs/targets/nir.md, row by row."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ncpc.targets.nir import graph as names
from ncpc.targets.nir.consumers import load, quiet
from ncpc.targets.nir.machine import euler
from ncpc.targets.nir.probe import DIRECT, FACTORED, TICKS, ring
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
