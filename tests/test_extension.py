"""What CONTRIBUTING says is enough to extend ncpc is enough: done in a copy of the sources, nothing else changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ncpc.cores import core_names
from ncpc.targets.base import Artifact
from tests.conftest import RequireTool

ROOT = Path(__file__).parent.parent


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's sources, to be changed."""
    for top in ("ncpc", "targets", "quant"):
        shutil.copytree(ROOT / top, tmp_path / "copy" / top, symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def command(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The copy's command, run."""
    code = "import sys; from ncpc.__main__ import main; sys.argv[0] = 'ncpc'; main()"
    return subprocess.run([sys.executable, "-c", code, *words], cwd=copy, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"})


def ncpc(copy: Path, *words: str) -> str:
    """What the copy's command prints; it has to succeed."""
    done = command(copy, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_core_is_one_file(copy: Path, require_tool: RequireTool) -> None:
    """An Armv6-M core, which cannot count zeros nor multiply to 64 bits: its code needs other instructions, no
    function of a compiler's library, and gives the numbers of the Program bit for bit.
    """
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    text = (copy / "ncpc" / "cores" / "cortex-m4.toml").read_text()
    changes = {"cortex-m4": "cortex-m1", "Cortex-M4": "Cortex-M1", "cortex_m4+strict_align": "cortex_m1",
               'timing_class = "bounds"': 'timing_class = "count"', '"cortex_m4"': '"count"',
               'emulator_cpu = "cortex-m1"': 'emulator_cpu = "cortex-m0"'}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    assert "cortex-m1" not in core_names()
    (copy / "ncpc" / "cores" / "cortex-m1.toml").write_text(text.partition("[estimate")[0])
    policy = str(ROOT / "examples" / "cartpole" / "policy.safetensors")
    report = json.loads(ncpc(copy, "compile", policy, "-t", "cortex-m1", "-o", "build", "--steps", "300", "--json"))
    assert report["verdict"]["holds"]
    assert [link["holds"] for link in report["links"] if link["kind"] == "bitwise"] == [True, True]
    assert "cortex-m1" in ncpc(copy, "targets")


def test_a_target_is_a_package_and_a_line(copy: Path) -> None:
    """A file of constants; what it becomes is compiled, verified, and a changed number in it noticed."""
    (copy / "targets" / "constants").mkdir()
    shutil.copy(ROOT / "tests" / "minimal_target.py", copy / "targets" / "constants" / "__init__.py")
    registry = copy / "targets" / "registry.py"
    line = '    "nir-graded": "ncpc.targets.nir_graded",\n'
    assert registry.read_text().count(line) == 1
    registry.write_text(registry.read_text().replace(line, line + '    "constants": "ncpc.targets.constants",\n'))
    policy = str(ROOT / "examples" / "cartpole" / "policy.safetensors")
    report = json.loads(ncpc(copy, "compile", policy, "-t", "constants", "-o", "build", "--steps", "300", "--json"))
    assert report["verdict"]["holds"]
    assert [(link["runtime"], link["holds"]) for link in report["links"]] == [("numpy", True)] * len(report["links"])
    assert "constants" in ncpc(copy, "targets")
    assert "holds" in ncpc(copy, "verify", "build")
    assert [name for name in vars(Artifact) if not name.startswith("_")] == [
        "files", "links", "model", "build", "run", "open"]
    file = copy / "build" / "cartpole.npz"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    refused = command(copy, "verify", "build")
    assert refused.returncode == 1, refused.stdout + refused.stderr
    assert file.name in refused.stdout + refused.stderr
