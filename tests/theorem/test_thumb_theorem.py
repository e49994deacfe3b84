"""Whole steps of a Cortex-M4 proved equal to their Programs, and changed ones not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ncpc.cores.elf import read_elf
from ncpc.driver.job import Request
from ncpc.ir.schemes import Scheme
from tests.conftest import RequireTool
from tests.theorem.builds import ROOT, Linked, linked

SINE = ROOT / "examples" / "sine" / "policy.safetensors"
CARTPOLE = ROOT / "examples" / "cartpole" / "policy.safetensors"


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla"):
        require_tool(module)


@pytest.fixture(scope="module")
def sine(tmp_path_factory: pytest.TempPathFactory) -> Linked:
    for module in ("ziglang", "elftools", "bitwuzla"):
        pytest.importorskip(module)
    return linked(tmp_path_factory.mktemp("sine"), SINE, Request(target="cortex-m4", quant="int16"))


def test_the_sine_step_is_its_program(sine: Linked) -> None:
    found = sine.prove()
    states = sum(state.inp.shape[0] for state in sine.program.states)
    assert found.answer == "proved", found.why
    assert found.shown == found.outcomes == states + 1 + 1 + 8 + 1  # states, y, status, kept registers, stack
    assert 0 < found.least <= found.most
    assert found.stack_bytes > 0


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "quant"), [
    (SINE, "int8"), (SINE, "w8a16"), (CARTPOLE, "int16"), (CARTPOLE, "w4a16")])
def test_a_step_is_its_program(policy: Path, quant: Scheme, tmp_path: Path) -> None:
    found = linked(tmp_path, policy, Request(target="cortex-m4", quant=quant)).prove()
    assert found.answer == "proved", found.why


def test_a_changed_instruction_is_not_proved(sine: Linked) -> None:
    """A bit of a register, of an immediate, of a condition or an opcode, somewhere in the step."""
    image, rng, answers = read_elf(sine.elf), random.Random(3), []
    step = next(s for s in image.functions if s.name.endswith("_step"))
    for _ in range(5):
        answers.append(sine.prove(sine.with_byte(step.name, rng.randrange(step.size), 1 << rng.randrange(8))).answer)
    assert "proved" not in answers
    assert "differs" in answers


@pytest.mark.slow
def test_a_changed_table_differs(sine: Linked) -> None:
    assert sine.prove(sine.with_byte("sigmoid_table", 4 * 256, 1)).answer == "differs"
