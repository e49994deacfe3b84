"""Every cell's policy equals its source module, and survives being saved and loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

torch = pytest.importorskip("torch")

from ncpc.cells import Sequential  # noqa: E402
from ncpc.frontend.ncps_torch import import_model  # noqa: E402
from tests.cell_models import FAMILIES, random_model  # noqa: E402

TOLERANCE = 1e-5
STEPS = 200


def policy_of(modules: list[torch.nn.Module], inputs: int, dt: DtRange) -> Policy:
    return Policy("net", import_model(modules).layers, np.tile([-1.0, 1.0], (inputs, 1)), dt)


def random_sequences(seed: int, inputs: int, batch: int = 2, steps: int = STEPS) -> Sequences:
    """Noise and a random walk, timespans irregular except for every third seed."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (batch, steps, inputs))
    x[0] = np.clip(np.cumsum(x[0], axis=0) * 0.2, -1, 1)
    irregular = np.exp(rng.uniform(np.log(0.2), np.log(3), (batch, steps)))
    return Sequences(x, irregular if seed % 3 else np.ones((batch, steps)))


def run_module(modules: list[torch.nn.Module], data: Sequences) -> np.ndarray:
    assert data.dt is not None
    with torch.no_grad():
        y, _ = Sequential(modules).eval().double()(torch.tensor(data.x), None, torch.tensor(data.dt))
    return y.numpy()


def assert_policy_equals_module(family: str, seed: int) -> None:
    modules, inputs = random_model(family, seed)
    policy, data = policy_of(modules, inputs, DtRange(0.2, 3.0)), random_sequences(seed, inputs)
    expected = run_module(modules, data)
    assume(np.ptp(expected) > 0)  # a single rectified unit may be dead
    difference = np.abs(run(lower(policy), data).y - expected).max()
    assert difference <= TOLERANCE * max(1.0, np.abs(expected).max()), f"{family} {seed}: {difference}"


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**30))
def test_policy_equals_module(family: str, seed: int) -> None:
    assert_policy_equals_module(family, seed)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**30))
def test_policy_equals_module_for_many(family: str, seed: int) -> None:
    assert_policy_equals_module(family, seed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(6))
def test_saved_policy_comes_back_unchanged(family: str, seed: int, tmp_path: Path) -> None:
    modules, inputs = random_model(family, seed)
    policy = policy_of(modules, inputs, DtRange(0.5, 2.0))
    write_policy(policy, tmp_path / "p.safetensors")
    back = read_policy(tmp_path / "p.safetensors")
    assert policy_bytes(back) == policy_bytes(policy)
    data = random_sequences(seed, inputs, steps=5)
    assert np.array_equal(run(lower(back), data).y, run(lower(policy), data).y)
