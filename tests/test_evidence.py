"""The committed run of the device against the semantics found no mismatch; a sample of other builds finds none."""

from __future__ import annotations

import json

import pytest

from benchmarks import evidence
from tests.conftest import RequireTool

RECORD = json.loads(evidence.RESULT.read_text())


def test_the_committed_run_found_no_mismatch() -> None:
    rows = RECORD["builds"]
    assert RECORD["summary"] == evidence.summary(rows)
    assert all(row[1:3] == [0, 0] for row in rows.values())
    assert all(row[0] > 0 or row[3] for row in rows.values())


def test_all_trained_policies_ran() -> None:
    assert RECORD["summary"]["trained"]["policies"] == len(evidence.TRAINED)
    assert {key.split(" ")[3] for key in RECORD["builds"]} == set(evidence.CORES)


@pytest.mark.parametrize(("scheme", "core"), [("int8", "cortex-m4"), ("float32", "rv32imc-ibex")])
def test_another_build_gives_none(scheme: evidence.Scheme, core: str, require_tool: RequireTool) -> None:
    """Of a seed beyond those of the committed run."""
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    found = evidence.measure(evidence.Build("random", str(evidence.RANDOM + 1), scheme, core), 2_000)
    assert (found.host, found.device, found.refused) == (0, 0, "")
    assert found.steps > 2_000
