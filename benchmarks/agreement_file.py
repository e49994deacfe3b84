"""The committed figures of benchmarks/agreement.py, for whoever only reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULT = Path(__file__).with_name("agreement.json")
Row = dict[str, Any]


def read() -> list[Row]:
    """The rows, none where there is no file."""
    rows: list[Row] = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    return rows
