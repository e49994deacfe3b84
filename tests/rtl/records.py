"""What was compared with the cores' RTL, as committed beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.rtl.bench import CORES, verilator_version

POLICIES, FUZZ = (Path(__file__).with_name(f"{name}.json") for name in ("policies", "fuzz"))


def load(path: Path) -> dict[str, Any]:
    """By core, what ``store`` wrote; nothing where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else {}


def store(path: Path, core: str, facts: Mapping[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> None:
    """Replace the record of ``core``: what it was compared with, ``facts``, and a line for each of ``rows``."""
    found = load(path)
    against = {"rtl": CORES[core].title, "revision": CORES[core].version, "verilator": verilator_version()}
    found[core] = {**against, **facts, **({"rows": list(rows)} if rows else {})}
    texts = (f'"{name}": {_text(record)}' for name, record in sorted(found.items()))
    path.write_text("{\n" + ",\n".join(texts) + "\n}\n")


def _text(record: Mapping[str, Any]) -> str:
    entries = [f' "{key}": {json.dumps(value)}' for key, value in record.items() if key != "rows"]
    rows = ",\n".join(f"  {json.dumps(row)}" for row in record.get("rows", ()))
    return "{\n" + ",\n".join([*entries, *([f' "rows": [\n{rows}]'] if rows else [])]) + "}"
