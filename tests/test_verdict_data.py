"""The verdict over several data sets: the user's own in two parts, generated ones, and what of them counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from ncpc.cli.commands import run
from ncpc.driver.job import Request
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import Outcome, compile_policy
from ncpc.driver.reopen import verify_build
from ncpc.errors import BadInput
from ncpc.frontend.api import save
from ncpc.frontend.container import Container, policy_bytes, read_container, write_policy
from ncpc.ir.heads import Softmax
from ncpc.ir.held_out import split
from ncpc.ir.policy import F64, Dense, Policy
from ncpc.ir.sequences import Sequences
from ncpc.report import terminal
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, CompileOptions
from ncpc.verification.verdict import SEARCH
from tests.interpreter import interpreter_target
from tests.layer_policies import STILL
from tests.nets import random_policy
from tests.test_pipeline import VALIDATOR


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch)


def stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter as the only target, few generated steps, a short search."""
    monkeypatch.setattr(registry, "load", lambda name: interpreter_target())
    monkeypatch.setattr(registry, "names", lambda: ("interpreter",))
    monkeypatch.setattr("ncpc.cli.own_options.own_options", lambda: ())
    monkeypatch.setattr("ncpc.driver.job.MIN_STEPS", 900)
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})


def compiled(policy: Policy, folder: Path, **request: Any) -> Outcome:
    outcome = compile_policy(policy, folder / "build", Request("interpreter", **{"quant": "int16", **request}))
    VALIDATOR.validate(outcome.report)
    return outcome


def shares(outcome: Outcome) -> dict[str, float]:
    return {one["name"]: one["max_range"] for one in outcome.report["data"]}


def printed(outcome: Outcome) -> str:
    console = Console(width=120, record=True)
    console.print(terminal.result_table([outcome.report]))
    for line in terminal.explanations(outcome.report):
        console.print(line)
    return console.export_text()


def dense(data: F64 | None, weight: F64 | None = None) -> Policy:
    """One product of a matrix and inputs between -1 and 1: quick, and its error is that of the number formats."""
    given = np.random.default_rng(0).normal(size=(2, 3)) if weight is None else weight
    return Policy("linear", (Dense(given, np.zeros(len(given))),), np.tile([-1.0, 1.0], (3, 1)),
                  calibration=None if data is None else Sequences(data))


def noise(rows: int, steps: int, width: float, inputs: int = 3) -> F64:
    return np.random.default_rng(5).uniform(-width, width, (rows, steps, inputs))


def test_calibration_is_split_by_sequence_or_by_time() -> None:
    x = np.arange(10 * 6 * 1.0).reshape(10, 6, 1)
    reset = np.zeros((10, 6), np.bool_)
    reset[4, 2] = True
    parts = split(Sequences(x, dt=x[..., 0] + 1, reset=reset))
    assert parts.held_out is not None
    np.testing.assert_array_equal(parts.held_out.x, x[[4, 9]])
    np.testing.assert_array_equal(parts.held_out.dt, x[[4, 9], :, 0] + 1)
    assert parts.held_out.reset is not None
    assert parts.held_out.reset[0, 2]
    np.testing.assert_array_equal(parts.seen.x, np.delete(x, [4, 9], axis=0))
    few = split(Sequences(x[:3]))
    assert few.held_out is None
    assert "too few" in few.rule
    few = split(Sequences(np.concatenate([x[:3]] * 2, axis=1)))
    assert few.held_out is not None
    np.testing.assert_array_equal(few.held_out.x[:, :6], x[[2]])
    one = split(Sequences(x.reshape(1, 60, 1)))
    assert one.held_out is not None
    np.testing.assert_array_equal(one.held_out.x, x.reshape(1, 60, 1)[:, 48:])
    np.testing.assert_array_equal(one.seen.x, x.reshape(1, 60, 1)[:, :48])


def test_quantization_does_not_look_at_what_is_held_out() -> None:
    x = noise(10, 12, 0.3)
    wild = x.copy()
    wild[[4, 9]] = np.sign(wild[[4, 9]])
    first, second = (lower_for(Container(dense(data)), CompileOptions()) for data in (x, wild))
    assert first.formats == second.formats
    assert first.lowered.policy.calibration is not None
    np.testing.assert_array_equal(first.lowered.policy.calibration.x, np.delete(x, [4, 9], axis=0))
    wild[3] = np.sign(wild[3])
    assert lower_for(Container(dense(wild)), CompileOptions()).formats != first.formats


def test_data_that_moves_little_decides_where_generated_sequences_would_not(tmp_path: Path) -> None:
    """A task that uses a twentieth of the declared range moves the outputs as little, and the error is as it was."""
    policy = dense(noise(6, 60, 0.05))
    free = shares(compiled(policy, tmp_path))
    assert list(free) == ["calibration", "held-out", "generated"]
    assert free["held-out"] > 2 * free["generated"]
    limit = (min(free["calibration"], free["held-out"]) + free["generated"]) / 2
    outcome = compiled(policy, tmp_path, tolerance=limit)
    verdict = outcome.report["verdict"]
    assert outcome.exit_code == 1
    assert verdict["worst"] in ("calibration", "held-out")
    assert outcome.report["error"]["set"] == verdict["worst"]
    assert [reason for reason in verdict["reasons"] if "on held-out, more than" in reason]
    assert not [reason for reason in verdict["reasons"] if "generated" in reason]


