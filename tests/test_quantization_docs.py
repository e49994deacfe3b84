"""The training that docs/quantization.md shows runs as written, and its table is the committed one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("brevitas")
pytest.importorskip("ncps")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "quantization.md").read_text()


@pytest.mark.slow
def test_the_training_runs_as_written(tmp_path: Path) -> None:
    prepared, own = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[:2]
    check = 'print(policy.outputs, type(plain).__name__, loss.item() > 0)'
    (tmp_path / "train.py").write_text(prepared + own + check)
    done = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.strip().splitlines()
    start, best = map(float, first.split())
    assert best <= start
    assert last == "1 CfC True"
    assert {"policy.safetensors", "tuning.pt"} <= {path.name for path in tmp_path.iterdir()}


def test_the_table_is_the_committed_one() -> None:
    rows = json.loads((ROOT / "benchmarks" / "qat_cells.json").read_text())["rows"]
    told = {tuple(cell.strip() for cell in line.strip("│ \n").split("│")) for line in PAGE.splitlines() if "│" in line}
    assert rows
    for row in rows:
        numbers = [f"{row[kind][which]:.2%}" for kind in ("rounded", "fine_tuned")
                   for which in ("max_over_range", "rms_over_range")]
        assert (row["cell"], row["scheme"], *numbers) in told
