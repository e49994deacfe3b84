"""With what a policy was compared when it was saved is said everywhere, where that is not the module's own forward."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import ncpc
from ncpc.errors import BadInput
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.inspect.policies import inspection, inspection_tables
from ncpc.ir.policy import COMPARED, DtRange, cautions
from ncpc.targets.base import CompileOptions
from tests.c_programs import header_of
from tests.nets import random_policy
from tests.test_verdict_data import compiled, printed, stage

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from tests.test_forward import Robot  # noqa: E402  (needs torch)

SAID = {"parts": "compared with its layers alone, one after the other", "nothing": "compared with nothing"}


def policy(compared: str | None) -> Any:
    return replace(random_policy(4), compared=compared)


def test_save_says_with_what_it_compared(tmp_path: Path) -> None:
    robot, options = Robot(), {"input_range": (-1, 1), "dt": 1.0}
    path = tmp_path / "p.safetensors"
    for model, like, compared in (
        (robot.cell, None, "forward"), ([robot.cell], None, "forward"), (robot.layers, None, "parts"),
        (robot.layers, robot, "forward"), (robot.layers, torch.nn.ModuleList(robot.layers), "parts"),
        (random_policy(4).layers[0], None, "nothing"),
    ):
        assert ncpc.save(model, path, like=like, **options).compared == compared
        assert read_policy(path).compared == compared


def test_older_bytes_stay_and_other_words_are_refused(tmp_path: Path) -> None:
    assert b"compared" not in policy_bytes(policy(None))
    path = tmp_path / "p.safetensors"
    path.write_bytes(policy_bytes(policy("forward")).replace(b"forward", b"hearsay"))
    with pytest.raises(BadInput, match="compared with 'hearsay'; known are forward, file, parts, nothing"):
        read_policy(path)


@pytest.mark.parametrize("compared", [*COMPARED, None])
def test_inspect_says_it(compared: str | None, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_policy(policy(compared), path)
    found = inspection(path)
    assert found["compared"] == compared
    console = Console(width=120, record=True)
    console.print(inspection_tables(found)[0])
    assert (COMPARED[compared] if compared else "not recorded") in console.export_text()


@pytest.mark.parametrize("compared", [*COMPARED, None])
def test_table_report_and_header_say_it(
    compared: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage(monkeypatch)
    outcome = compiled(policy(compared), tmp_path, quant="float32")
    page = (outcome.folder / "report.html").read_text()
    assert outcome.report["policy"]["compared"] == compared
    said = SAID.get(compared or "", "compared with")
    times = 2 if compared in SAID else 0  # a row, and a line of its own
    assert printed(outcome).count("compared with") == times
    assert (said in printed(outcome)) == (said in page) == bool(times)
    assert (f"NOTE: {said}" in header_of(policy(compared), CompileOptions(quant="float32"))) == bool(times)


def test_cautions_are_of_what_holds() -> None:
    assert [one.what for one in cautions(DtRange(assumed=True), "nothing")] == [
        "dt 1.0 (assumed, the library's default)", "compared with nothing"]
    assert cautions(DtRange(), "forward") == cautions(DtRange(), None) == ()
