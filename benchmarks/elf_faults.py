"""Plants small faults into cart-pole's linked step for rv32imc-ibex, and lets ``ncpc.theorem`` judge each.

    python -m benchmarks.elf_faults                 # goes on where it was stopped; writes elf_faults.json
    python -m benchmarks.elf_faults --minutes 10

A fault is *proved* harmless, *differs* at a counterexample, is *refused* where the code cannot be followed to its end,
or *undecided*. Whatever the proof says is held against the emulator, which knows nothing of it: a counterexample must
show the difference there, and what is proved must do what the Program does in PROVED_RUNS batches of calls, and change
nothing in registers and memory that must stay. All others run on the samples of the proof, so that the record says how
many faults such tests find.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.elf_plants import KINDS, Fault, Linked, faults, linked, planted, text, where
from benchmarks.elf_runs import Batch, Board, Build, batch, built, drawn
from ncpc.driver.job import Request
from ncpc.targets.c.device import calls
from ncpc.theorem.equality import Budget
from ncpc.theorem.theorem import Theorem

RESULT = Path(__file__).with_suffix(".json")
POLICY = Path(__file__).parent.parent / "examples" / "cartpole" / "policy.safetensors"
SECONDS, QUESTION_MS = 30.0, 500
"""For a proof, and for a question to the solver: what is asked and not answered makes a fault no less refused."""
PROVED_RUNS = 20
"""Batches of calls for what is proved."""
FILLS = 64
"""Contents of the other registers under which a counterexample is run, until one shows it: it does not name them."""
TIME_IS_UP = "for the proof are used up"
Row = dict[str, Any]


def build_of(folder: Path, policy: Path = POLICY) -> Build:
    """For the core whose instructions the faults are planted into."""
    return built(folder, policy, Request(target="rv32imc-ibex"))


def judged(build: Build, program: Linked, fault: Fault, batches: list[Batch], seconds: float = SECONDS) -> Row:
    """The proof's answer within so many seconds, and what the emulator says to it."""
    elf = planted(build.elf, fault)
    begin = time.monotonic()
    theorem = build.prove(elf, Budget(seconds, QUESTION_MS))
    row = {"kind": fault.kind, "number": fault.number, "at": where(program, fault.address), **_change(program, fault),
           "answer": _answer(theorem), "why": theorem.why, "seconds": round(time.monotonic() - begin, 1)}
    return row | _checked(build, theorem, Board(build, elf), batches)


def _answer(theorem: Theorem) -> str:
    refused = theorem.answer == "undecided" and theorem.outcomes == 0 and TIME_IS_UP not in theorem.why
    return "refused" if refused else theorem.answer


def _change(program: Linked, fault: Fault) -> Row:
    if fault.address in program.instructions:
        return {"was": text(fault.old, fault.size), "is": text(fault.new, fault.size)}
    return {"was": str(fault.old), "is": str(fault.new)}


def _checked(build: Build, theorem: Theorem, board: Board, batches: list[Batch]) -> Row:
    """``wrong``: the emulator's first difference, "" for none in ``runs`` calls; ``confirmed``: a counterexample's."""
    row: Row = {}
    if theorem.counterexample is not None:
        raw = {name: numbers[None] for name, numbers in theorem.counterexample.raw.items()}
        shown = batch(build, raw)
        row["confirmed"] = next(filter(None, (board.wrong(shown, 0, seed) for seed in range(FILLS))), "")
    tried = batches if theorem.answer == "proved" else batches[:1]
    wrong = next(filter(None, (board.first_wrong(some) for some in tried)), None)
    return row | {"runs": sum(len(some.x) for some in tried), "wrong": wrong[1] if wrong else ""}


def is_sound(row: Row) -> bool:
    """Whether the emulator bears the answer out."""
    if row["answer"] == "proved":
        return row["wrong"] == ""
    return row["answer"] != "differs" or row["confirmed"] != ""


def go_on(record: dict[str, Any], build: Build, program: Linked, wanted: Iterable[Fault], until: float) -> None:
    """Judge faults that ``record`` does not have yet, and store it after each."""
    known = {(row["kind"], row["number"]) for row in record["faults"]}
    batches = [drawn(build, seed) for seed in range(1, PROVED_RUNS + 1)]
    for fault in wanted:
        if (fault.kind, fault.number) not in known and time.monotonic() < until:
            record["faults"].append(judged(build, program, fault, batches))
            record["faults"].sort(key=lambda row: (list(KINDS).index(row["kind"]), row["number"]))
            record["totals"] = totals(record["faults"])
            RESULT.write_text(json.dumps(record, indent=1) + "\n")


def totals(rows: list[Row]) -> dict[str, int]:
    """By answer and whether the samples of the proof show the fault on the emulator."""
    found = Counter(f"{row['answer']}, {'shows' if row['wrong'] else 'does not show'} on samples" for row in rows)
    return dict(sorted(found.items())) | {"not borne out": sum(not is_sound(row) for row in rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after this time")
    until = time.monotonic() + 60 * parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder:
        build = build_of(Path(folder))
    digest = hashlib.sha256(build.elf).hexdigest()
    record = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    if record.get("elf") != digest:  # another compiler or another policy: other faults
        record = {"elf": digest, "totals": {}, "faults": []}
    program = linked(build.elf, calls(build.artifact.face).step)
    go_on(record, build, program, faults(program), until)
    print(json.dumps(record["totals"], indent=1))


if __name__ == "__main__":
    main()