def test_generated_sequences_decide_unless_the_data_alone_counts(tmp_path: Path) -> None:
    """The other way round: the task's inputs and the weights are such that integers hold them exactly."""
    weight = np.array([[1.0, 0.5, -0.25], [0.75, -1.0, 0.5]])
    policy = dense(np.round(4 * noise(6, 60, 1.0)) / 4, weight)
    free = shares(compiled(policy, tmp_path))
    assert free["calibration"] == free["held-out"] == 0.0
    limit = free["generated"] / 2
    strict = compiled(policy, tmp_path, tolerance=limit)
    assert (strict.exit_code, strict.report["verdict"]["worst"]) == (1, "generated")
    assert "  generated " in printed(strict)
    own = compiled(policy, tmp_path, tolerance=limit, verdict="data")
    assert own.exit_code == 0, own.report["verdict"]
    assert [one["counts"] for one in own.report["data"]] == [True, True, False]
    assert "  generated (for information)" in printed(own)
    assert "worst found (for information)" in printed(own)
    assert "for information" in (own.folder / "report.html").read_text()
    again = verify_build(own.folder)
    assert (again.exit_code, again.report["verdict"]["counts"]) == (0, "data")
    assert verify_build(own.folder, verdict="data+generated").exit_code == 1


def test_without_data_the_table_says_so_and_the_data_alone_cannot_count(tmp_path: Path) -> None:
    outcome = compiled(dense(None), tmp_path)
    assert "no data of your own: generated inputs only" in printed(outcome)
    assert "No data of your own: generated inputs only" in (outcome.folder / "report.html").read_text()
    assert list(shares(outcome)) == ["generated"]
    with pytest.raises(BadInput, match="carries no calibration data"):
        compiled(dense(None), tmp_path / "other", verdict="data")
    assert "no data of your own" not in printed(compiled(dense(noise(6, 60, 0.5)), tmp_path / "third"))


def test_a_link_is_run_on_every_data_set(tmp_path: Path) -> None:
    policy = dense(noise(10, 60, 0.5))
    here, there = compiled(policy, tmp_path).report["links"]
    assert [(one["name"], one["steps"]) for one in here["sets"]] == [
        ("calibration", 300), ("held-out", 120), ("generated", 600), ("outside", 96)]
    assert here["steps"] == 1116
    assert [one["steps"] for one in there["sets"]] == [100, 100, 200, 96]


