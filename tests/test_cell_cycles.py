"""The committed cycles of cells: a row measured again, no product too many, and the documents' table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RequireTool

ROOT = Path(__file__).parent.parent
ROWS: list[dict[str, Any]] = json.loads((ROOT / "benchmarks/cell_cycles.json").read_text())["rows"]


@pytest.mark.parametrize(("cell", "core"), [("rnn", "cortex-m4"), ("gru", "rv32imc-ibex")])
def test_a_row_measured_again_is_the_same(cell: str, core: str, require_tool: RequireTool) -> None:
    for module in ("torch", "ncps", "ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    from benchmarks.cell_cycles import cells, measure

    assert measure(cell, *cells()[cell], core) in ROWS


def test_no_cell_forms_more_products_than_its_equations_ask() -> None:
    assert {row["cell"] for row in ROWS} >= {"lstm", "gru", "rnn", "cfc"}
    assert all(row["formed"] <= row["asked"] for row in ROWS)


def test_the_documents_table_is_the_files() -> None:
    text = (ROOT / "docs/targets/c.md").read_text()
    rows = text.split("<!-- table: cell_cycles -->")[1].split("\n\n")[0].strip().splitlines()[2:]
    by_cell: dict[str, dict[str, dict[str, Any]]] = {}
    for row in ROWS:
        by_cell.setdefault(row["cell"], {})[row["core"]] = row
    assert len(rows) == len(by_cell)
    for line in rows:
        cell, *numbers = (part.strip() for part in line.strip("|").split("|"))
        m4, ibex = by_cell[cell]["cortex-m4"], by_cell[cell]["rv32imc-ibex"]
        assert [int(n.replace(",", "")) for n in numbers] == [
            m4["formed"], m4["cycles"], ibex["cycles"], m4["flash_bytes"], m4["ram_bytes"] + m4["stack_bytes"]]
