"""The training that docs/quantization.md shows runs as written."""

from __future__ import annotations

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
