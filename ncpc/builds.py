"""Build folders: written whole or not at all, and read back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput

POLICY, REPORT, PAGE, TRACE = "policy.safetensors", "report.json", "report.html", "trace.json"
VECTORS, TIMING = "vectors.npz", "timing.json"


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``out`` when the block ends well, and vanishes when it does not.

    ``out`` may be absent, empty, or an earlier build (it holds a report.json); anything else is refused by BadInput,
    so that no stranger's files are replaced.
    """
    _require_ours(out)
    made = _make_parents(out)
    stage = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        stage.mkdir()
        yield stage
        _take_place(stage, out)
    except BaseException as error:
        shutil.rmtree(stage, ignore_errors=True)
        for folder in reversed(made):
            folder.rmdir()
        if isinstance(error, OSError):
            why = error.strerror or error
            raise BadInput(f"{out}: cannot be written ({why}); give a path in a writable folder") from None
        raise


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files``, names relative to ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def hashes(folder: Path, names: list[str]) -> dict[str, str]:
    """SHA-256 of each named file of a folder, sorted by name."""
    return {name: sha256((folder / name).read_bytes()) for name in sorted(names)}


NEEDED = {"target": ("name", "dt", "cc", "options"), "quant": ("scheme", "formats"), "memory": (), "proof": (),
          "verdict": ("tolerance", "strict"), "extra": (), "files": (), "tools": ()}
"""Of a report: what a build is opened again by."""


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a build; BadInput when ``folder`` is none."""
    try:
        report = json.loads((folder / REPORT).read_text())
        known = isinstance(report, dict) and report.get("schema") == 1
    except FileNotFoundError:
        raise BadInput(f"{folder}: not a build (no {REPORT}); give a folder made by 'ncpc compile'") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder / REPORT}: cannot be read ({error}); compile again") from None
    if not known:
        raise BadInput(f"{folder / REPORT}: not a report of schema 1; compile again")
    for part, names in NEEDED.items():
        absent = [name for name in names if name not in (report.get(part) or {})]
        if part not in report or absent:
            raise BadInput(f"{folder / REPORT}: damaged, no '{'.'.join([part, *absent[:1]])}'; compile again")
    return dict(report)


def changed(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """One line for each file that is missing or differs from the one that was verified."""
    lines = []
    for name, expected in report["files"].items():
        path = folder / name
        if not path.is_file():
            lines.append(f"{name} is missing from the build")
        elif sha256(path.read_bytes()) != expected:
            lines.append(f"{name} is not the file that was compiled (its SHA-256 differs)")
    return lines


def _require_ours(out: Path) -> None:
    if out.is_dir() and (not any(out.iterdir()) or (out / REPORT).is_file()):
        return
    if out.exists() or out.is_symlink():
        raise BadInput(f"{out}: exists and is not a build of ncpc; give another folder with -o")


def _make_parents(out: Path) -> list[Path]:
    """Make the folders above ``out``; those that were made, outermost first."""
    missing = [folder for folder in reversed(out.absolute().parents) if not folder.exists()]
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({error.strerror}); give a path in a writable folder") from None
    return missing


def _take_place(stage: Path, out: Path) -> None:
    """Rename ``stage`` to ``out``; an earlier build stands aside until the new one is in place."""
    if not out.exists():
        stage.rename(out)
        return
    old = out.with_name(f".{out.name}.{os.getpid()}.old")
    out.rename(old)
    try:
        stage.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)
