"""The compiler end to end, with a target that needs no tools: verdicts, exit codes, reports, folders."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import ncpc
from ncpc.cli.commands import run
from ncpc.driver import builds
from ncpc.driver.comparison import between
from ncpc.driver.job import Request, require_steps
from ncpc.driver.pipeline import Outcome, compile_policy
from ncpc.driver.reopen import simulate_build, verify_build
from ncpc.errors import BadInput, ProofFailed
from ncpc.frontend.container import write_policy
from ncpc.ir.policy import Dense, DtRange, Policy
from ncpc.report.record import schema
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, Target
from ncpc.verification.verdict import SEARCH
from tests.interpreter import interpreter_target
from tests.nets import random_policy

VALIDATOR = jsonschema.Draft202012Validator(schema())


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.safetensors"
    write_policy(dataclasses.replace(random_policy(4), name="toy"), path)
    return path


class Stage:
    """Compiles with an interpreter under the name ``interpreter``; the search is short unless a test is about it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, policy: Path) -> None:
        self.patch, self.out, self.policy = monkeypatch, tmp_path / "build", policy
        self.use(interpreter_target())
        monkeypatch.setattr("ncpc.driver.job.MIN_STEPS", 900)
        monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})

    def use(self, target: Target) -> None:
        self.patch.setattr(registry, "load", lambda name: target)
        self.patch.setattr(registry, "names", lambda: ("interpreter",))

    def compile(self, target: Target, **request: Any) -> Outcome:
        self.use(target)
        return compile_policy(self.policy, self.out, Request("interpreter", **{"quant": "float32", **request}))


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, policy_file: Path) -> Stage:
    return Stage(monkeypatch, tmp_path, policy_file)


@pytest.mark.parametrize("quant", ["float32", "int16", "int8"])
def test_a_faithful_build_holds_and_its_report_is_valid(stage: Stage, quant: str) -> None:
    outcome = stage.compile(interpreter_target(), quant=quant)
    VALIDATOR.validate(outcome.report)
    assert outcome.exit_code == 0, outcome.report["verdict"]
    assert outcome.holds
    assert 0 < outcome.report["error"]["max_range"] <= outcome.report["verdict"]["tolerance"]
    assert outcome.report["error"]["steps"] >= 900
    assert [link["mismatches"] for link in outcome.report["links"]] == [0, 0]
    assert outcome.report["cycles"]["upper"]["max"] == outcome.report["cycles"]["lower"]["max"] + 7
    assert json.loads((stage.out / builds.REPORT).read_text()) == outcome.report
    assert sorted(p.name for p in stage.out.iterdir()) == [
        "artifact.json", "policy.safetensors", "report.html", "report.json", "request.json",
        "timing.json", "trace.json", "vectors.npz"]


def test_integer_reports_state_the_proved_box_around_the_observed_range(stage: Stage) -> None:
    proof = stage.compile(interpreter_target(), quant="int16").report["proof"]
    assert proof["no_overflow"]
    assert len(proof["box"]) == 8
    for row in proof["box"]:
        assert row["lo"] <= row["observed_lo"] <= row["observed_hi"] <= row["hi"]
        assert row["observed_lo"] < row["observed_hi"]


def test_the_same_inputs_give_the_same_bytes(stage: Stage) -> None:
    def contents() -> dict[str, bytes]:
        stage.compile(interpreter_target(), quant="int16")
        return {p.name: p.read_bytes() for p in stage.out.iterdir() if p.name != builds.TIMING}
    assert contents() == contents()


def first_output(outcome: Outcome) -> dict[str, Any]:
    return dict(outcome.report["links"][0]["first_divergent"])


def test_a_table_entry_off_by_one_is_found_and_placed(stage: Stage) -> None:
    outcome = stage.compile(interpreter_target(faults={"bump": {"sigmoid_table": 256}}), quant="int16")
    assert outcome.exit_code == 1
    assert not outcome.holds
    assert outcome.report["links"][0]["mismatches"] > 0
    assert first_output(outcome)["neuron"].startswith("n")
    assert "program and here differ" in outcome.report["verdict"]["reasons"][0]
    VALIDATOR.validate(outcome.report)


