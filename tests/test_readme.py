"""The README's Python runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import RequireTool

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path, require_tool: RequireTool) -> None:
    for module in ("torch", "ncps", "ziglang"):
        require_tool(module)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    code = "\n".join([*blocks, "policy.reset()", "assert y.shape == (2,)"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "policy.safetensors").exists()
    assert (tmp_path / "build" / "report.html").exists()


def test_the_readme_points_at_files_that_exist() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
