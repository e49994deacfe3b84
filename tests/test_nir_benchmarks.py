"""The figures in benchmarks/nir_*.json come again: a sample measured as their commands measure it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from benchmarks import nir_chips, nir_units
from benchmarks.spike_policies import FOLDER, signals, wanted
from ncpc.frontend.container import read_policy
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower as lower_real
from ncpc.semantics.run import run
from ncpc.targets.nir.cost import cost
from ncpc.targets.nir.lower import lower
from ncpc.targets.nir.study import Study, study
from ncpc.targets.nir.trajectory import trajectory

UNITS = json.loads(nir_units.RESULT.read_text())
CHIPS = json.loads(nir_chips.RESULT.read_text())


def policy_of(name: str) -> Policy:
    return read_policy(FOLDER / f"{name}.safetensors")


@cache
def known_policy(name: str) -> Study:
    return study(policy_of(name))


def held_out(policy: Policy) -> np.ndarray:
    x = signals(np.random.default_rng(nir_units.SEED), nir_units.ROWS, nir_units.STEPS, policy.inputs)
    return np.clip(x, *policy.input_range.T)


def require_alike(found: Any, committed: Any) -> None:
    """Other machines round floats otherwise, which may move a level: a twentieth is allowed."""
    assert found.keys() <= committed.keys()
    for name, value in found.items():
        assert value == pytest.approx(committed[name], rel=0.05, abs=0.02), name


@pytest.mark.parametrize(("name", "units", "kind"), [
    ("spikes-autoncp12-b", 1000, "placed"), ("spikes-autoncp12-b", 1000, "uniform"), ("spikes-full8", 1500, "placed"),
    *(pytest.param(name, units, kind, marks=pytest.mark.slow) for name, units, kind in (
        ("spikes-autoncp12-a", 4000, "placed"), ("spikes-autoncp12-b", 4000, "placed"),
        ("spikes-full8", 4000, "placed"), ("spikes-autoncp19", 4000, "placed"), ("spikes-autoncp19", 1000, "uniform")))
])
def test_errors_against_units(name: str, units: int, kind: str) -> None:
    known = known_policy(name)
    x = held_out(known.policy)
    net = lower(known, units, kind == "uniform")
    point = next(p for p in UNITS[name]["curve"] if p["units"] == units)
    assert net.units <= units
    found = nir_units.errors(known, net, x, trajectory(known.cell, x))
    require_alike({**found, "spikes_per_step": cost(net)["spikes_per_step"]}, point[kind])


@pytest.mark.parametrize("name", ["spikes-autoncp12-a", *(
    pytest.param(name, marks=pytest.mark.slow) for name in nir_units.POLICIES[1:])])
def test_errors_under_a_chips_arithmetic(name: str) -> None:
    found = nir_chips.measure(FOLDER / f"{name}.safetensors")
    for key in ("int16", "loihi2"):
        require_alike({k: v for k, v in found[key].items() if k != "needs"}, CHIPS[name][key])
    require_alike(found["loihi2"]["needs"], CHIPS[name]["loihi2"]["needs"])
    for theta, point in found["theta"].items():
        require_alike(point, CHIPS[name]["theta"][theta])


@pytest.mark.parametrize("name", nir_units.POLICIES)
def test_the_networks_are_trained(name: str) -> None:
    """On held-out signals at least half of the variance that the task asks for is there; untrained, none of it."""
    policy = policy_of(name)
    x = held_out(policy)
    goal, y = wanted(x, policy.outputs)[:, 20:], run(lower_real(policy), Sequences(x)).y[:, 20:]
    assert np.mean((y - goal) ** 2) < 0.5 * goal.var()