def test_a_forgotten_reset_is_placed_at_the_reset(stage: Stage) -> None:
    first = first_output(stage.compile(interpreter_target(faults={"late": True})))
    assert first["context"] == "0 steps after a reset"


def test_a_missing_number_does_not_hold(stage: Stage) -> None:
    outcome = stage.compile(interpreter_target(faults={"nan": True}))
    assert outcome.exit_code == 1
    VALIDATOR.validate(outcome.report)


def test_an_error_past_the_tolerance_does_not_hold(stage: Stage) -> None:
    outcome = stage.compile(interpreter_target(), quant="int16", tolerance=1e-9)
    assert outcome.exit_code == 1
    assert "of the output range" in outcome.report["verdict"]["reasons"][0]


def test_the_search_counts_only_when_strict(stage: Stage) -> None:
    stage.patch.setitem(SEARCH, PROGRAM, {"screens": 2, "generations": 8, "length": 60})
    loose = stage.compile(interpreter_target(), quant="int16")
    error, worst = (loose.report["error"][k] for k in ("max_range", "search"))
    limit = (error + worst["max_range"]) / 2
    if worst["max_range"] <= error:
        pytest.fail("the search finds nothing worse than random sequences do")
    assert stage.compile(interpreter_target(), quant="int16", tolerance=limit).exit_code == 0
    strict = stage.compile(interpreter_target(), quant="int16", tolerance=limit, verdict="all")
    assert strict.exit_code == 1
    assert "the search found" in strict.report["verdict"]["reasons"][0]


def test_a_missing_device_is_said_and_the_rest_is_verified(stage: Stage) -> None:
    outcome = stage.compile(interpreter_target(absent=("there",)))
    assert outcome.exit_code == 3
    assert [link["holds"] for link in outcome.report["links"]] == [True, False]
    assert outcome.report["verdict"]["not_run"] == ["there: there needs an abacus: buy one"]
    assert (stage.out / builds.REPORT).exists()
    VALIDATOR.validate(outcome.report)


def test_what_does_not_fit_the_core_is_kept_and_does_not_hold(stage: Stage) -> None:
    outcome = stage.compile(interpreter_target(flash=70_000))
    assert outcome.exit_code == 1
    assert outcome.report["verdict"]["reasons"] == ["needs 70,000 bytes of flash, interpreter has 65,536"]


