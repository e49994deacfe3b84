"""The proof of the linked step as a part of every build: in the report, in the verdict, on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import ncpc
from ncpc.cli import commands as cli
from ncpc.driver import step_proof
from ncpc.driver.pipeline import Outcome
from ncpc.errors import BadInput
from ncpc.report.terminal import ROWS
from ncpc.targets.base import PROGRAM, Built
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.replay import differences
from ncpc.theorem import theorem
from ncpc.theorem.call import SAMPLES, given
from ncpc.theorem.equality import Budget
from ncpc.theorem.flash import Flash
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.theorem import ASSUMPTIONS
from ncpc.verification.verdict import SEARCH
from tests.conftest import RequireTool
from tests.theorem.builds import Linked, with_byte
from tests.theorem.test_theorem import CARTPOLE, cartpole

__all__ = ["cartpole"]
CORE = "cortex-m4"


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla", "unicorn"):
        require_tool(module)


@pytest.fixture(scope="module", autouse=True)
def _short_search() -> Iterator[None]:
    """The search for the worst input is not what is tested here."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})
        yield


def compiled(folder: Path, seconds: float = 10.0) -> Outcome:
    return ncpc.compile(CARTPOLE, folder, CORE, steps=50, prove=seconds)


@pytest.fixture(scope="module")
def proved(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    for module in ("ziglang", "elftools", "bitwuzla", "unicorn"):
        pytest.importorskip(module)
    return compiled(tmp_path_factory.mktemp("proved") / "build")


def test_a_build_for_a_core_is_proved_as_it_is_compiled(proved: Outcome) -> None:
    found = proved.report["theorem"]
    assert proved.holds
    assert found["answer"] == "proved"
    assert found["settled"]
    assert found["shown"] == found["outcomes"] > 0
    assert found["assumes"] == list(ASSUMPTIONS)
    assert found["instructions"]["least"] <= proved.report["instructions"]["max"] <= found["instructions"]["most"]
    assert proved.report["tools"]["bitwuzla"]
    page = (proved.folder / "report.html").read_text()
    assert "What the proof of the linked step assumes" in page
    assert all(text in page for text in ASSUMPTIONS)


def test_the_terminal_shows_the_proof_and_what_it_assumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compile", str(CARTPOLE), "-t", CORE, "-o", str(tmp_path / "build"), "--steps", "50"]) == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.strip().startswith("ELF = program"))
    assert row.split()[-1] == "proved"
    worst = next(line for line in said.splitlines() if line.strip().startswith("worst case, any input"))
    report = json.loads((tmp_path / "build" / "report.json").read_text())
    assert worst.split()[-2:] == [f"{report['cycles']['wcet']:,}", "cycles"]
    assert all(text in said for text in ASSUMPTIONS)
    assert "without wait states" in said


def test_where_instructions_alone_are_counted_the_worst_case_is_of_those(proved: Outcome) -> None:
    row = ROWS["worst case, any input"]
    found = {**proved.report["theorem"], "cycles": None, "instructions": {"least": 5, "most": 9100}}
    assert row({**proved.report, "cycles": None, "theorem": found}) == "≤ 9,100 instr."
    assert row({**proved.report, "theorem": None}) == "-"


def test_verify_proves_again(proved: Outcome) -> None:
    again = ncpc.verify(proved.folder)
    assert again.holds
    assert again.report["theorem"] == proved.report["theorem"]


def test_a_claim_of_more_than_is_proved_is_a_difference(proved: Outcome, tmp_path: Path) -> None:
    copy = copied(proved.folder, tmp_path)
    report = json.loads((copy / "report.json").read_text())
    report["theorem"]["instructions"]["most"] -= 1
    (copy / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    again = ncpc.verify(copy)
    assert again.exit_code == 1
    assert any("report.json" in reason for reason in again.report["verdict"]["reasons"])


def copied(folder: Path, to: Path) -> Path:
    copy = to / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def test_what_is_off_is_off_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "build"
    asked = ["compile", str(CARTPOLE), "-t", CORE, "-o", str(folder), "--steps", "50", "--prove", "off"]
    assert cli.run(asked) == 0
    said = capsys.readouterr().out
    assert "ELF = program" not in said
    assert "prove off" in said
    assert json.loads((folder / "report.json").read_text())["theorem"] is None
    assert ncpc.verify(folder).report["theorem"] is None


@pytest.mark.parametrize("time", ["0", "-1", "nan", "inf", "soon"])
def test_what_is_no_time_is_refused(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compile", str(CARTPOLE), "-t", CORE, "--prove", time]) == 2
    assert "--prove" in capsys.readouterr().err
    with pytest.raises(BadInput, match="--prove"):
        ncpc.compile(CARTPOLE, "never", CORE, prove=-1.0)


def test_what_takes_too_long_fails_no_build_and_another_time_it_may_be_proved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = compiled(tmp_path / "build", 0.001)
    assert built.holds
    assert built.report["theorem"]["answer"] == "undecided"
    assert not built.report["theorem"]["settled"]
    assert ncpc.verify(built.folder).holds
    monkeypatch.setattr(Budget, "check", lambda budget: None)  # a machine that is fast enough
    again = ncpc.verify(built.folder)
    assert again.report["theorem"]["answer"] == "proved"
    assert again.holds, again.report["verdict"]["reasons"]
    assert any("the proof of the step" in line for line in again.report["verdict"]["not_run"])


def test_without_the_solver_nothing_is_proved_and_the_build_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_proof, "solver_is_here", lambda: False)
    built = compiled(tmp_path / "build")
    assert built.holds
    assert built.report["theorem"]["why"] == "not proved: bitwuzla is not installed: pip install 'ncpc[proofs]'"
    assert "bitwuzla" not in built.report["tools"]


def test_terms_that_are_nested_too_deeply_fail_no_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr(theorem, "_step_proved", nested)
    built = compiled(tmp_path / "build")
    assert built.holds
    assert built.report["theorem"]["answer"] == "undecided"
    assert "nested" in built.report["theorem"]["why"]


def test_no_core_has_no_linked_step_to_prove(tmp_path: Path) -> None:
    assert ncpc.compile(CARTPOLE, tmp_path / "build", "host", steps=20).report["theorem"] is None


def test_a_difference_speaks_against_the_build_with_what_the_simulator_makes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of the ELF is changed behind the linker: one of few entries, which most steps do not read."""
    build = CArtifact.build

    def changed(artifact: CArtifact, folder: Path) -> Built:
        built = build(artifact, folder)
        elf = folder / artifact.named("elf")
        elf.write_bytes(with_byte(elf.read_bytes(), "sigmoid_table", 2 * 256, 1))
        return built

    monkeypatch.setattr(CArtifact, "build", changed)
    found = compiled(tmp_path / "build", 120.0)
    assert found.exit_code == 1
    assert found.report["theorem"]["answer"] == "differs"
    witness = found.report["theorem"]["counterexample"]
    assert f"is {witness['core']}, in the Program {witness['program']}" in witness["simulator"]
    assert any(witness["simulator"] in reason for reason in found.report["verdict"]["reasons"])


def test_a_step_is_replayed_as_the_program_has_it_and_what_is_planted_shows(cartpole: Linked) -> None:
    build = cartpole.build
    drawn = given(BitTerms(SAMPLES, Flash(())), build.program, 3).raw
    calls = [{name: numbers[k] for name, numbers in drawn.items()} for k in range(0, 40, 4)]
    changed = cartpole.with_byte("sigmoid_table", 2 * 256, 64)
    found = [[differences(elf, build.core, build.artifact.face, raw) for raw in calls] for elf in (build.elf, changed)]
    assert found[0] == [[]] * len(calls)
    assert any("state[" in phrase and "in the Program" in phrase for one in found[1] for phrase in one)
