"""``ncpc prove``: that a build's linked step is its Program, for every input and every state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ncpc.driver.reopen import made_build
from ncpc.errors import BadInput, MissingTool, Unsupported
from ncpc.phases import Phases
from ncpc.proofs.prove import prove
from ncpc.report.record import Json
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.device import calls
from ncpc.theorem.equality import Budget
from ncpc.theorem.theorem import ASSUMPTIONS, Theorem, prove_step


@dataclass(frozen=True, eq=False)
class Proved:
    """The theorem of a build for ``target``, and how long it took."""

    policy: str
    target: str
    theorem: Theorem
    seconds: float


def prove_build(folder: Path, seconds: float, phases: Phases | None = None) -> Proved:
    """Prove the ELF in ``folder`` within so many seconds; the folder is compared with what its policy makes before.

    Raises Differs for another folder, Unsupported for a build without an integer step on a core, MissingTool without
    the solver or the ELF.
    """
    phases = phases or Phases()
    if not seconds > 0:
        raise BadInput(f"--seconds {seconds:g}: give the time that the proof may take, more than 0")
    if find_spec("bitwuzla") is None:
        raise MissingTool("not proved: bitwuzla is not installed: pip install 'ncpc[proofs]'")
    job, made = made_build(folder, phases)
    artifact, lowered = made.artifact, made.lowering.lowered
    if not isinstance(artifact, CArtifact) or artifact.chip is None or lowered.numbers.arithmetic != "integer":
        raise Unsupported(f"{folder}: '{job.target.name}' with {job.options.quant} has no integer step on a core; "
                          "compile for a core (see 'ncpc targets') with an integer scheme")
    elf = folder / artifact.named("elf")
    if not elf.is_file():
        raise MissingTool(f"{elf}: was not built, as the compiler for the core was missing; compile again with it")
    with phases.phase("prove") as phase:
        begin = time.monotonic()
        theorem = prove_step(elf.read_bytes(), artifact.chip, calls(artifact.face), lowered.program,
                             prove(lowered.program), Budget(seconds))
        phase.note, phase.mark = theorem.answer, "✓" if theorem.answer == "proved" else "✗"
    return Proved(job.policy.name, job.target.name, theorem, time.monotonic() - begin)


def record(proved: Proved) -> Json:
    """What was found as JSON."""
    found = proved.theorem
    witness = found.counterexample
    return {
        "policy": proved.policy, "target": proved.target, "answer": found.answer, "why": found.why or None,
        "outcomes": found.outcomes, "shown": found.shown,
        "instructions": {"least": found.least, "most": found.most}, "stack_bytes": found.stack_bytes,
        "branches_on_data": found.branches, "terms": found.terms, "answers": dict(found.counts or {}),
        "counterexample": None if witness is None else {
            "outcome": witness.what, "core": witness.got, "program": witness.wanted,
            "raw": {name: numbers.tolist() for name, numbers in witness.raw.items()}},
        "assumes": list(ASSUMPTIONS), "seconds": round(proved.seconds, 2),
    }


def words(proved: Proved) -> Iterator[str]:
    """The same as lines."""
    found = proved.theorem
    title = f"{proved.policy}: program = {proved.target}"
    if found.answer == "proved":
        yield f"{title}: proved for all inputs, every dt and all states in the box"
    else:
        yield f"{title}: {'not decided' if found.answer == 'undecided' else found.answer}: {found.why}"
    if found.outcomes:
        yield f"  outcomes      {found.shown} of {found.outcomes}: states, outputs, status word, kept registers, stack"
        yield f"  instructions  {found.least:,} to {found.most:,} a step, on the shortest and the longest way"
        yield f"  stack         {found.stack_bytes:,} bytes below the stack pointer"
    if found.counterexample is not None:
        yield from (f"  {name:<12}  {numbers.tolist()}" for name, numbers in found.counterexample.raw.items())
    if found.answer == "undecided":
        yield "  this says nothing against the build, whose bitwise links stand; docs/theorem.md tells what is covered"
    if found.answer == "proved":
        yield from ("  assumed: " + text for text in ASSUMPTIONS)
