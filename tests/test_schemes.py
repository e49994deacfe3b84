"""The table of number schemes: what files may say of one, and a scheme that is a row and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from ncpc.driver import builds
from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.ir.schemes import DEFAULT, SCHEMES, NumberScheme, Scheme
from ncpc.report.record import schema
from tests.conftest import RequireTool
from tests.nets import random_policy


def test_every_scheme_has_a_row_and_a_place_in_reports() -> None:
    assert list(SCHEMES) == list(get_args(Scheme))
    assert DEFAULT in SCHEMES
    assert schema()["properties"]["quant"]["properties"]["scheme"]["enum"] == list(SCHEMES)


def test_what_is_finer_errs_less() -> None:
    for row in SCHEMES.values():
        assert not row.finer or SCHEMES[row.finer].tolerance < row.tolerance


def test_a_row_makes_a_scheme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: RequireTool) -> None:
    """Weights and activations of 12 bits: compiled for this machine, run, and verified bit for bit."""
    require_tool("ziglang")
    require_tool("brevitas")
    name: Any = "int12"
    row = NumberScheme(name, "integer", 1e-2, finer="int16", weight_bits=12, activation_bits=12, state_bits=16)
    monkeypatch.setitem(SCHEMES, name, row)
    outcome = compile_policy(random_policy(0), tmp_path / "build", Request("host", name, steps=200))
    assert outcome.holds, outcome.report["verdict"]["reasons"]
    assert builds.read_report(tmp_path / "build")["quant"]["scheme"] == name
    assert outcome.verification is not None
    program = outcome.verification.setting.lowered.program
    assert {port.value.type.bits for port in (program.x, program.y)} == {12}  # type: ignore[union-attr]
    weights = program.constants["w"][1]
    assert 2**7 <= np.abs(weights).max() < 2**11
