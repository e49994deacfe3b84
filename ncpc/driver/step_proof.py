"""The proof that a build's linked step is its Program, as far as it is asked for and can be made here."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from ncpc.cores.core import Core
from ncpc.errors import NcpcError
from ncpc.phases import Phases
from ncpc.proofs.prove import prove
from ncpc.report.record import Json
from ncpc.report.theorem import ANSWERS, theorem_record
from ncpc.targets.base import Artifact, Lowered
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.device import calls
from ncpc.targets.c.replay import differences
from ncpc.theorem.equality import Budget
from ncpc.theorem.theorem import Counterexample, Theorem, prove_step

SOLVER = "bitwuzla"
ABSENT = f"not proved: {SOLVER} is not installed: pip install 'ncpc[proofs]'"


@dataclass(frozen=True, eq=False)
class StepProof:
    """What was found for ``target``; of a counterexample, what the simulated core makes of it in words."""

    target: str
    theorem: Theorem
    replay: str | None = None

    @property
    def record(self) -> Json:
        """As report.json has it."""
        return theorem_record(self.theorem, self.replay)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against the build: a difference, nothing else."""
        if self.theorem.answer != "differs":
            return ()
        return (f"the linked step is not the program: {self.theorem.why}; in the simulator: {self.replay}",)

    @property
    def tools(self) -> dict[str, str]:
        """What took part in it, with its version."""
        return {SOLVER: version(SOLVER)} if solver_is_here() else {}


def solver_is_here() -> bool:
    """Whether the extra ``proofs`` is installed."""
    return find_spec(SOLVER) is not None


def steps_on_a_core(artifact: Artifact, lowered: Lowered) -> CArtifact | None:
    """The artifact, where it has an integer step that a core runs."""
    if not isinstance(artifact, CArtifact) or artifact.chip is None or lowered.numbers.arithmetic != "integer":
        return None
    return artifact


def step_proof(
    artifact: Artifact, lowered: Lowered, folder: Path, seconds: float | Literal["off"], phases: Phases
) -> StepProof | None:
    """Of the ELF in ``folder``; None where none is asked for or there is no integer step on a core."""
    held = steps_on_a_core(artifact, lowered)
    if held is None or seconds == "off":
        return None
    elf = folder / held.named("elf")
    if not elf.is_file() or not solver_is_here():
        why = ABSENT if elf.is_file() else f"{elf.name} was not built"
        return StepProof(_chip(held).name, Theorem("undecided", why=why, settled=False))
    return prove_elf(held, lowered, elf.read_bytes(), seconds, phases)


def prove_elf(artifact: CArtifact, lowered: Lowered, elf: bytes, seconds: float, phases: Phases) -> StepProof:
    """Of an ELF that holds the artifact's functions."""
    chip, program = _chip(artifact), lowered.program
    with phases.phase(f"program = {chip.name}, all inputs") as phase:
        found = prove_step(elf, chip, calls(artifact.face), program, prove(program), Budget(seconds))
        phase.note = found.why if found.answer != "proved" else f"proved, {found.shown} of {found.outcomes} outcomes"
        phase.mark = ANSWERS[found.answer].mark
        witness = found.counterexample
        return StepProof(chip.name, found, None if witness is None else _replayed(artifact, elf, witness))


def _chip(artifact: CArtifact) -> Core:
    assert artifact.chip is not None
    return artifact.chip


def _replayed(artifact: CArtifact, elf: bytes, witness: Counterexample) -> str:
    try:
        found = differences(elf, _chip(artifact), artifact.face, witness.raw)
    except NcpcError as error:
        return str(error)
    return "; ".join(found) or "no output, state or status bit differs there"
