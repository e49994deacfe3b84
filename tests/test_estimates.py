"""What ``ncpc inspect`` estimates is close to what a build then costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.cores import core_names, load_core
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.inspect.policies import cost, functions
from ncpc.ir.gated import Cfc
from ncpc.ir.policy import Dense, Policy
from ncpc.targets.base import CompileOptions
from ncpc.targets.registry import load
from ncpc.verification.sequences import suite
from tests.nets import random_policy


def estimated(kind: str) -> list[str]:
    """The cores that have an estimate of a kind of layer: all that are shipped."""
    return [name for name in core_names() if kind in load_core(name).estimates]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("name", estimated("ltc"))
def test_estimates_are_within_a_fifth(name: str, seed: int, tmp_path: Path, require_tool: Any) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    require_close(name, random_policy(seed, neurons=8 * (seed - 19), inputs=5, density=0.3), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", estimated("cfc"))
def test_estimates_of_a_cfc_are_within_a_fifth(name: str, tmp_path: Path, require_tool: Any) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    require_close(name, closed_form(14, 7, 80), tmp_path)


def test_every_core_with_a_cycle_model_has_estimates() -> None:
    counted = [name for name in core_names() if load_core(name).timing_class != "count"]
    assert estimated("ltc") == estimated("cfc") == counted


def test_a_cfc_has_a_cost_and_what_is_not_known_has_none() -> None:
    policy = closed_form(8, 4, 32)
    assert functions(policy.layers[0]) == 32 + 3 * 8  # type: ignore[arg-type]
    assert cost("cortex-m4", policy) == {"target": "cortex-m4", "cycles": pytest.approx(4923, rel=0.2),
                                         "flash_bytes": pytest.approx(10264, rel=0.2)}
    assert cost("onnx", policy)["cycles"] is None
    mixed = dataclasses.replace(policy, layers=(*policy.layers, Dense(np.ones((1, 8)), np.zeros(1))))
    assert cost("cortex-m4", mixed)["cycles"] is None


def closed_form(neurons: int, inputs: int, units: int) -> Policy:
    """A CfC with a backbone of one layer."""
    rng = np.random.default_rng(3)

    def dense(outputs: int, width: int) -> Dense:
        return Dense(rng.normal(0, width**-0.5, (outputs, width)), rng.normal(0, 0.1, outputs))

    gates = [dense(neurons, units) for _ in range(4)]
    cell = Cfc((dense(units, neurons + inputs),), *gates, None, None, "default", "lecun_tanh", "tanh", (), ())
    return Policy("net", (cell,), np.tile([-1.0, 1.0], (inputs, 1)))


def require_close(name: str, policy: Policy, tmp_path: Path) -> None:
    """Cycles and flash of a build within a fifth of the estimate."""
    options, target = CompileOptions(), load(name)
    lowered = lower_for(Container(policy), options).lowered
    artifact = target.prepare(lowered, options)
    for file, content in artifact.files.items():
        (tmp_path / file).write_bytes(content)
    built = artifact.build(tmp_path)
    run = artifact.run(tmp_path, suite(policy, 60, False), name)
    assert run.cycles is not None
    assert built.memory is not None
    guess = cost(name, policy)
    assert guess["cycles"] == pytest.approx(int(run.cycles.upper.max()), rel=0.2)
    assert guess["flash_bytes"] == pytest.approx(built.memory.flash_bytes, rel=0.2)
