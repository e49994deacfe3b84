"""docs/modules.md works as written: from a module and a checkpoint to C."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("ncps")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "modules.md"


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return [text for told, text in found if told == language]


def run(folder: Path, *command: str) -> str:
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_page_runs_as_written(tmp_path: Path) -> None:
    train, save, declared = blocks("python")
    (tmp_path / "train.py").write_text(train + save + declared)
    run(tmp_path, "train.py")
    (tmp_path / "robot.py").write_text(train.partition("\n\ntorch.manual_seed")[0])
    saved = (tmp_path / "robot.safetensors").read_bytes()
    commands = next(block for block in blocks("") if "ncpc import" in block).splitlines()
    assert [line.split()[:2] for line in commands] == [["ncpc", "import"], ["ncpc", "inspect"], ["ncpc", "compile"]]
    for line in commands:
        run(tmp_path, "-m", *line.split(), *(["--steps", "200"] if "compile" in line else []))
    assert (tmp_path / "robot.safetensors").read_bytes() != saved, "both outputs are in it"
    (at_once,) = next(block for block in blocks("") if "ncpc compile robot:" in block).splitlines()
    run(tmp_path, "-m", *at_once.split(), "--steps", "200")
    assert {"RobotPolicy.c", "RobotPolicy.h", "policy.safetensors"} <= {p.name for p in (tmp_path / "both").iterdir()}
    assert {"robot.c", "robot.h", "report.html"} <= {path.name for path in (tmp_path / "build").iterdir()}
