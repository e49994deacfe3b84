"""What ``ncpc inspect`` estimates is close to what a build then costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ncpc.frontend.container import Container
from ncpc.inspection import ESTIMATES, cost
from ncpc.lowering import lower_for
from ncpc.targets.base import CompileOptions
from ncpc.targets.registry import load
from ncpc.verify.sequences import suite
from tests.nets import random_policy


@pytest.mark.slow
@pytest.mark.parametrize("seed", [21, 22])
@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_are_within_a_fifth(name: str, seed: int, tmp_path: Path, require_tool: Any) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    policy = random_policy(seed, neurons=8 * (seed - 19), inputs=5, density=0.3)
    options, target = CompileOptions(), load(name)
    lowered = lower_for(Container(policy), options).lowered
    for file, content in target.emit(lowered, options).items():
        (tmp_path / file).write_bytes(content)
    built = target.build(tmp_path, lowered, options)
    run = target.run(tmp_path, lowered, options, suite(policy, 60, False), name)
    assert run.cycles is not None
    assert built.memory is not None
    guess = cost(name, policy)
    assert guess["cycles"] == pytest.approx(int(run.cycles.upper.max()), rel=0.2)
    assert guess["flash_bytes"] == pytest.approx(built.memory.flash_bytes, rel=0.2)
