"""``ncpc tune``: what it tries, what it measures, what it chooses, and that the build is what the table says."""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.api import tune
from ncpc.cli.commands import run
from ncpc.driver.job import Request, job_for
from ncpc.errors import BadInput, MissingTool, ProofFailed
from ncpc.frontend.container import read_policy, write_policy
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.system.places import alone
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, Artifact, CompileOptions, Lowered, Target
from ncpc.tuning import tune as recipe
from ncpc.tuning.budgets import parse_budgets
from ncpc.tuning.choice import Demands, MeasuredPoint, choose, front, nearest, what_stops
from ncpc.tuning.knobs import Space, Task, changed, pruned, request_of, stepped, steps
from ncpc.tuning.pruning import rounded_to_zero, unmissed
from ncpc.verification.verdict import SEARCH
from tests.conftest import RequireTool
from tests.interpreter import interpreter_target
from tests.nets import random_policy

OUT = Path("build")


def small(**layer: Any) -> Policy:
    data = Sequences(np.random.default_rng(0).uniform(-1, 1, (5, 12, 3)))
    return dataclasses.replace(random_policy(4, neurons=5, **layer), calibration=data)


def scales() -> Target:
    """The interpreter, whose flash is what its constants take; it holds no int16."""
    plain = interpreter_target()

    def prepare(lowered: Lowered, options: CompileOptions) -> Artifact:
        if lowered.scheme == "int16":
            raise ProofFailed("the beads do not fit")
        held = lowered.program.constants.values()
        size = sum(data.size * (value.type.bits if isinstance(value.type, Fixed) else 32) // 8 for value, data in held)
        return dataclasses.replace(plain.prepare(lowered, options), flash=size)  # type: ignore[type-var]

    return dataclasses.replace(plain, prepare=prepare)


def prepared(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Work in ``folder``, where the only target is ``scales``; the sampler learns after a few points."""
    patch.setattr("ncpc.driver.job.MIN_STEPS", 300)
    patch.setattr("ncpc.tuning.study.RANDOM", 4)
    patch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})
    patch.setattr(registry, "load", lambda name: scales())
    patch.setattr(registry, "names", lambda: ("interpreter",))
    patch.chdir(folder)


COMMAND = ("tune", "policy.safetensors", "-t", "interpreter", "--steps", "100")
STUDY = (*COMMAND, "--tolerance", "2.5%", "--trials", "8", "--seed", "3")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> tuple[Path, int, str]:
    """A folder with a policy and its study, the exit code, and what was printed."""
    require_tool("optuna")
    folder, shown = tmp_path_factory.mktemp("studied"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(shown):
        prepared(patch, folder)
        write_policy(small(), "policy.safetensors")
        code = run(list(STUDY))
    return folder, code, shown.getvalue()


@pytest.fixture
def place(studied: tuple[Path, int, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder to work in."""
    folder = tmp_path / "place"
    shutil.copytree(studied[0], folder)
    prepared(monkeypatch, folder)
    return folder


def record() -> Any:
    return json.loads((OUT / "tune.json").read_text())


def test_the_chosen_build_is_what_the_table_says_and_the_command_makes_it_again(
    studied: tuple[Path, int, str], place: Path,
) -> None:
    found, (_, code, text) = record(), studied
    assert code == 0
    assert [row["error"] is None for row in found["points"]] == [row["point"]["quant"] == "int16"
                                                                 for row in found["points"]]
    assert "the beads do not fit" in text
    tables = [line for line in text[: text.index("came to nothing")].splitlines()[:-1] if line[:1] not in "✓✗"]
    assert max(map(len, tables)) <= 80
    chosen, measured = found["chosen"], [row for row in found["points"] if row["point"] == found["chosen"]["point"]]
    assert measured == [chosen]
    able = [row["costs"]["flash"] * row["costs"]["cycles"] for row in found["points"] if row["meets"]]
    assert chosen["costs"]["flash"] * chosen["costs"]["cycles"] == min(able)
    report = json.loads((OUT / "chosen" / "report.json").read_text())
    assert report["memory"]["flash_bytes"] == chosen["costs"]["flash"]
    assert report["cycles"]["upper"]["max"] == chosen["costs"]["cycles"]
    assert report["verdict"]["holds"]
    assert report["error"]["max_range"] == chosen["own"]
    assert run(shlex.split(found["command"].replace("-o build/chosen", "-o again"))[1:]) == 0
    names = {path.name for path in (OUT / "chosen").iterdir()} - {"timing.json"}
    assert {n for n in names if (OUT / "chosen" / n).read_bytes() != (place / "again" / n).read_bytes()} == set()
    assert (OUT / "tune.svg").read_text().count("<circle") > len(found["front"])


def test_the_error_is_that_from_the_original_policy(place: Path) -> None:
    found = record()
    rows = [row for row in found["points"] if row["point"]["step"] != "trained" and row["point"]["quant"] == "float32"]
    assert rows
    assert all(row["error"] > 10 * row["own"] for row in rows)
    tried = {one["value"]: one for one in found["sensitivity"]["changes"]}
    assert {one["value"] for one in tried.values() if one["knob"] == "step" and one["tried"]} == (
        set(found["space"]["step"]) - {"trained"})
    assert all(one["tried"] == (one["error"] is not None and one["error"] <= 0.025) for one in tried.values())
    assert any(one["error"] is None and "unstable" in one["why"] for one in tried.values())
    costs = found["sensitivity"]["roundings"]["int8"]
    assert 0 < costs["values"][0]["error"] < 2 * costs["all"]


def test_a_budget_that_nothing_meets_is_told_and_nothing_is_built(
    place: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    assert (OUT / "chosen" / "report.json").exists()
    assert run([*STUDY, "--budget", "flash=100"]) == 1
    found = record()
    assert found["chosen"] is None
    assert found["command"] is None
    least = min(row["costs"]["flash"] for row in found["points"] if row["error"] is not None and row["error"] <= 0.025)
    assert found["nearest"]["costs"]["flash"] == least
    assert f"flash {least:,}, {least / 100:.3g} times the 100 that is asked for" in capsys.readouterr().out
    assert not (OUT / "chosen").exists()
    assert not (OUT / "tuned.safetensors").exists()


def stopping(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C while the point after so many is measured."""
    real, count = recipe.measured_point, 0

    def measured(*arguments: Any) -> MeasuredPoint:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(recipe, "measured_point", measured)


def test_a_study_that_was_interrupted_ends_as_one_that_ran_through(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    whole = record()
    assert whole["combinations"] > len(whole["points"]) == 8
    assert len({tuple(row["point"].values()) for row in whole["points"]}) == 8
    OUT.rename("through")
    with monkeypatch.context() as patched:
        stopping(patched, after=6)
        assert run(list(STUDY)) == 130
    assert "kept, and the same command goes on" in capsys.readouterr().err
    assert run(list(STUDY)) == 0
    assert record() == whole
    for name in ("tune.svg", "chosen/report.json"):
        assert (OUT / name).read_bytes() == Path("through", name).read_bytes()


def test_a_study_of_something_else_is_refused_by_name(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, words in ((("--seed", "2"), "seed 3, not 2"), (("--tolerance", "1%"), "tolerance 0.025, not 0.01")):
        assert run([*STUDY, *change]) == 2
        assert words in capsys.readouterr().err
    write_policy(dataclasses.replace(small(), name="other"), "policy.safetensors")
    assert run(list(STUDY)) == 2
    assert "policy net, not other" in capsys.readouterr().err
    write_policy(small(unfolds=5), "policy.safetensors")
    assert run(list(STUDY)) == 2
    assert "another policy 'net'" in capsys.readouterr().err
    (OUT / "study.log").write_text("no study\n")
    assert run(list(STUDY)) == 2
    assert "no study that can be gone on with" in capsys.readouterr().err


def test_a_study_that_is_there_is_gone_on_with(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = record()
    assert run([*STUDY, "--trials", "9", "--timeout", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == record() == before
    found = tune("policy.safetensors", OUT, "interpreter", tolerance=0.025, trials=8, seed=3, steps=100,
                 budget={"flash": 8192})
    assert found.exit_code == 0
    assert found.record["points"] == before["points"]
    with alone(OUT):
        assert run(list(STUDY)) == 2
    assert "another ncpc tunes in it" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "words"), [
    (("--budget", "spikes=3"), "'spikes' is no cost"), (("--budget", "flash=much"), "a positive number"),
    (("--budget", "flash=1k,flash=2k"), "each cost once"), (("--budget", "bytes=3"), "no bytes can be measured"),
    (("--tolerance", "-1%"), "no positive share"), (("--tolerance", "none"), "no positive share"),
    (("--trials", "0"), "--trials"), (("--beads", "6"), "6"),
])
def test_what_cannot_be_used_is_one_line(
    more: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], require_tool: RequireTool,
) -> None:
    require_tool("optuna")
    prepared(monkeypatch, tmp_path)
    write_policy(small(), "policy.safetensors")
    assert run([*COMMAND, "--tolerance", "1%", *more]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1
    assert not OUT.exists()


def test_without_optuna_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], good: Path,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run(["tune", str(good), "--tolerance", "1%", "-o", str(tmp_path / "out")]) == 3
    assert "pip install 'ncpc[tune]'" in capsys.readouterr().err
    with pytest.raises(MissingTool, match="optuna"):
        tune(good, tmp_path / "out", tolerance=0.01)


def test_budgets_are_read_in_the_units_of_what_they_limit() -> None:
    assert parse_budgets("flash=8k, cycles=12k,ram=1.5k") == {"flash": 8192, "cycles": 12_000, "ram": 1536}
    assert parse_budgets("") == {}
    with pytest.raises(BadInput, match="as flash=8k"):
        parse_budgets("rom=1")


def point(name: str, flash: int, error: float | None, reasons: tuple[str, ...] = ()) -> MeasuredPoint:
    return MeasuredPoint({"quant": name}, {"flash": flash}, error, error, reasons)


def test_the_choice_is_the_least_of_those_that_meet_everything() -> None:
    rows = [point("a", 300, 0.001), point("b", 200, 0.004), point("c", 100, 0.02), point("d", 250, 0.004),
            point("e", 50, 0.001, ("a link does not hold",)), point("f", 0, None, ("no format holds",))]
    assert [row.point["quant"] for row in front(rows, ["flash"])] == ["c", "b", "a"]
    best = choose(rows, ["flash"], Demands(0.005, {"flash": 280}))
    assert best is not None
    assert best.point["quant"] == "b"
    assert choose(rows, ["flash"], Demands(0.005, {"flash": 150})) is None
    close = nearest(rows[:4], Demands(0.005, {"flash": 150}))
    assert close is not None
    assert close.point["quant"] == "b"
    assert what_stops(close, Demands(0.005, {"flash": 150})) == ["flash 200, 1.33 times the 150 that is asked for"]


def test_steps_evaluate_no_more_than_the_trained_one() -> None:
    found = steps(small(unfolds=4))
    assert found[:3] == ["fused:3", "fused:2", "fused:1"]
    assert {"rk4:1", "heun:2", "exponential:4"} <= set(found)
    assert not {"rk4:2", "heun:3", "fused:4"} & set(found)
    layer: Any = stepped(small(unfolds=4), "rk4:1").layers[0]
    assert (layer.solver, layer.unfolds) == ("rk4", 1)


def test_a_changed_policy_says_so_and_claims_no_comparison() -> None:
    policy = dataclasses.replace(small(), compared="forward")
    space = Space({}, {"0.1": [[0, 2]], "zeros@int8": [[2, 4]]})
    plain = {"quant": "int8", "step": "trained", "prune": "none"}
    assert changed(policy, space, plain) is policy
    found = changed(policy, space, {**plain, "prune": "0.1"})
    assert found.compared is None
    assert found.provenance["tuned"] == {"step": "trained", "synapses_left_out": 3}
    assert changed(policy, space, {**plain, "prune": "zeros"}).provenance["tuned"] != found.provenance["tuned"]


def test_a_point_asks_for_nothing_that_a_command_could_not_ask_for() -> None:
    for target, quant, own, wanted in (
        ("nir", "thresholds", {"levels": "uniform"}, (None, {"levels": "uniform"})),
        ("nir", "thresholds", {"levels": "placed"}, (None, {})),
        ("onnx", "int8", {"form": "dense"}, ("int8", {"form": "dense"})),
    ):
        task = Task(Path("policy"), None, job_for(small(), Request(target)))
        asked = request_of(task, {"quant": quant, "step": "trained", "prune": "none", **own})
        assert (asked.quant, asked.extra) == wanted


def test_synapses_that_round_to_zero_and_that_nobody_misses() -> None:
    policy = small()
    layer: Any = policy.layers[0]
    w = layer.recurrent.w.copy()
    w[[1, 3]] = w.max() / 1000, w.max() / 100_000
    faint = dataclasses.replace(layer, recurrent=dataclasses.replace(layer.recurrent, w=w))
    first = len(layer.sensory)
    found = dataclasses.replace(policy, layers=(faint,))
    assert rounded_to_zero(found, SCHEMES["int8"]) == [[first + 1, first + 3]]
    assert rounded_to_zero(found, SCHEMES["int16"]) == [[first + 3]]
    assert rounded_to_zero(found, SCHEMES["float32"]) == [[]]
    costs = np.full(len(w) + first, 1.0)
    costs[[2, 5, 7]] = 0.0001, 0.002, 0.004

    def cost(out: list[list[int]]) -> float:
        return float(costs[out[0]].sum())

    assert unmissed(found, cost, cost, 0.01) == {"0.1": [[2]], "0.25": [[2, 5]]}
    left: Any = pruned(found, [[0, first + 1]]).layers[0]
    assert np.array_equal(left.sensory.w, layer.sensory.w[1:])
    assert np.array_equal(left.recurrent.w, np.delete(w, 1))


@pytest.mark.slow
def test_on_a_core_the_table_is_what_the_build_measures(tmp_path: Path, require_tool: RequireTool) -> None:
    for module in ("optuna", "ziglang", "unicorn", "capstone"):
        require_tool(module)
    write_policy(small(), tmp_path / "policy.safetensors")
    request = Request("cortex-m4", steps=50)
    found = recipe.tune_policy(tmp_path / "policy.safetensors", tmp_path / "out", request,
                               Demands(0.01, {"flash": 8192, "cycles": 12_000}), recipe.Search(trials=3))
    assert found.exit_code == 0
    rows = [row for row in found.record["points"] if row["point"] == found.record["chosen"]["point"]]
    assert rows == [found.record["chosen"]]
    assert len({row["costs"]["flash"] for row in found.record["points"]}) == 3
    policy = found.record["policy_file"]
    assert policy is None or read_policy(tmp_path / "out" / policy).name == "net"
