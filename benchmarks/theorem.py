"""What ``ncpc prove`` says of the examples, of AutoNCP policies of 19 neurons and of the other cells, by compiler.

    python -m benchmarks.theorem                        # goes on where it was stopped; theorem.json
    python -m benchmarks.theorem --only sine "gcc -O2"  # rows that have all of these words among their keys
    python -m benchmarks.theorem --again undecided      # rows with this answer once more

A row that is there stays while its Program and its ELF are the same (``program`` and ``elf`` are digests of both); one
that needs a compiler which is not installed stays as it is. ``seconds`` is what the proof took where it was recorded,
``prover`` the digest of ``ncpc/theorem`` then: another one may make other ``terms``.
``-O2`` is what ``ncpc compile`` links; the others are the same C under the same flags but one. Every run writes the
tables of docs/theorem.md anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from benchmarks import cell_cycles
from benchmarks.cells_table import policy_of
from benchmarks.elf_runs import Build
from ncpc.cores import load_core
from ncpc.driver.builds import sha256
from ncpc.driver.job import Job, Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.errors import MissingTool
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import Scheme
from ncpc.proofs.errors.identity import of_program
from ncpc.proofs.prove import Proof, prove
from ncpc.targets.base import DtMode, Lowered
from ncpc.targets.c.c_target import CArtifact, link
from ncpc.targets.registry import load
from ncpc.theorem.equality import Budget

ROOT = Path(__file__).parent.parent
RESULT, DOCS = Path(__file__).with_suffix(".json"), ROOT / "docs" / "theorem.md"
SECONDS = 60.0
"""For a proof: what ``ncpc prove`` takes unless told otherwise."""
CORES = ("rv32imc-ibex", "cortex-m4")
SMALL, EXAMPLES = "cortex-m0plus", ("cartpole", "sine", "activity")
"""A core without long products (the Cortex-M0's ELF is the same C), and what is tried on it, in int16."""
SCHEMES: tuple[Scheme, ...] = ("int16", "int8", "w8a16")
MODES: tuple[DtMode, ...] = ("fixed", "runtime")
COMPILERS = ("zig -O2", "zig -Os", "gcc -O2")
TEXT = "zig -O0"
"""Follows the C statement by statement; tried with one policy."""
Row = dict[str, Any]
KEYS = ("policy", "scheme", "dt", "core", "compiler")


def _file(*parts: str) -> Path:
    return ROOT.joinpath(*parts)


POLICIES: Mapping[str, Callable[[], Path | Policy]] = {
    **{name: partial(_file, "examples", name, "policy.safetensors") for name in ("cartpole", "sine", "activity")},
    **{name: partial(_file, "benchmarks", "policies", f"{name}.safetensors")
       for name in ("autoncp19-trained", "autoncp19-trained-irregular")},
}
"""Every scheme, dt, core and compiler is tried with these."""
WIDE = " of 16 units"
TABLE = ("RNN", "LSTM", "GRU", "CfC", "wired CfC", "CT-GRU", "CT-RNN", "ODE-LSTM", "leaky integrator",
         "History, Dense, tanh, Dense", "Dense, CfC, Dense, softmax", "Dense, Norm, LTC, Dense", "Conv1d, NCP")


def _wide(name: str) -> Policy:
    return cell_cycles.policy(cell_cycles.cells()[name][0])


CELLS: Mapping[str, Callable[[], Path | Policy]] = {
    **{name: partial(policy_of, name) for name in TABLE},
    **{f"{name}{WIDE}": partial(_wide, name) for name in ("rnn", "lstm", "gru", "cfc, no backbone")},
}
"""Rows of the table of cells (4 units), and of that of cycles (16): int16, dt fixed, as ``ncpc compile`` links them."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A row's keys."""

    policy: str
    scheme: Scheme
    dt: DtMode
    core: str
    compiler: str

    @property
    def cc(self) -> str:
        """As ``--cc`` takes it."""
        cc = self.compiler.split()[0]
        return cc if cc == "zig" else load_core(self.core).gcc_command

    @property
    def opt(self) -> str:
        return self.compiler.split()[1]


def cases() -> Iterator[Case]:
    """All rows, in the order of the record."""
    yield from itertools.starmap(Case, itertools.product(POLICIES, SCHEMES, MODES, CORES, COMPILERS))
    yield from itertools.starmap(Case, itertools.product(EXAMPLES, SCHEMES[:1], MODES, (SMALL,), COMPILERS))
    yield from (Case("cartpole", "int16", "fixed", core, TEXT) for core in CORES)
    yield from (Case(cell, "int16", "fixed", core, "zig -O2") for cell in CELLS for core in CORES)


@lru_cache(maxsize=4)
def lowered(policy: str, scheme: Scheme, dt: DtMode) -> tuple[Job, Lowered, Proof]:
    """As for the first core: a Program knows of none."""
    job = job_for({**POLICIES, **CELLS}[policy](), Request(CORES[0], scheme, dt))
    found = lower_for(job.container, job.options).lowered
    return job, found, prove(found.program)


def built(case: Case) -> tuple[Build, str]:
    """Compiled for the core and linked, not verified; by which compiler. Raises MissingTool without it."""
    job, found, proof = lowered(case.policy, case.scheme, case.dt)
    artifact = load(case.core).prepare(found, dataclasses.replace(job.options, cc=case.cc))
    assert isinstance(artifact, CArtifact)
    linked = link(artifact, artifact.files, case.opt)
    return Build(artifact, found.program, proof, linked.elf), linked.compiler


def digests(build: Build) -> dict[str, str]:
    """What a row holds of: 16 hexadecimal digits each."""
    return {"program": of_program(build.program)[:16], "elf": sha256(build.elf)[:16]}


def prover() -> str:
    """16 hexadecimal digits of what reads and compares."""
    return sha256(b"".join(path.read_bytes() for path in sorted((ROOT / "ncpc" / "theorem").glob("*.py"))))[:16]


def measured(case: Case, build: Build, compiler: str) -> Row:
    """The row."""
    begin = time.monotonic()
    found = build.prove(build.elf, Budget(SECONDS))
    return {**dataclasses.asdict(case), "built_by": compiler, "prover": prover(), **digests(build),
            "answer": found.answer, "why": found.why, "outcomes": found.outcomes, "shown": found.shown,
            "least": found.least, "most": found.most, "stack_bytes": found.stack_bytes, "terms": found.terms,
            "seconds": round(time.monotonic() - begin, 1)}


def row_of(case: Case, known: Row | None = None) -> Row:
    """The row, measured unless ``known`` is of the same Program and ELF. Raises MissingTool without the compiler."""
    build, compiler = built(case)
    if known is not None and digests(build).items() <= known.items():
        return known
    return measured(case, build, compiler)


def unlike(row: Row, other: Row) -> dict[str, tuple[Any, Any]]:
    """What differs between two rows beside seconds, and terms where provers do."""
    aside = {"seconds", "prover"} | (set() if row["prover"] == other["prover"] else {"terms"})
    return {name: (row.get(name), other.get(name)) for name in {*row, *other} - aside
            if row.get(name) != other.get(name)}


def key(row: Row) -> tuple[str, ...]:
    return tuple(row[name] for name in KEYS)


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """Answers by compiler."""
    return dict(sorted(Counter(f"{row['compiler']}: {row['answer']}" for row in rows).items()))


def policies_table(rows: Sequence[Row]) -> str:
    """Markdown: by policy, core and compiler, how many of all schemes and both kinds of dt are proved."""
    lines = ["| policy | core | compiler | proved | instructions a step | stack | seconds, at most |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for names in itertools.product(POLICIES, (*CORES, SMALL), (*COMPILERS, TEXT)):
        some = [row for row in rows if (row["policy"], row["core"], row["compiler"]) == names]
        if some:
            ways = f"{min(row['least'] for row in some):,} to {max(row['most'] for row in some):,}"
            proved = sum(row["answer"] == "proved" for row in some)
            lines.append(f"| {' | '.join(names)} | {proved} of {len(some)} | {ways} | "
                         f"{max(row['stack_bytes'] for row in some)} | {max(row['seconds'] for row in some)} |")
    return "\n".join(lines)


def cells_table(rows: Sequence[Row]) -> str:
    """Markdown: the answer for each cell, and in how many seconds."""
    lines = [f"| cell or layers | {' | '.join(CORES)} |", "| --- | --- | --- |"]
    found = {(row["policy"], row["core"]): row for row in rows if row["policy"] in CELLS}
    for cell in dict.fromkeys(cell for cell, _ in found):
        some = [found[cell, core] for core in CORES]
        lines.append(f"| {cell} | {' | '.join(map(_said, some))} |")
    return "\n".join(lines)


def _said(row: Row) -> str:
    return f"{'not decided' if row['answer'] == 'undecided' else row['answer']}, {row['seconds']} s"


def in_docs(text: str, rows: Sequence[Row]) -> str:
    """A document with the tables behind their marks."""
    for name, table in (("theorem", policies_table(rows)), ("theorem cells", cells_table(rows))):
        before, after = text.split(f"<!-- table: {name} -->\n")
        rest = after.split("\n\n", 1)[1]
        text = f"{before}<!-- table: {name} -->\n{table}\n\n{rest}"
    return text


def write(rows: Mapping[tuple[str, ...], Row]) -> None:
    """Those of ``cases``, in their order, a row a line."""
    ordered = [rows[place] for case in cases() if (place := dataclasses.astuple(case)) in rows]
    lines = ",\n".join("  " + json.dumps(row) for row in ordered)
    RESULT.write_text(f'{{\n "seconds_given": {SECONDS:g},\n "totals": {json.dumps(totals(ordered))},\n'
                      f' "rows": [\n{lines}\n ]\n}}\n')


def recorded() -> list[Row]:
    """The rows as committed."""
    found: list[Row] = json.loads(RESULT.read_text())["rows"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.theorem")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="a policy, scheme, dt, core or compiler")
    parser.add_argument("--again", choices=("proved", "differs", "undecided"), help="prove rows with this answer anew")
    options = parser.parse_args()
    rows = {key(row): row for row in recorded()} if RESULT.exists() else {}
    wanted = [case for case in cases() if set(options.only) <= set(dataclasses.astuple(case))]
    console = Console(stderr=True)
    for case in track(wanted, "proving", console=console):
        place = dataclasses.astuple(case)
        known = rows.get(place)
        try:
            rows[place] = row_of(case, None if known and known["answer"] == options.again else known)
        except MissingTool as error:
            console.print(f"{', '.join(place)}: {error}")
            continue
        if rows[place] is not known:
            write(rows)
            console.print(f"{', '.join(place)}: {rows[place]['answer']} {rows[place]['why']} "
                          f"({rows[place]['seconds']} s)", highlight=False)
    DOCS.write_text(in_docs(DOCS.read_text(), recorded()))
    print(json.dumps(totals(recorded()), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
