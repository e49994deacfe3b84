"""Feeds mutated files to the readers: every one is read or refused in one line, or it counts as a fault. So does a file
that takes a reader more than 10 s or 1 GiB, brings its process down, or has code in it run.

    python -m benchmarks.hostile_files --files 20000    # so many more of each kind, added to hostile_files.json
    python -m benchmarks.hostile_files --commands 200   # so many through the command line
    python -m benchmarks.hostile_files --files 500 --kinds keras "old checkpoint" --minutes 30

Each file follows from its kind and its number alone, so that a run goes on where the last one ended. Files are read in
processes forked from one that has everything loaded: a chunk of files in each, or one command, by ncpc's own ``main``.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.hostile_kinds import Kind, kinds, lay
from benchmarks.mutations import MARK
from ncpc import __main__
from ncpc.errors import EXIT_INTERNAL, NcpcError
from ncpc.worker.process import kept

RESULT = Path(__file__).with_suffix(".json")
SECONDS, BYTES = 10, 1 << 30
CHUNK, ROUND = 250, {"files": 500, "commands": 5}
Record = dict[str, dict[str, Any]]


def content(kind: Kind, name: str, number: int) -> bytes:
    """The file of this number."""
    return kind.mutate(kind.seed, random.Random(f"{name} {number}"))


def in_process(kind: Kind, path: Path) -> str | None:
    """The last frame and the error of a file whose reader fails otherwise than by refusing; None for all others."""
    begin, peak = time.monotonic(), _peak()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(path)
    except NcpcError as error:
        if "\n" in str(error):
            return f"more than one line: {error}"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}"
    if (took := time.monotonic() - begin) > SECONDS:
        return f"took {took:.0f} s"
    return f"took {(_peak() - peak) >> 20} MiB" if _peak() - peak > BYTES else None


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def chunk(kind: Kind, name: str, numbers: Iterable[int], folder: Path) -> list[tuple[int, str]]:
    """Faults of these files by number, read in one process, which may be brought down."""
    with mmap.mmap(-1, 8) as at, tempfile.TemporaryFile("w+") as found:
        def read() -> int:
            with kept():  # the process that reads HDF5
                for number in numbers:
                    signal.alarm(4 * SECONDS)
                    at[:] = number.to_bytes(8, "little")
                    text = in_process(kind, lay(kind, folder, content(kind, name, number)))
                    if text is None and Path(MARK).exists():
                        text = "code in it was run"
                    if text is not None:
                        found.write(json.dumps([number, text]) + "\n")
                        found.flush()
            return 0

        status = _forked(read, folder.with_name("here"))  # each file gets its own folder anew
        found.seek(0)
        faults = [(int(number), str(text)) for number, text in map(json.loads, found)]
        last = int.from_bytes(at[:], "little")
    if status == 0:
        return faults
    rest = [number for number in numbers if number > last]
    faults.append((last, f"brought down its process, status {status}"))
    return faults + (chunk(kind, name, rest, folder) if rest else [])


def by_command(kind: Kind, path: Path) -> str | None:
    """What is wrong with a command about this file: an exit code that is none of ncpc's, or more than one line."""
    places = {"FILE": str(path), "FOLDER": str(path.parent), "policy.safetensors": str(path.with_name("policy.st"))}
    words = [places.get(word) or word.replace("FOLDER", places["FOLDER"]) for word in kind.command]
    with tempfile.TemporaryFile("w+b") as said:
        def command() -> int:
            signal.alarm(6 * SECONDS)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(said.fileno(), 2)
            sys.argv[1:] = words
            sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False)) for number in (1, 2))
            try:
                __main__.main()
            except SystemExit as ended:
                return int(ended.code or 0)
            return 0

        code = _forked(command, path.parent)
        said.seek(0)
        lines = [line for line in said.read().decode(errors="replace").splitlines()
                 if "ncpc: warning: " not in line and line not in ("read ...", "compare ...")]
    if code not in (0, 1, 2) or len(lines) != (code != 0 and (code, kind.command[0]) != (1, "certify")):
        return f"exit {code}: {' | '.join(lines)[:200]}"
    return "code in it was run" if (path.parent / MARK).exists() else None


def _forked(work: Callable[[], int], folder: Path) -> int:
    """What ``work`` returns in a process of its own, whose current folder is ``folder``; minus the signal that ended
    it. It may have four GiB more than there are.
    """
    process = os.fork()
    if process == 0:
        code = EXIT_INTERNAL
        try:
            folder.mkdir(exist_ok=True)
            os.chdir(folder)
            limit = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE + 4 * BYTES
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def asked(kind: Kind, way: str) -> bool:
    """Whether files of this kind are read so."""
    return way == "files" or bool(kind.command)


def go_on(record: Record, way: str, count: int, only: Iterable[str] = (), until: float = float("inf")) -> None:
    """``count`` more files of each kind, or as many as fit before ``until``; adds to ``record``."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "f")
        for name, kind in kinds().items():
            if (only and name not in only) or not asked(kind, way):
                continue
            row = record.setdefault(f"{name}, {way}", {"files": 0, "faults": 0, "examples": []})
            end = row["files"] + math.ceil(count * kind.share)
            while row["files"] < end and time.monotonic() < until:
                numbers = range(row["files"], min(end, row["files"] + (CHUNK if way == "files" else 1)))
                if way == "files":
                    found = chunk(kind, name, numbers, folder)
                else:
                    text = by_command(kind, lay(kind, folder, content(kind, name, numbers[0])))
                    found = [] if text is None else [(numbers[0], text)]
                row["files"] += len(numbers)
                row["faults"] += len(found)
                row["examples"] = [*row["examples"], *([number, text] for number, text in found)][:60]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--commands", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=())
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after this time")
    given = parser.parse_args()
    record: Record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    until = time.monotonic() + 60 * given.minutes
    for way, count in (("files", given.files), ("commands", given.commands)):
        for begin in range(0, count, ROUND[way]):  # so that all kinds come forward, whenever this ends
            go_on(record, way, min(ROUND[way], count - begin), given.kinds, until)
            RESULT.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
            if time.monotonic() >= until:
                return


if __name__ == "__main__":
    main()