def test_a_proof_that_does_not_close_leaves_a_report(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ProofFailed("neuron n3: no box")
    monkeypatch.setattr("ncpc.driver.pipeline.lower_for", fail)
    outcome = stage.compile(interpreter_target(), quant="int16")
    assert outcome.exit_code == 1
    assert outcome.report["verdict"]["reasons"] == ["neuron n3: no box"]
    assert sorted(p.name for p in stage.out.iterdir()) == ["policy.safetensors", "report.html", "report.json",
                                                           "request.json", "timing.json"]
    VALIDATOR.validate(outcome.report)


def test_verify_on_other_data(stage: Stage, tmp_path: Path) -> None:
    stage.compile(interpreter_target(), quant="int16")
    x = np.random.default_rng(0).uniform(-1.5, 1.5, (2, 80, 3))
    again = verify_build(stage.out, {"x": x})
    assert again.exit_code == 0, again.report["verdict"]
    given, generated = again.report["data"]
    assert (given["name"], given["purpose"], given["steps"], given["counts"]) == ("given sequences", "data", 160, True)
    assert "steps saturated" in given["words"]
    assert generated["name"] == "generated"
    VALIDATOR.validate(again.report)


def test_verify_takes_its_own_vectors(stage: Stage) -> None:
    stage.compile(interpreter_target(), quant="int16")
    again = verify_build(stage.out, stage.out / builds.VECTORS)
    assert again.exit_code == 0
    np.testing.assert_array_equal(np.load(stage.out / builds.VECTORS)["y"], again.verification.measured[0].trace.y)


def test_verify_notices_that_the_artifact_changed_and_does_not_run_it(stage: Stage) -> None:
    stage.compile(interpreter_target(), quant="int16")
    (stage.out / "artifact.json").write_text('{"bump": {"sigmoid_table": 250}}')
    again = verify_build(stage.out)
    assert again.exit_code == 1
    assert any("artifact.json is not the file" in r for r in again.report["verdict"]["reasons"])
    assert again.report["links"] == []


def test_irregular_dt_is_part_of_the_data(stage: Stage, tmp_path: Path) -> None:
    write_policy(random_policy(5, DtRange(0.1, 10.0, 1.0)), stage.policy)
    outcome = stage.compile(interpreter_target(), quant="int16")
    assert outcome.report["target"]["dt"] == "runtime"
    assert outcome.exit_code == 0, outcome.report["verdict"]
    dt = np.load(stage.out / builds.VECTORS)["dt"]
    assert dt.min() == pytest.approx(0.1)
    assert dt.max() == pytest.approx(10)
    assert stage.compile(interpreter_target(), dt="fixed").report["target"]["dt"] == "fixed"
    assert np.ptp(np.load(stage.out / builds.VECTORS)["dt"]) == 0


def test_an_earlier_build_is_replaced_and_nothing_else(stage: Stage, tmp_path: Path) -> None:
    stage.compile(interpreter_target())
    stage.compile(interpreter_target())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["build", "toy.safetensors"]


@pytest.fixture
def two_targets(stage: Stage) -> Stage:
    """A stage whose command line knows targets by any name, with a build of toy for one of them."""
    stage.patch.setattr(registry, "load", lambda name: interpreter_target(name=name))
    stage.patch.setattr("ncpc.cli.own_options.own_options", lambda: ())
    assert compiled(stage, "one") == 0
    return stage


def compiled(stage: Stage, target: str, *more: str, name: str = "toy", out: str = "") -> int:
    """Exit code of the command line for a policy of this name."""
    write_policy(dataclasses.replace(random_policy(4), name=name), stage.policy)
    return run(["compile", str(stage.policy), "-t", target, "--quant", "float32", "-o", str(stage.out / out), *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("name", "target"), [("toy", "two"), ("tool", "one"), ("tool", "two")])
def test_a_build_of_another_policy_or_target_is_replaced_by_force_alone(
    name: str, target: str, two_targets: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(two_targets.out)
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ncpc.driver.pipeline.make", lambda *_: pytest.fail("worked before it looked"))
        assert compiled(two_targets, target, name=name) == 2
    said = capsys.readouterr().err
    assert said == (f"ncpc: {two_targets.out}: holds a build of policy 'toy' for target 'one'; give another folder "
                    "with -o, or --force (force=True) to replace it\n")
    assert contents(two_targets.out) == before
    assert compiled(two_targets, target, "--force", name=name) == 0
    report = json.loads((two_targets.out / builds.REPORT).read_text())
    assert (report["policy"]["name"], report["target"]["name"]) == (name, target)
    assert sorted(path.name for path in two_targets.out.parent.iterdir()) == ["build", "toy.safetensors"]


def test_a_policy_trained_again_replaces_its_build_in_any_scheme(two_targets: Stage) -> None:
    write_policy(dataclasses.replace(random_policy(5), name="toy"), two_targets.policy)
    request = Request("one", "int16", steps=20)
    assert compile_policy(two_targets.policy, two_targets.out, request).report["policy"]["name"] == "toy"


def test_one_of_several_targets_that_would_replace_another_build_keeps_all_from_work(
    two_targets: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    two_targets.out.rename(two_targets.out.with_name("kept"))
    two_targets.out.mkdir()
    two_targets.out.with_name("kept").rename(two_targets.out / "two")
    assert compiled(two_targets, "three,two") == 2
    assert "build/two: holds a build of policy 'toy' for target 'one'" in capsys.readouterr().err
    assert [path.name for path in two_targets.out.iterdir()] == ["two"]
    assert compiled(two_targets, "three,two", "--force") == 0


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_nothing_is_built_inside_a_build(
    force: list[str], two_targets: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be a file too many there, and gone with the next compilation."""
    before = contents(two_targets.out)
    for target, out in (("one,two", ""), ("one", "deep/er")):
        assert compiled(two_targets, target, *force, out=out) == 2
        assert f"lies in {two_targets.out}, a build of policy 'toy' for target 'one'" in capsys.readouterr().err
    assert contents(two_targets.out) == before


@pytest.mark.parametrize("report", [b"", b"{}", b'{"policy": {"name": 5}, "target": {"name": "one"}}', b"[" * 10**5,
                                    b'{"policy": {"name": "a\\nb"}, "target": {"name": "one"}}'])
def test_a_report_that_names_no_build_is_replaced_by_force_alone(
    report: bytes, two_targets: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    (two_targets.out / builds.REPORT).write_bytes(report)
    assert compiled(two_targets, "one") == 2
    assert f"{two_targets.out}: holds a {builds.REPORT} that names no policy and target; " in capsys.readouterr().err
    assert (two_targets.out / builds.REPORT).read_bytes() == report
    assert compiled(two_targets, "one", "--force") == 0


def test_force_replaces_no_strangers_folder(two_targets: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    (two_targets.out / builds.REPORT).unlink()
    assert compiled(two_targets, "one", "--force") == 2
    assert "is not a build of ncpc" in capsys.readouterr().err


def test_python_refuses_and_forces_as_the_command_line_does(two_targets: Stage) -> None:
    with pytest.raises(BadInput, match=r"holds a build of policy 'toy' for target 'one'.*--force \(force=True\)"):
        ncpc.compile(two_targets.policy, two_targets.out, "two", quant="float32", steps=20)
    assert ncpc.compile(two_targets.policy, two_targets.out, "two", quant="float32", steps=20, force=True).holds


@pytest.mark.parametrize("steps", [0, -1, 10**6 + 1, 10**8])
def test_no_way_leads_to_more_steps_than_the_command_line_takes(steps: int, stage: Stage) -> None:
    """Nor to fewer than one; a request.json in a build is no way either (tests/test_tampering.py)."""
    stage.compile(interpreter_target(), steps=20)
    for work in (lambda: ncpc.compile(stage.policy, stage.out, "interpreter", quant="float32", steps=steps),
                 lambda: ncpc.verify(stage.out, steps=steps), lambda: simulate_build(stage.out, steps=steps)):
        with pytest.raises(BadInput, match=f"--steps {steps:,}: policy 'toy' takes 1 to 1,000,000 steps at a time"):
            work()


def test_wide_policies_take_fewer_steps_at_a_time() -> None:
    """All inputs and outputs of a run are in memory at once."""
    wide = Policy("wide", (Dense(np.zeros((1000, 3000)), np.zeros(1000)),), np.tile([-1.0, 1.0], (3000, 1)))
    require_steps(wide, 25_000)
    with pytest.raises(BadInput, match="takes 1 to 25,000 steps"):
        require_steps(wide, 25_001)


def test_several_targets_get_a_folder_each(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    stage.patch.setattr(registry, "load", lambda name: interpreter_target(name=name))
    stage.patch.setattr("ncpc.cli.own_options.own_options", lambda: ())
    code = run(["compile", str(stage.policy), "--target", "one,two", "-o", str(stage.out), "--quant", "float32"])
    assert code == 0
    assert sorted(p.name for p in stage.out.iterdir()) == ["one", "two"]
    printed = capsys.readouterr().out
    assert printed.count("holds") == 2
    assert "one and two: equal outputs on 900 steps; both run the same program bit for bit" in printed


def test_the_distance_between_targets_is_measured_and_explained(stage: Stage) -> None:
    exact = stage.compile(interpreter_target(name="exact"), quant="int16")
    stage.out = stage.out.with_name("other")
    faults = {"bump": {"sigmoid_table": 256}, "by": 400}
    bent = stage.compile(interpreter_target(name="bent", faults=faults), quant="int16")
    (record,) = between([exact, bent])
    y = [np.load(o.folder / builds.VECTORS)["y"] for o in (exact, bent)]
    rows, length = y[1].shape[:2]
    assert record["max_abs"] == np.abs(y[0][:rows, :length] - y[1]).max() > 0
    assert "exact has the int16 program" in record["why"]
    assert "bent has its own int16 arithmetic" in record["why"]
