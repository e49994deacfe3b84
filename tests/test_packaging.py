"""What a user installs: the wheel and the sdist hold every target, template and table, and nothing else on top."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = {".py", ".toml", ".json", ".j2", ".c", ".h", ".ld", ".S", ".css"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clean copy of the tracked files, built; in the environment at hand, so that nothing is downloaded."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--create", "--null", "--files-from=-", f"--file={source}/tree.tar"], cwd=ROOT,
                   input=tracked, check=True)
    subprocess.run(["tar", "--extract", "--file=tree.tar"], cwd=source, check=True)
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, source], check=True, capture_output=True)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def expected() -> set[str]:
    """Every file of the packages under the name it is imported by."""
    def name(path: Path) -> str:
        parts = path.relative_to(ROOT).parts
        return "/".join(parts if parts[0] == "ncpc" else ("ncpc", *parts))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / line for line in tracked.splitlines() if line.split("/")[0] in ("ncpc", "targets", "quant")]
    return {name(path) for path in paths if path.suffix in SHIPPED or path.name == "py.typed"}


def test_wheel_holds_every_module_and_data_file(distributions: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(distributions[0]).namelist())
    assert expected() - names == set()
    assert {name.split("/")[0] for name in names} == {"ncpc", "ncpc-0.1.0.dist-info"}


def test_sdist_builds_the_same_wheel(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(distributions[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path, next(tmp_path.glob("ncpc-*"))],
                   check=True, capture_output=True)
    again = next(tmp_path.glob("*.whl"))
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(distributions[0]).namelist()


def test_the_wheel_imports_outside_the_tree(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        wheel.extractall(tmp_path)
    code = "import ncpc, ncpc.cli.commands, ncpc.targets.registry as r; print(ncpc.__file__, r.names())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, check=True)
    assert str(tmp_path) in done.stdout
    assert "cortex-m4" in done.stdout


def test_public_functions_stay_functions_when_everything_is_loaded() -> None:
    code = "import ncpc, ncpc.cli.commands, ncpc.driver.reopen; print([n for n in ncpc.__all__ for _ in 'ab' " \
           "if not callable(getattr(ncpc, n))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