def test_a_fault_that_only_the_users_data_meets_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost reset, and generated sequences are cut before they have one."""
    reset = np.zeros((5, 60), np.bool_)
    reset[:, 3] = True
    policy = dataclasses.replace(random_policy(4), calibration=Sequences(noise(5, 60, 1.0), reset=reset))
    monkeypatch.setattr(registry, "load", lambda name: interpreter_target(faults={"late": True}))
    monkeypatch.setattr("ncpc.verification.sequences.resets", lambda family, rng, length: np.zeros(length, np.bool_))
    outcome = compiled(policy, tmp_path, quant="float32", verdict="data")
    assert outcome.exit_code == 1
    assert "program and here differ" in outcome.report["verdict"]["reasons"][0]
    assert "steps on calibration" in outcome.report["verdict"]["reasons"][0]
    first = outcome.report["links"][0]
    assert (first["first_divergent"]["set"], first["first_divergent"]["time"]) == ("calibration", 3)
    assert [one["mismatches"] == 0 for one in first["sets"]] == [False, False, True, False]  # outside, it resets too


def test_given_inputs_are_the_users_data_beside_the_policys(tmp_path: Path) -> None:
    folder = compiled(dense(noise(6, 60, 0.5)), tmp_path).folder
    np.savez(tmp_path / "log.npz", x=noise(2, 80, 0.01))
    again = verify_build(folder, tmp_path / "log.npz")
    VALIDATOR.validate(again.report)
    assert list(shares(again)) == ["log.npz", "calibration", "held-out", "generated"]
    assert again.report["verdict"]["worst"] == "log.npz"


def test_too_few_steps_take_the_widest_output_range(tmp_path: Path) -> None:
    folder = compiled(dense(None), tmp_path).folder
    (given, generated) = verify_build(folder, {"x": noise(1, 1, 1.0)}).report["data"]
    assert given["output_range"] == generated["output_range"] > 0


def test_outputs_that_never_change_are_refused(tmp_path: Path) -> None:
    still = Policy("net", STILL, np.tile([-1.0, 1.0], (6, 1)))
    with pytest.raises(BadInput, match="outputs are the same at every step of all data"):
        compiled(still, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_classifiers_decisions_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    layers = (Dense(rng.normal(size=(4, 3)), np.zeros(4)), Softmax(4))
    policy = Policy("choice", layers, np.tile([-1.0, 1.0], (3, 1)), calibration=Sequences(noise(6, 60, 1.0)))
    outcome = compiled(policy, tmp_path, quant="int8")
    found = {one["name"]: one["agreement"] for one in outcome.report["data"]}
    assert found["held-out"]["steps"] == 60
    assert found["held-out"]["ends"] == 1
    assert 0.9 * found["generated"]["steps"] < found["generated"]["equal"] <= found["generated"]["steps"]
    assert "same decision, held-out" in printed(outcome)
    assert "same decision" in (outcome.folder / "report.html").read_text()
    assert "same decision" not in printed(compiled(dense(noise(6, 60, 1.0)), tmp_path / "other"))


def test_logits_are_decisions_too(tmp_path: Path) -> None:
    policy = dense(noise(6, 60, 1.0))
    path = tmp_path / "p.safetensors"
    saved = save(list(policy.layers), path, calibration=noise(6, 60, 1.0), outputs="logits")
    assert read_container(path).policy.meaning == saved.meaning == "logits"
    assert all(one["agreement"] for one in compiled(saved, tmp_path).report["data"])
    assert not any(one["agreement"] for one in compiled(policy, tmp_path / "plain").report["data"])
    assert b"meaning" not in policy_bytes(policy)
    with pytest.raises(BadInput, match="outputs are 'classes'; known are values, logits"):
        save(list(policy.layers), path, input_range=(-1, 1), outputs="classes")


def test_the_command_line_takes_what_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "p.safetensors", str(tmp_path / "build")
    write_policy(dense(noise(6, 60, 0.5)), path)
    assert run(["compile", str(path), "-t", "interpreter", "-o", out, "--verdict", "data"]) == 0
    assert "generated (for information)" in capsys.readouterr().out
    assert run(["verify", out, "--strict"]) in (0, 1)
    assert "worst found (for" not in capsys.readouterr().out
    assert run(["verify", out, "--strict", "--verdict", "data"]) == 2
    assert "--strict is --verdict all" in capsys.readouterr().err


def test_the_schema_refuses_a_report_without_data_sets(tmp_path: Path) -> None:
    report = compiled(dense(None), tmp_path).report
    del report["data"]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(report)


def test_outputs_that_came_with_the_data_are_a_link(tmp_path: Path) -> None:
    """A log of the user's own system: its y against the policy in float64."""
    policy = dense(noise(6, 60, 0.5))
    weight = np.asarray(policy.layers[0].weight)  # type: ignore[attr-defined]
    folder, x = compiled(policy, tmp_path).folder, noise(2, 80, 0.7)
    log, y = tmp_path / "log.npz", x @ weight.T
    np.savez(log, x=x, y=y.astype(np.float32))
    good = verify_build(folder, log)
    VALIDATOR.validate(good.report)
    assert good.exit_code == 0, good.report["verdict"]
    recorded = good.report["data"][0]["recorded"]
    assert recorded["steps"] == 160
    assert recorded["max_range"] < 1e-6
    assert recorded["tolerance"] == 2e-3
    assert "recorded y, log.npz" in printed(good)
    assert "3 of 3 links" in printed(good), "those of the target, and y"
    y[1, 30, 1] += 0.01 * np.ptp(y, axis=(0, 1)).max()
    np.savez(log, x=x, y=y)
    bad = verify_build(folder, log)
    assert bad.exit_code == 1
    assert bad.report["data"][0]["recorded"]["max_range"] == pytest.approx(0.01)
    assert "2 of 3 links" in printed(bad)
    (reason,) = bad.report["verdict"]["reasons"]
    assert "the y of log.npz and the policy in float64 are 1 % of the output range apart, more than 0.2 %" in reason
    assert "at step 30 of sequence 1, output y1" in reason
    np.savez(log, x=x, y=y[..., :1])
    with pytest.raises(BadInput, match=r"y has shape \(2, 80, 1\), expected \(2, 80, 2\)"):
        verify_build(folder, log)


def test_outputs_that_came_with_the_calibration_are_too(tmp_path: Path) -> None:
    x = noise(6, 60, 0.5)
    y = x @ np.asarray(dense(None).layers[0].weight).T  # type: ignore[attr-defined]
    y[5] += 1.0
    np.savez(tmp_path / "data.npz", x=x, y=y)
    policy = dense(None)
    outcome = compile_policy(policy, tmp_path / "build", Request("interpreter"), calibrate=tmp_path / "data.npz")
    VALIDATOR.validate(outcome.report)
    assert outcome.exit_code == 1
    assert [reason for reason in outcome.report["verdict"]["reasons"] if "the y of calibration" in reason]
    found = {one["name"]: one["recorded"] for one in outcome.report["data"]}
    assert (found["calibration"]["holds"], found["held-out"]["holds"], found["generated"]) == (False, True, None)
    again = verify_build(outcome.folder)
    assert again.report["data"] == outcome.report["data"]
