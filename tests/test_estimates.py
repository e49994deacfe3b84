"""What ``ncpc inspect`` estimates is close to what a build then costs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from benchmarks import estimates
from benchmarks.cells_table import policy_of
from ncpc.cores import core_names, load_core
from ncpc.inspect.estimates import cost, generic_counts
from ncpc.ir.gated import Cfc
from ncpc.ir.policy import Dense, Policy
from tests.nets import random_policy

ROWS = json.loads(estimates.RESULT.read_text())["rows"]
NETWORKS = dict(estimates.networks())
WAYS = ("ltc", "generic")


def estimated(way: str) -> list[str]:
    """The cores that have an estimate of a form of the integer step: all that are shipped."""
    return [name for name in core_names() if way in load_core(name).estimates]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("name", estimated("ltc"))
def test_estimates_are_within_a_fifth(name: str, seed: int, require_tool: Any) -> None:
    require_close(name, random_policy(seed, neurons=8 * (seed - 19), inputs=5, density=0.3), require_tool)


@pytest.mark.slow
@pytest.mark.parametrize("name", estimated("generic"))
def test_estimates_of_a_cfc_are_within_a_fifth(name: str, require_tool: Any) -> None:
    require_close(name, closed_form(14, 7, 80), require_tool)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["Keras wired CfC", "mixed memory, LTC", "mixed memory, CfC",
                                     "Keras mixed memory, LTC"])
@pytest.mark.parametrize("name", estimated("generic"))
def test_networks_that_were_not_fitted_are_within_a_fifth(name: str, network: str, require_tool: Any) -> None:
    require_close(name, policy_of(network), require_tool)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['network']} on {row['core']}")
def test_estimates_are_within_a_fifth_of_what_was_measured(row: dict[str, Any]) -> None:
    within_a_fifth(cost(row["core"], NETWORKS[row["network"]]), row)


@pytest.mark.parametrize("core", estimates.CORES)
def test_small_ltcs_are_estimated_as_closely_as_large_ones(core: str) -> None:
    """Their flash is tables and fixed code for the most part, and was estimated 17 % too low where tables are fine."""
    rows = [row for row in ROWS if row["core"] == core and row["network"].startswith("LTC")]
    off = [cost(core, NETWORKS[row["network"]])["flash_bytes"] / row["flash_bytes"] - 1 for row in rows]
    assert np.abs(off).max() < 0.06


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("core", estimates.CORES)
def test_the_factors_are_those_that_fit(core: str, way: str) -> None:
    estimate = load_core(core).estimates[way]
    assert {"cycles": estimate.cycles, "flash": estimate.flash} == {
        name: pytest.approx(by_unit, rel=0.01) for name, by_unit in estimates.factors(ROWS, core, way).items()}


def test_every_network_is_measured_on_every_core() -> None:
    assert [(row["core"], row["network"]) for row in ROWS] == [
        (core, name) for core in estimates.CORES for name in NETWORKS]


@pytest.mark.parametrize("network", ["LTC of 4", "mixed memory of 4, cfc"])
@pytest.mark.parametrize("core", estimates.CORES)
def test_figures_stay_where_they_are(core: str, network: str, require_tool: Any) -> None:
    require_tools(require_tool)
    (row,) = [row for row in ROWS if (row["core"], row["network"]) == (core, network)]
    assert estimates.measure(NETWORKS[network], core) == {name: row[name] for name in ("cycles", "flash_bytes")}


def test_every_core_with_a_cycle_model_has_estimates() -> None:
    counted = [name for name in core_names() if load_core(name).timing_class != "count"]
    assert estimated("ltc") == estimated("generic") == counted == list(estimates.CORES)


def test_a_cfc_has_a_cost_and_what_is_not_known_has_none() -> None:
    policy = closed_form(8, 4, 32)
    cycles, flash, tables = generic_counts(policy)
    assert (cycles["function"], cycles["product"], tables) == (32 + 3 * 8, 32 * 12 + 3 * 8 * 32, 4 * (512 + 1024))
    assert flash["weight"] == cycles["product"]
    assert cost("cortex-m4", policy) == {"target": "cortex-m4", "cycles": pytest.approx(4923, rel=0.2),
                                         "flash_bytes": pytest.approx(10264, rel=0.2)}
    assert cost("onnx", policy)["cycles"] is None
    mixed = dataclasses.replace(policy, layers=(*policy.layers, Dense(np.ones((1, 8)), np.zeros(1))))
    assert cost("cortex-m4", mixed)["cycles"] is None
    explicit = random_policy(4, solver="euler", unfolds=12)
    assert cost("cortex-m4", explicit)["cycles"] is None


def closed_form(neurons: int, inputs: int, units: int) -> Policy:
    """A CfC with a backbone of one layer."""
    rng = np.random.default_rng(3)

    def dense(outputs: int, width: int) -> Dense:
        return Dense(rng.normal(0, width**-0.5, (outputs, width)), rng.normal(0, 0.1, outputs))

    gates = [dense(neurons, units) for _ in range(4)]
    cell = Cfc((dense(units, neurons + inputs),), *gates, None, None, "default", "lecun_tanh", "tanh", (), ())
    return Policy("net", (cell,), np.tile([-1.0, 1.0], (inputs, 1)))


def require_tools(require_tool: Any) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


def require_close(name: str, policy: Policy, require_tool: Any) -> None:
    """Cycles and flash of a build within a fifth of the estimate."""
    require_tools(require_tool)
    within_a_fifth(cost(name, policy), estimates.measure(policy, name))


def within_a_fifth(guess: dict[str, Any], built: dict[str, int]) -> None:
    for key in ("cycles", "flash_bytes"):
        assert guess[key] == pytest.approx(built[key], rel=0.2)
