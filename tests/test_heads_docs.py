"""What docs/heads.md says of the benchmark is what the benchmark's file holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks import head_errors, heads
from ncpc.ir.schemes import SCHEMES

PAGE = Path(__file__).parents[1] / "docs" / "heads.md"


def test_the_table_holds_the_measured_figures() -> None:
    rows = json.loads(heads.RESULT.read_text())["rows"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()
             if line.startswith(("| driving |", "| driving-small |", "| pilot |"))]
    told = {(row[0], row[2]): row[3:] for row in cells}
    assert told == {
        (r["network"], r["scheme"]): [
            f"{r['products']:,}", f"{r['cycles_per_product']:.2f}", f"{r['cycles']:,}",
            f"{r['working_bytes_unstreamed']:,} B", f"{r['working_bytes']:,} B", f"{r['flash_bytes']:,} B"]
        for r in rows
    }


def test_errors_are_those_that_were_measured() -> None:
    rows = json.loads(head_errors.RESULT.read_text())["rows"]
    assert head_errors.table(rows) in PAGE.read_text()
    assert [(row["network"], row["kind"]) for row in rows] == head_errors.NETWORKS
    for row in rows:
        assert row["int16"]["whole"] <= SCHEMES["int16"].tolerance, row
        assert row["int8"]["whole"] - row["int8"]["output"] <= SCHEMES["int8"].tolerance / 2, row


@pytest.mark.parametrize(("network", "kind"), [("Conv1d, NCP", "weak"), ("Conv2d, MaxPool2d, NCP", "strong")])
def test_errors_stay_where_they_are(network: str, kind: str) -> None:
    (row,) = [r for r in json.loads(head_errors.RESULT.read_text())["rows"]
              if (r["network"], r["kind"]) == (network, kind)]
    assert head_errors.measure(network, kind) == row


def test_networks_are_those_that_were_measured() -> None:
    rows = {(r["network"], r["scheme"]): r for r in json.loads(heads.RESULT.read_text())["rows"]}
    assert set(rows) == {(name, scheme) for name, scheme, _ in heads.RUNS}
    (core,) = {row["core"] for row in rows.values()}
    assert core == heads.CORE
    for name in ("driving-small", "pilot"):
        face, row = heads.interface_of(heads.integers(heads.network(name), "int8")), rows[name, "int8"]
        assert (face.arena_bytes(), face.struct_bytes()) == (row["working_bytes"], row["instance_bytes"])


@pytest.mark.slow
@pytest.mark.parametrize(("network", "scheme", "chip"), heads.RUNS)
def test_figures_stay_where_they_are(network: str, scheme: str, chip: str) -> None:
    """Memory exactly; cycles as far as the head decides them, which is nearly all."""
    found = heads.measure(network, scheme, chip)
    (row,) = [r for r in json.loads(heads.RESULT.read_text())["rows"]
              if (r["network"], r["scheme"]) == (network, scheme)]
    same = ("products", "working_bytes", "working_bytes_unstreamed", "input_bytes")
    assert {key: found[key] for key in same} == {key: row[key] for key in same}
    assert abs(found["cycles_per_product"] / row["cycles_per_product"] - 1) <= 0.02
