"""A dt that nobody said is said everywhere: where it is, a network trained with others computes something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.inspect.policies import inspection, inspection_tables
from ncpc.ir.policy import Dense, DtRange, Policy
from ncpc.passes.lower import reads_dt
from ncpc.targets.base import CompileOptions
from tests.c_programs import header_of
from tests.nets import random_policy
from tests.test_verdict_data import compiled, printed, stage

SAID = "dt 1.0 (assumed, the library's default)"


def assumed() -> Policy:
    return random_policy(4, DtRange(assumed=True))


def test_the_container_keeps_it_and_older_bytes_stay(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_policy(assumed(), path)
    assert read_policy(path).dt.assumed
    assert b"assumed" not in policy_bytes(random_policy(4))


def test_what_reads_dt() -> None:
    assert reads_dt(random_policy(4))
    assert not reads_dt(Policy("d", (Dense(np.eye(2), np.zeros(2)),), np.tile([-1.0, 1.0], (2, 1))))


def test_inspect_says_it(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    write_policy(assumed(), path)
    found = inspection(path)
    assert found["dt"] == {"lo": 1.0, "hi": 1.0, "nominal": 1.0, "assumed": True}
    console = Console(width=120, record=True)
    console.print(inspection_tables(found)[0])
    assert SAID.removeprefix("dt ") in console.export_text()


def test_the_table_and_the_report_say_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch)
    outcome = compiled(assumed(), tmp_path, quant="float32")
    assert outcome.report["policy"]["dt"]["assumed"]
    assert printed(outcome).count("(assumed, the library's default)") == 2
    assert SAID.replace("'", "&#39;") in (outcome.folder / "report.html").read_text()
    other = compiled(random_policy(4), tmp_path / "other", quant="float32")
    assert "assumed" not in printed(other)
    assert "assumed, the" not in (other.folder / "report.html").read_text()


FLOAT = CompileOptions(quant="float32")


def test_the_header_says_it() -> None:
    assert SAID in header_of(assumed(), FLOAT)
    assert "assumed" not in header_of(random_policy(4), FLOAT)
