"""Whole steps proved equal to their Programs, and changed ones not."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.driver.job import Request
from ncpc.semantics.run import Executor
from tests.conftest import RequireTool
from tests.theorem.builds import ROOT, Linked, linked

CARTPOLE = ROOT / "examples" / "cartpole" / "policy.safetensors"


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory: pytest.TempPathFactory) -> Linked:
    for module in ("ziglang", "elftools", "bitwuzla"):
        pytest.importorskip(module)
    return linked(tmp_path_factory.mktemp("cartpole"), CARTPOLE, Request(target="rv32imc-ibex", quant="int16"))


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla"):
        require_tool(module)


def test_the_cart_pole_step_is_its_program(cartpole: Linked) -> None:
    found = cartpole.prove()
    states = sum(state.inp.shape[0] for state in cartpole.program.states)
    assert found.answer == "proved", found.why
    assert found.shown == found.outcomes == states + 1 + 1 + 14 + 1  # states, y, status, kept registers, stack
    assert 0 < found.least <= found.most
    assert found.stack_bytes > 0


@pytest.mark.parametrize("entry", [5, 127])
def test_a_seed_that_testing_does_not_miss_is_not_proved(cartpole: Linked, entry: int) -> None:
    """One more in an entry of the reciprocal's seeds, which 10,008 steps of the bitwise links pass."""
    assert cartpole.prove(cartpole.with_byte("recip_seed", 2 * entry, 1)).answer != "proved"


def test_a_changed_table_differs_at_a_given_input(cartpole: Linked) -> None:
    found = cartpole.prove(cartpole.with_byte("sigmoid_table", 2 * 256, 1))
    assert found.answer == "differs", found.why
    shown = found.counterexample
    assert shown is not None
    executor = Executor(cartpole.program)
    executor.reset(1)
    executor.load({s.inp.name: shown.raw[s.inp.name][None] for s in cartpole.program.states})
    _, after, _ = executor.step(shown.raw[cartpole.program.x.value.name][None])
    wanted = {f"{s.inp.name}[{i}]": int(n) for s, a in zip(cartpole.program.states, after, strict=True)
              for i, n in enumerate(np.asarray(a)[0])}
    assert wanted[shown.what] == shown.wanted != shown.got


def test_a_proof_that_has_no_time_is_undecided(cartpole: Linked) -> None:
    found = cartpole.prove(seconds=0)
    assert found.answer == "undecided"
    assert "are used up" in found.why
