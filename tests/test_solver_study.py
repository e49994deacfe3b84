"""``ncpc inspect --solver-study``: errors that fall with the unfolds, unstable steps named as such."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.integrate import solve_ivp

from ncpc.cli.commands import cli
from ncpc.errors import Unsupported
from ncpc.frontend.container import write_policy
from ncpc.ir.cells import CtRnn, NeuralOde
from ncpc.ir.gated import Rnn
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.tableau import LTC_SOLVERS
from ncpc.passes.lower import lower
from ncpc.report.solver_study import UNFOLDS, solver_study, steps_apart
from ncpc.semantics.run import run
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


@pytest.mark.parametrize(("method", "steps", "order"), [("euler", 32, 1), ("heun", 16, 2), ("rk38", 8, 4),
                                                        ("rk4", 8, 4)])
def test_steps_are_as_far_from_the_ode_as_an_adaptive_solver_finds(method: str, steps: int, order: int) -> None:
    """And half as long, 2**order times nearer."""
    rng = np.random.default_rng(3)
    weights = rng.normal(0, 0.7, (4, 2)), rng.normal(0, 0.7, (4, 4)), rng.normal(size=4)
    layer = CtRnn(*weights, rng.uniform(0.5, 2, 4), steps, 1.0 / steps, method)
    x = rng.uniform(-1, 1, (1, 8, 2))
    policy = Policy("net", (layer,), np.tile([-1.0, 1.0], (2, 1)), calibration=Sequences(x))
    found, h, exact = steps_apart(policy, method, steps), np.zeros(4), []
    for now in x[0]:
        h = solve_ivp(lambda _, h, now=now: np.tanh(weights[0] @ now + weights[1] @ h + weights[2]) - h / layer.tau,
                      (0, 1), h, "DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
        exact.append(h)
    error = np.abs(run(lower(policy), Sequences(x)).y[0] - exact).max() / np.ptp(exact)
    assert found["error"] == pytest.approx(error, rel=1e-3)
    assert np.log2(found["halved"]) == pytest.approx(order, abs=0.2)
    assert found["data"] == "calibration"


def test_command_line_shows_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncpc.report.solver_study.UNFOLDS", (1, 6))
    write_policy(random_policy(0), tmp_path / "p.safetensors")
    shown = CliRunner().invoke(cli, ["inspect", str(tmp_path / "p.safetensors"), "--solver-study"])
    assert shown.exit_code == 0
    assert "fused (trained)" in shown.output
    assert "unstable" in shown.output
    found = CliRunner().invoke(cli, ["inspect", str(tmp_path / "p.safetensors"), "--solver-study", "--json"])
    assert len(json.loads(found.output)["rows"]) == 2 * len(LTC_SOLVERS)
