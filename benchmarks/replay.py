"""What every row of the table of cells becomes, as hashes: a move of code changes none of them.

    python -m benchmarks.replay                     # emit everything again, say what differs, exit 1 if anything does
    python -m benchmarks.replay --keep FOLDER       # and keep the files, to look at the difference of two trees
    python -m benchmarks.replay --write             # record what is emitted now
    python -m benchmarks.replay --target tflite     # one target only, here as above

Every row (benchmarks/cells_table_rows.py) is lowered and emitted for every target, in each of its schemes, with the
timespan compiled in and as an input; what a target refuses counts by its words. A few are compiled to the end, too:
ELF, map, vectors, report. One hash stands for a row on a target, in replay.json.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks.cells_table import TARGETS, policy_of
from benchmarks.cells_table_rows import ROWS
from ncpc.driver import builds
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import compile_policy
from ncpc.errors import NcpcError
from ncpc.frontend.container import policy_bytes
from ncpc.ir.schemes import Scheme
from ncpc.proofs.certificate import CHECKER
from ncpc.targets import registry
from ncpc.targets.base import DtMode

RESULT = Path(__file__).with_suffix(".json")
MODES: tuple[DtMode, ...] = ("fixed", "runtime")
WHOLE = {f"{row}, compiled": row for row in ("LTC", "CfC", "Dense, CfC, Dense, softmax")}
"""Rows that are compiled to the end, too, by the name of their hash."""
PAIRS = tuple((name, target) for name in (*ROWS, *WHOLE) for target in TARGETS
              if name in WHOLE or target not in ("host", "rv32imc-ibex"))
"""The hashes: what is emitted for another core than the first is the same C."""
STEPS = 100
VERSIONED = ("tools", "files")
"""Parts of report.json that say what machine made it."""
Files = Mapping[str, bytes]


def emitted(row: str, target: str) -> dict[str, bytes]:
    """All files of a row on a target, by ``scheme-dt/name``."""
    files: dict[str, bytes] = {}
    for scheme, dt in itertools.product(registry.load(target).capabilities.schemes, MODES):
        found = _emitted(row, target, scheme, dt)
        files.update({f"{scheme}-{dt}/{name}": content for name, content in found.items()})
    return files


def _emitted(row: str, target: str, scheme: Scheme, dt: DtMode) -> Files:
    try:
        job = job_for(policy_of(row), Request(target, scheme, dt=dt), None)
        lowering = lower_for(job.container, job.options)
        policy = policy_bytes(job.policy, lowering.formats)
        return {builds.POLICY: policy, **job.target.prepare(lowering.lowered, job.options).files}
    except NcpcError as error:
        return {"refused": str(error).encode()}


def compiled(row: str, target: str) -> dict[str, bytes]:
    """The whole folder of a row on a target in its first integer scheme, without what names versions or seconds, and
    without the checker, whose text is that of ``ncpc.proofs.certify`` in every build.
    """
    schemes = registry.load(target).capabilities.schemes
    scheme: Scheme = "int16" if "int16" in schemes else schemes[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "build"
        try:
            compile_policy(policy_of(row), folder, Request(target, scheme, steps=STEPS, prove="off"))
        except NcpcError as error:
            return {"refused": str(error).encode()}
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = json.loads(files.pop(builds.REPORT))
    kept = {name: part for name, part in report.items() if name not in VERSIONED}
    for link in kept["links"]:
        link.pop("runtime_version")
    apart = (builds.TIMING, builds.PAGE, CHECKER)
    return {name: content for name, content in files.items() if name not in apart} | {builds.REPORT: _json(kept)}


def files_of(name: str, target: str) -> dict[str, bytes]:
    """What a hash of this name on a target stands for."""
    return compiled(WHOLE[name], target) if name in WHOLE else emitted(name, target)


def digest(files: Files) -> str:
    """16 hexadecimal digits over names and contents."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name} {len(files[name])}\n".encode() + files[name])
    return whole.hexdigest()[:16]


def recorded() -> dict[str, dict[str, str]]:
    """Row -> target -> digest, as committed."""
    found: dict[str, dict[str, str]] = json.loads(RESULT.read_text())
    return found


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def _keep(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _all(console: Console, keep: Path | None, targets: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    for name, target in track([pair for pair in PAIRS if pair[1] in targets], "emitting", console=console):
        files = files_of(name, target)
        if keep is not None:
            _keep(keep / name / target, files)
        yield name, target, digest(files)


def main(arguments: list[str]) -> int:
    """Emit everything; compare with the committed hashes, or write them."""
    parser = argparse.ArgumentParser("python -m benchmarks.replay")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--target", choices=TARGETS)
    options = parser.parse_args(arguments)
    console = Console()
    before = recorded() if RESULT.exists() else {}
    now: dict[str, dict[str, str]] = {name: {} for name, _ in PAIRS}
    for name, target in PAIRS:
        now[name].update({target: before[name][target]} if target in before.get(name, {}) else {})
    unlike = 0
    for name, target, found in _all(console, options.keep, [options.target] if options.target else TARGETS):
        if now[name].get(target) != found:
            unlike += 1
            console.print(f"{name}, {target}: not what is recorded")
        now[name][target] = found
    if options.write:
        RESULT.write_bytes(_json(now))
    console.print(f"{unlike} of the files are not as recorded")
    return 1 if unlike and not options.write else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
