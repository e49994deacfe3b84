"""Mutation testing: small faults planted into the product one by one, and whether the tests notice.

    python -m benchmarks.mutation proofs semantics     # goes on where it was stopped; writes mutation.json
    python -m benchmarks.mutation --each 60 verify     # so many of each file, the same ones every time
    python -m benchmarks.mutation --again proofs       # what survived once more, after tests were added

``benchmarks.mutants`` makes the faults, ``benchmarks.mutation_trials`` tries them. A mutant is tried by the part's own
test files (``TESTS``) and killed when one of their tests fails or does not end.

``mutation.json`` holds, per part and per file, how many mutants there are, how many were tried and killed, and every
survivor with its line, and why it may stay; ``examples``, some that are killed and by which test. A survivor without a
reason is a gap in the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.mutants import ROOT, SEED, Mutant, modules, mutants_of
from benchmarks.mutation_trials import try_all

RESULT = Path(__file__).with_suffix(".json")
TESTS: dict[str, tuple[str, ...]] = {
    "proofs": ("op_meanings", "formed", "invariance_exact", "ranges", "windows_proof"),
    "ir/formed.py": ("op_meanings", "formed", "c_code", "products"),
    "ir/cwords.py": ("op_meanings", "formed", "c_code", "products"),
    "semantics": ("op_meanings", "semantics", "formed", "products"),
    "verification": ("verify", "explain", "verdict_data", "planted_faults"),
    "quant": ("quantize", "inputs", "invariance", "cells_int16", "formed", "products"),
    "passes": ("fuse", "ir", "streams", "cells_equations", "linearize", "c_code", "heads", "cells_int16"),
    "targets/c": ("c_code", "c_device", "names", "sessions", "emission_order", "c_docs"),
    "sim": ("sim_run", "sim_timing", "sim_alignment"),
    "proofs/certify.py": ("certificate", "certificate_cells"),
    "proofs/certificate.py": ("certificate", "certificate_cells"),
    "proofs/errors": ("error_certificate",),
}
"""The test files that answer for a package, a folder or a file below ``ncpc``."""
EXAMPLES = 12


def part_of(path: Path) -> str:
    """The narrowest part that a module belongs to."""
    parts = [part for part in TESTS for module in modules(part) if module == path]
    return max(parts, key=len)


def asked(part: str, each: int) -> dict[str, tuple[list[Mutant], list[Mutant]]]:
    """By module, all of its mutants and the first ``each`` of them in their drawn order."""
    made = {path: mutants_of(path) for path in modules(part) if part_of(path) == part}
    return {path.relative_to(ROOT).as_posix(): (found, found[:each]) for path, found in made.items() if found}


def copy_of_tree(folder: Path) -> Path:
    """A copy of what the tests need, in ``folder``."""
    left_out = shutil.ignore_patterns(".git", ".venv*", "build", "__pycache__", ".*_cache", ".hypothesis")
    return Path(shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=left_out))


def load() -> dict[str, Any]:
    """What was found so far."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


class Record:
    """What is known of a part's mutants, written to ``mutation.json`` as it grows."""

    def __init__(self, part: str, each: int) -> None:
        self.part, self.found = part, asked(part, each)
        self.of = {m.key: m for _, some in self.found.values() for m in some}
        self.old = load().get(part, {})
        self.why = {row["key"]: row["why"] for row in self.old.get("survivors", [])}
        every = {m.key: m for all_of, _ in self.found.values() for m in all_of}
        killed = [key for row in self.old.get("modules", {}).values() for key in row["keys"].split()]
        self.killed = dict.fromkeys((key for key in killed if key in every), "")
        self.survived = {key for key in self.why if key in every}
        self.of |= {key: every[key] for key in (*self.killed, *self.survived)}
        self.examples = {row["key"]: row for row in self.old.get("examples", []) if row["key"] in self.killed}

    def rest(self, again: bool) -> list[Mutant]:
        """What is to be tried: what has no result, and again what survived."""
        return [m for key, m in self.of.items() if key not in self.killed and (again or key not in self.survived)]

    def add(self, mutant: Mutant, killer: str | None) -> None:
        if killer is None:
            self.survived.add(mutant.key)
            return
        self.survived.discard(mutant.key)
        self.killed[mutant.key] = killer
        modules_shown = [row["module"] for row in self.examples.values()]
        if "::" in killer and len(self.examples) < EXAMPLES and modules_shown.count(mutant.module) < 2:
            self.examples[mutant.key] = {"key": mutant.key, **asdict(mutant), "by": killer}

    def row(self, module: str) -> dict[str, Any]:
        here = [m.key for m in self.of.values() if m.module == module]
        killed = sorted(key for key in here if key in self.killed)
        return {"mutants": len(self.found[module][0]), "tried": len(killed) + len(self.survived.intersection(here)),
                "killed": len(killed), "keys": " ".join(killed)}

    def store(self) -> None:
        rows = {module: self.row(module) for module in self.found}
        survivors = sorted((self.of[key] for key in self.survived), key=lambda m: (m.module, m.line, m.key))
        total = {name: sum(row[name] for row in rows.values()) for name in ("mutants", "tried", "killed")}
        result = {
            "commit": _commit(), "seed": SEED, "tests": list(TESTS[self.part]), **total,
            "explained": sum(bool(self.why.get(m.key)) for m in survivors), "modules": rows,
            "survivors": [{"key": m.key, **asdict(m), "why": self.why.get(m.key, "")} for m in survivors],
            "examples": list(self.examples.values()),
        }
        text = json.dumps(dict(sorted({**load(), self.part: result}.items())), indent=1) + "\n"
        RESULT.with_suffix(".new").write_text(text)
        RESULT.with_suffix(".new").replace(RESULT)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def measure(part: str, each: int, again: bool) -> None:
    """Try the mutants of a part that have no result yet; to be called in a process of its own."""
    record = Record(part, each)
    rest = record.rest(again)
    out = os.fdopen(os.dup(2), "w")

    def say(text: str) -> None:
        print(f"{part}: {text}", file=out, flush=True)

    tried = 0

    def report(mutant: Mutant, killer: str | None) -> None:
        nonlocal tried
        tried += 1
        record.add(mutant, killer)
        if killer is None:
            say(f"survives: {mutant.key} {mutant.module}:{mutant.line} {mutant.before} -> {mutant.after}")
        if tried % 10 == 0:
            record.store()
            say(f"{tried} of {len(rest)}")

    say(f"{len(rest)} of {len(record.of)} to try")
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_tree(Path(folder))
        files = [f"tests/test_{name}.py" for name in TESTS[part]]
        if rest and (failing := try_all(tree, files, rest, report, say)):
            raise SystemExit(f"{part}: without a mutant these fail: {', '.join(failing)}")
        os.chdir(ROOT)
    record.store()


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(TESTS))
    parser.add_argument("--each", type=int, default=1 << 30, help="mutants of each file")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args(arguments)
    if len(given.parts) == 1:
        measure(given.parts[0], given.each, given.again)
        return
    for part in given.parts:  # pytest loads a tree's modules once, so each part has its own process
        options = ["--each", str(given.each), *(["--again"] if given.again else [])]
        subprocess.run([sys.executable, "-m", "benchmarks.mutation", part, *options], cwd=ROOT, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
