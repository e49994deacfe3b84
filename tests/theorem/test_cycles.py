"""The least and most cycles of any way through a step, beside what the simulator charges for calls of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ncpc.cores.elf import read_elf
from ncpc.driver.job import Request
from ncpc.sim.plan import CallPlan
from ncpc.sim.run import simulate
from ncpc.sim.timing import Cycles
from ncpc.sim.timing_cortex_m import CORTEX_M4
from ncpc.sim.timing_tables import timing_model
from ncpc.targets.c.device import calls, dt_bits, state_bytes
from ncpc.targets.c.interface import to_bytes
from ncpc.theorem import theorem as proofs
from ncpc.theorem.call import SAMPLES, given
from ncpc.theorem.cycles import Meter
from ncpc.theorem.flash import Flash, flash_of
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.undecided import Undecided
from tests.conftest import RequireTool
from tests.theorem.builds import ROOT, Linked, linked

POLICIES = ROOT / "examples"
CARTPOLE = POLICIES / "cartpole" / "policy.safetensors"
CASES = [("cartpole", "cortex-m4", "int16", None), ("cartpole", "rv32imc-ibex", "w8a16", None),
         ("sine", "rv32imc-ibex", "int16", "runtime"), ("sine", "cortex-m4", "int8", "runtime")]


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla", "unicorn", "capstone"):
        require_tool(module)


def charged(step: Linked) -> tuple[np.ndarray, np.ndarray]:
    """Cycles of each of the proof's own samples, at least and at most: corners, usual and arbitrary numbers."""
    build = step.build
    program, face = build.program, build.artifact.face
    raw = given(BitTerms(SAMPLES, Flash(())), program).raw
    before = np.concatenate([raw[s.inp.name].reshape(SAMPLES, -1) for s in program.states], axis=1)
    dt = None if program.dt is None else dt_bits(raw[program.dt.value.name].reshape(-1, 1), face)
    x = to_bytes(raw[program.x.value.name].reshape(SAMPLES, 1, -1), face.x)
    plan = CallPlan(replace(calls(face), restore=None), x, dt, start=state_bytes(face, before))
    found = simulate(build.elf, build.core, plan)
    assert not found.faults
    return found.lower.reshape(-1), found.upper.reshape(-1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(filter(None, case)))
def test_no_call_takes_more_or_less_than_any_way_can(
    case: tuple[str, str, str, str | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, core, scheme, dt = case
    policy = POLICIES / name / "policy.safetensors"
    step = linked(tmp_path_factory.mktemp(name), policy, Request(core, scheme, dt=dt))
    found = step.prove()
    lower, upper = charged(step)
    assert found.cycles is not None, found.why
    assert found.cycles.lower <= lower.min()
    assert upper.max() <= found.cycles.upper
    if not found.sites:  # nothing but the table's own bounds is left open
        assert (lower == found.cycles.lower).all()
        assert (upper == found.cycles.upper).all()
    assert upper.max() >= 0.99 * found.cycles.upper


def test_a_table_that_forgets_the_refill_is_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = linked(tmp_path_factory.mktemp("cartpole"), CARTPOLE, Request("cortex-m4"))
    model = replace(CORTEX_M4, refill=Cycles(0, 0))
    monkeypatch.setattr(proofs, "meter_of", lambda core, flash: Meter(flash, core.arch, model))
    found = step.prove()
    assert found.cycles is not None
    assert found.cycles.upper < charged(step)[1].min()


def test_what_an_instruction_under_a_condition_costs_is_an_interval(step_with_it: Meter) -> None:
    """``cmp r0, #0; it ne; ldrne r0, [r1]; bx lr``: the load takes a cycle where it is skipped."""
    costs = [step_with_it.between(at, following) for at, following in ((0, 2), (2, 4), (4, 6), (6, 100))]
    assert costs[2].lower == 1
    assert costs[2].upper >= 2
    assert costs[3] == Cycles(2, 4)


@pytest.fixture
def step_with_it() -> Meter:
    code = np.array([0x2800, 0xBF18, 0x6808, 0x4770], "<u2").view(np.uint8)
    return Meter(Flash(((0, code),)), "arm", CORTEX_M4)


def test_places_are_named_by_their_functions(tmp_path_factory: pytest.TempPathFactory) -> None:
    step = linked(tmp_path_factory.mktemp("ibex"), CARTPOLE, Request("rv32imc-ibex"))
    sites = step.prove().sites
    assert sites
    assert all(site.startswith("cartpole_step+0x") for site in sites)
    flash = flash_of(read_elf(step.elf))
    start = read_elf(step.elf).address("cartpole_step")
    assert all(flash.read(start + int(site.split("+")[1], 16), 2) is not None for site in sites)


def test_what_the_timing_table_has_not_ends_the_proof() -> None:
    """A compressed instruction, in the table of PicoRV32, which is read with four bytes each."""
    code = np.array([0x4501, 0x8082], "<u2").view(np.uint8)
    meter = Meter(Flash(((0, code),)), "riscv32", timing_model("picorv32"))
    with pytest.raises(Undecided, match="compressed"):
        meter.between(0, 2)
