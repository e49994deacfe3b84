"""Certificates of every cell and of frames, and box inequalities put to an SMT solver."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ncpc.driver.certification import range_certificate
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.program import Program
from ncpc.proofs import certify
from ncpc.targets.base import CompileOptions
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests.c_programs import fixed_program
from tests.head_models import random_heads
from tests.nets import random_policy
from tests.test_cells_int16 import INPUTS, MODELS, calm_model, import_model, sequences
from tests.test_heads import frames, policy_of

QUICK = ("cfc_default", "wired_cfc_pure", "lstm", "gru", "rnn")


def cell_program(name: str, scheme: Any) -> Program:
    layers, ranges = import_model(calm_model(name)).layers, np.tile([-1.0, 1.0], (INPUTS, 1))
    policy = Policy("net", layers, ranges, DtRange(), calibration=sequences(1))
    return lower_for(Container(policy), CompileOptions(quant=scheme, dt="fixed")).lowered.program


def assert_certified(program: Program) -> None:
    found = range_certificate(program, emit_c(interface_of(program)))
    assert found.holds, found.note


@pytest.mark.parametrize("name", QUICK)
def test_cells_are_certified(name: str) -> None:
    assert_certified(cell_program(name, "int16"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int16", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_every_cell_is_certified(name: str, scheme: str) -> None:
    assert_certified(cell_program(name, scheme))


@pytest.mark.parametrize(("seed", "scheme"), [
    (6, "int16"), *(pytest.param(seed, scheme, marks=pytest.mark.slow)
                    for seed in (0, 2, 5, 7, 9, 10, 11, 13) for scheme in ("int16", "int8"))])
def test_frames_are_certified(seed: int, scheme: Any) -> None:
    """Windows that are clipped at the frame's border, and those that lie in it, over which the taps walk (6, 9, 11)."""
    modules, frame = random_heads(seed)
    policy = policy_of(modules, frame)
    policy = dataclasses.replace(policy, calibration=frames(seed, policy.inputs, 20))
    assert_certified(lower_for(Container(policy), CompileOptions(quant=scheme, dt="fixed")).lowered.program)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["int16", "int8"])
@pytest.mark.parametrize("seed", range(3))
def test_an_smt_solver_agrees_on_box_inequalities(seed: int, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each synapse the largest share is reached and never passed; z3 sees the formula and nothing of how the checker
    finds the largest one."""
    z3 = pytest.importorskip("z3")
    asked: list[tuple[tuple[int, ...], int]] = []
    found = certify.Boxes.worst

    def heard(self: certify.Boxes, *numbers: int) -> int:
        asked.append((numbers, found(self, *numbers)))
        return asked[-1][1]

    monkeypatch.setattr(certify.Boxes, "worst", heard)
    assert_certified(fixed_program(random_policy(seed), scheme))
    assert len(asked) > 20
    for (e, p, w, r, lo, hi, m, level, sign), worst in asked[:: max(1, len(asked) // 12)]:
        s, solver = z3.Int("s"), z3.Solver()
        share = sign * ((e * s) / (1 << p) * (1 << m) - (w * s) / (1 << r) * level)
        solver.add(s >= lo, s <= hi)
        solver.push()
        solver.add(share > worst)
        assert solver.check() == z3.unsat
        solver.pop()
        solver.add(share == worst)
        assert solver.check() == z3.sat
