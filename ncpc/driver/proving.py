"""``ncpc prove``: that a build's linked step is its Program, for every input and every state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ncpc.cores import Core, load_core
from ncpc.cores.elf import read_elf
from ncpc.driver.job import Job
from ncpc.driver.reopen import job_of, made_build
from ncpc.driver.step_proof import ABSENT, StepProof, prove_elf, solver_is_here, steps_on_a_core
from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, EXIT_UNDECIDED, BadInput, MissingTool, Unsupported, reason
from ncpc.ir.schemes import SCHEMES
from ncpc.phases import Phases
from ncpc.report.record import Json
from ncpc.report.theorem import theorem_lines
from ncpc.targets.c.names import identifier

CODES = {"proved": EXIT_HOLDS, "differs": EXIT_DOES_NOT_HOLD, "undecided": EXIT_UNDECIDED}


@dataclass(frozen=True, eq=False)
class Proved:
    """The proof of a build of ``policy``, or of the program ``own`` that holds its C, and how long it took."""

    policy: str
    found: StepProof
    seconds: float
    own: Path | None = None

    @property
    def exit_code(self) -> int:
        """0: proved, 1: differs, 4: not decided."""
        return CODES[self.found.theorem.answer]


def prove_build(folder: Path, seconds: float, elf: Path | None = None, phases: Phases | None = None) -> Proved:
    """Prove within so many seconds the ELF in ``folder``, or the program ``elf`` that its C was linked into.

    The folder is compared with what its policy makes before. Raises Differs for another folder, Unsupported for a build
    without an integer step on a core, MissingTool without the solver or the ELF.
    """
    phases = phases or Phases()
    if not seconds > 0:
        raise BadInput(f"--seconds {seconds:g}: give the time that the proof may take, more than 0")
    asked = job_of(folder)
    core, step = _core(folder, asked), f"{identifier(asked.policy.name)}_step"
    given = None if elf is None else _program(elf, core, step)
    if not solver_is_here():
        raise MissingTool(ABSENT)
    job, made = made_build(folder, phases)
    artifact = steps_on_a_core(made.artifact, made.lowering.lowered)
    assert artifact is not None
    content = _built(folder / artifact.named("elf")) if given is None else given
    begin = time.monotonic()
    found = prove_elf(artifact, made.lowering.lowered, content, seconds, phases)
    return Proved(job.policy.name, found, time.monotonic() - begin, elf)


def _program(elf: Path, core: Core, step: str) -> bytes:
    """The content of a program for the core with the step in it. Raises BadInput for anything else, before a build is
    made.
    """
    try:
        content = elf.read_bytes()
        image = read_elf(content)
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else f"cannot be read ({reason(error)})"
        raise BadInput(f"{elf}: {why}; give a program that the build's C was linked into") from None
    except BadInput as error:
        raise BadInput(f"{elf}: {error}") from None
    if image.machine != core.elf_machine:
        raise BadInput(f"{elf}: is for {image.machine}, the build for {core.name} ({core.elf_machine}); compile for "
                       "the core that the program runs on")
    if not any(symbol.name == step for symbol in image.functions):
        raise BadInput(f"{elf}: has no function '{step}' among its symbols: link the build's C into it, do not strip "
                       "it, and compile that file with -fno-lto, so that the step is not inlined")
    return content


def _built(elf: Path) -> bytes:
    if not elf.is_file():
        raise MissingTool(f"{elf}: was not built, as the compiler for the core was missing; compile again with it")
    return elf.read_bytes()


def _core(folder: Path, job: Job) -> Core:
    """That the build steps on. Raises Unsupported for one without an integer step on a core."""
    if job.target.core is None or SCHEMES[job.options.quant].arithmetic != "integer":
        raise Unsupported(f"{folder}: '{job.target.name}' with {job.options.quant} has no integer step on a core; "
                          "compile for a core (see 'ncpc targets') with an integer scheme")
    return load_core(job.target.core)


def record(proved: Proved) -> Json:
    """What was found as JSON."""
    found = proved.found
    return {"policy": proved.policy, "target": found.target, **found.record, "terms": found.theorem.terms,
            "answers": dict(found.theorem.counts or {}), "seconds": round(proved.seconds, 2)}


def words(proved: Proved) -> Iterator[str]:
    """The same as lines."""
    title = f"{proved.policy}: program = {proved.found.target}"
    return theorem_lines(proved.found.record, title, built=proved.own is None)
