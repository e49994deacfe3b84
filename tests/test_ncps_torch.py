"""The policy equals the trained module: every wiring, constraint mode, mapping, unfolds, epsilon, irregular dt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ncpc.frontend import ncps_torch
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

torch = pytest.importorskip("torch")
ncps_cells = pytest.importorskip("ncps.torch")
wirings = pytest.importorskip("ncps.wirings")
cells = pytest.importorskip("ncpc.cells")

TOLERANCE = 1e-5
STEPS = 200


def user_made(rng: np.random.Generator, units: int, inputs: int, outputs: int) -> Any:
    """A wiring built by hand: some synapses, neurons without recurrent or any sensory ones included."""
    wiring = wirings.Wiring(units)
    wiring.set_output_dim(outputs)
    wiring.build(inputs)
    for i in range(units):
        wiring.add_sensory_synapse(int(rng.integers(inputs)), i, int(rng.choice([-1, 1])))
    for _ in range(units):
        wiring.add_synapse(int(rng.integers(units)), int(rng.integers(units)), int(rng.choice([-1, 1])))
    return wiring


def random_wiring(rng: np.random.Generator, inputs: int) -> Any:
    units, seed = int(rng.integers(5, 14)), int(rng.integers(1000))
    outputs = int(rng.integers(1, units - 3))
    kinds: list[Callable[[], Any]] = [
        lambda: wirings.FullyConnected(units, outputs, erev_init_seed=seed, self_connections=bool(seed % 2)),
        lambda: wirings.Random(units, outputs, sparsity_level=float(rng.uniform(0, 0.8)), random_seed=seed),
        lambda: wirings.AutoNCP(units, outputs, sparsity_level=float(rng.uniform(0.1, 0.9)), seed=seed),
        lambda: wirings.NCP(4, 3, 2, 2, 2, 3, 2, seed=seed),
        lambda: user_made(rng, units, inputs, outputs),
    ]
    return kinds[int(rng.integers(len(kinds)))]()


def random_cell(rng: np.random.Generator, inputs: int) -> Any:
    """An LTC or LTCCell with trained-looking parameters: every tensor moved away from its initial value."""
    torch.manual_seed(int(rng.integers(1 << 30)))
    options = {
        "input_mapping": rng.choice([None, "linear", "affine"]),
        "output_mapping": rng.choice([None, "linear", "affine"]),
        "ode_unfolds": int(rng.integers(1, 8)),
        "epsilon": float(rng.choice([0.0, 1e-8, 1e-3])),
        "implicit_param_constraints": bool(rng.integers(2)),
    }
    wiring = random_wiring(rng, inputs)
    if rng.integers(2):
        model = ncps_cells.LTC(inputs, wiring, **options)
    else:
        model = ncps_cells.LTCCell(wiring, inputs, **options)
    perturb(model, rng)
    return model


def perturb(model: Any, rng: np.random.Generator) -> None:
    for name, parameter in model.named_parameters():
        if not name.endswith("sparsity_mask"):
            noise = torch.as_tensor(rng.normal(0, 0.1, tuple(parameter.shape)), dtype=parameter.dtype)
            parameter.data += noise
    cell = getattr(model, "rnn_cell", model)
    cell.apply_weight_constraints()


def random_model(rng: np.random.Generator) -> tuple[list[Any], int]:
    """A cell, bare or between layers, and the number of inputs."""
    inputs = int(rng.integers(1, 6))
    cell = random_cell(rng, inputs)
    if rng.integers(2):
        return [cell], inputs
    outputs = getattr(cell, "rnn_cell", cell).motor_size
    nn = torch.nn
    activation = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity][int(rng.integers(4))]
    head = nn.Linear(outputs, 2, bias=bool(rng.integers(2)))
    return [nn.Linear(3, inputs), activation(), cell, head], 3


def policy_of(model: Any, inputs: int, dt: DtRange = DtRange(0.01, 100.0)) -> Policy:  # noqa: B008
    return Policy("net", ncps_torch.import_model(model).layers, np.tile([-1.0, 1.0], (inputs, 1)), dt)


def run_policy(policy: Policy, x: np.ndarray, dt: np.ndarray) -> np.ndarray:
    return run(lower(policy), Sequences(x, dt)).y


def run_torch(model: list[Any], x: np.ndarray, dt: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        y, _ = cells.Sequential(model)(torch.tensor(x).float(), None, torch.tensor(dt).float())
    return y.double().numpy()


def assert_equal_on_random_network(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model, inputs = random_model(rng)
    x = rng.uniform(-1, 1, (2, STEPS, inputs)).astype(np.float32).astype(np.float64)
    x[0] = np.cumsum(x[0], axis=0) * 0.2
    irregular = np.exp(rng.uniform(np.log(0.05), np.log(5), (2, STEPS))).astype(np.float32).astype(np.float64)
    dt = irregular if seed % 3 else np.ones((2, STEPS))
    got, expected = run_policy(policy_of(model, inputs), x, dt), run_torch(model, x, dt)
    assert np.ptp(expected) > 0
    assert np.abs(got - expected).max() <= TOLERANCE, f"seed {seed}"


@pytest.mark.parametrize("seed", range(25))
def test_policy_equals_module(seed: int) -> None:
    assert_equal_on_random_network(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25, 225))
def test_policy_equals_module_on_two_hundred_networks(seed: int) -> None:
    assert_equal_on_random_network(seed)
