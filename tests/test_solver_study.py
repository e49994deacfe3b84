"""``ncpc inspect --solver-study``: errors that fall with the unfolds, unstable steps named as such."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ncpc.cli.commands import cli
from ncpc.errors import Unsupported
from ncpc.frontend.container import write_policy
from ncpc.ir.cells import NeuralOde
from ncpc.ir.gated import Rnn
from ncpc.ir.policy import Policy
from ncpc.ir.tableau import LTC_SOLVERS
from ncpc.report.solver_study import UNFOLDS, solver_study
from tests.nets import random_policy


def by_solver(study: dict[str, object], solver: str) -> list[float | None]:
    return [row["error"] for row in study["rows"] if row["solver"] == solver]  # type: ignore[attr-defined]


def test_errors_fall_with_the_unfolds_of_an_ltc() -> None:
    study = solver_study(random_policy(0))
    fused, euler, rk4 = (by_solver(study, solver) for solver in ("fused", "euler", "rk4"))
    assert [len(errors) for errors in (fused, euler, rk4)] == [len(UNFOLDS)] * 3
    assert all(b < a for a, b in pairwise(fused))  # type: ignore[operator]
    assert euler[0] is None
    assert rk4[0] is None
    assert rk4[-1] is not None
    assert euler[-1] is not None
    assert rk4[-1] < 1e-5 < euler[-1] < 0.1
    assert study["trained"] == {"solver": "fused", "unfolds": 6}


def test_a_neural_ode_keeps_the_time_its_step_covers() -> None:
    rng = np.random.default_rng(0)
    layer = NeuralOde(rng.normal(size=(4, 2)), rng.normal(size=(4, 4)), rng.normal(size=4))
    study = solver_study(Policy("net", (layer,), np.tile([-1.0, 1.0], (2, 1))))
    euler, rk4 = by_solver(study, "euler"), by_solver(study, "rk4")
    assert None not in euler
    assert euler[-1] < euler[0] / 10  # type: ignore[operator]
    assert rk4[-1] < 1e-9  # type: ignore[operator]
    assert not by_solver(study, "fused")


def test_what_is_no_ode_is_refused() -> None:
    layer = Rnn(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), "tanh")
    with pytest.raises(Unsupported, match="net: has no ODE cell"):
        solver_study(Policy("net", (layer,), np.array([[-1.0, 1.0]])))


def test_command_line_shows_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncpc.report.solver_study.UNFOLDS", (1, 6))
    write_policy(random_policy(0), tmp_path / "p.safetensors")
    shown = CliRunner().invoke(cli, ["inspect", str(tmp_path / "p.safetensors"), "--solver-study"])
    assert shown.exit_code == 0
    assert "fused (trained)" in shown.output
    assert "unstable" in shown.output
    found = CliRunner().invoke(cli, ["inspect", str(tmp_path / "p.safetensors"), "--solver-study", "--json"])
    assert len(json.loads(found.output)["rows"]) == 2 * len(LTC_SOLVERS)
