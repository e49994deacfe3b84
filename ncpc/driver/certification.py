"""Certificates: those of a compilation, and ``ncpc certify``: certify.py alone in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ncpc.driver import builds
from ncpc.driver.job import Job
from ncpc.errors import EXIT_DOES_NOT_HOLD, BadInput, Unsupported
from ncpc.ir.program import Program
from ncpc.phases import Phases
from ncpc.proofs import certify
from ncpc.proofs.certificate import CERTIFICATE, CHECKER, EXTRA, Certified, certified, checker
from ncpc.proofs.errors.certificate import ERROR_CERTIFICATE, ERROR_EXTRA
from ncpc.proofs.errors.certify import Certification, dumps, read
from ncpc.proofs.errors.certify import certify as certify_error
from ncpc.proofs.errors.words import record
from ncpc.targets.base import Lowered
from ncpc.targets.c.interface import state_fields
from ncpc.targets.c.names import Names, identifier


def certificates(job: Job, lowered: Lowered, files: Mapping[str, bytes], phases: Phases
                 ) -> tuple[dict[str, bytes], dict[str, Any]]:
    """What --certify asks for: files for the build folder, and what the report says of each, under its key there."""
    made: dict[str, bytes] = {}
    said: dict[str, Any] = {}
    if job.request.certify != "none" and lowered.proved and any(name.endswith(".c") for name in files):
        with phases.phase("certify") as phase:
            found = range_certificate(lowered.program, files)
            phase.note, phase.mark = found.note, phase.mark if found.holds else "✗"
        made |= found.files
        said[EXTRA] = {"certified": found.holds, "note": found.note}
    if job.request.certify == "error":
        with phases.phase("certify the error") as phase:
            outcome = _error(job, lowered.program, files)
            said[ERROR_EXTRA] = record(job.policy, lowered.program, outcome)
            phase.note, phase.mark = said[ERROR_EXTRA]["note"], phase.mark if outcome.certificate else "✗"
        made[ERROR_CERTIFICATE] = dumps(outcome).encode()
    return made, said


def range_certificate(program: Program, files: Mapping[str, bytes]) -> Certified:
    """The certificate of an integer program's emitted C, in the folder of the C."""
    name = identifier(program.name)
    place = next(path for path in files if PurePosixPath(path).name == f"{name}.c").removesuffix(f"{name}.c")
    beside = {path.removeprefix(place): content for path, content in files.items() if path.startswith(place)}
    found = certified(program, beside, name, [field.name for field in state_fields(program, Names())])
    return replace(found, files={place + path: content for path, content in found.files.items()})


def _error(job: Job, program: Program, files: Mapping[str, bytes]) -> Certification:
    """The error's certificate: searched and checked, or of a build that is made again, checked alone."""
    try:
        require_c(job, program, files)
        if job.certificate is not None:
            return read(job.policy, program, job.certificate, ERROR_CERTIFICATE)
        return certify_error(job.policy, program)
    except (Unsupported, BadInput) as error:
        return Certification(None, reason=str(error))


def require_c(job: Job, program: Program, files: Mapping[str, bytes]) -> None:
    """Raises ``Unsupported`` for files without the program's C: of other arithmetic no error certificate speaks."""
    if f"{identifier(program.name)}.c" not in files:
        raise Unsupported(f"an error certificate speaks of integer C; target '{job.target.name}' runs other "
                          "arithmetic: compile for host or a core")


def certify_build(folder: Path) -> tuple[int, str]:
    """Exit code (0: certified, 1: not) and what there is to say. Raises BadInput for a folder without a certificate.

    What runs is ncpc's own checker: the build's copy has to be equal to it, as it is what others will run.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no folder of this name; give the build folder of 'ncpc compile'")
    if not (folder / CERTIFICATE).is_file() and any(folder.glob(f"*/{builds.REPORT}")):
        builds.require_build(folder)
    folder = _place(folder)
    if not (folder / CERTIFICATE).is_file():
        raise BadInput(f"{folder}: holds no {CERTIFICATE}; integer C has one unless it is compiled with --certify none")
    copy = folder / CHECKER
    if not copy.is_file() or copy.read_bytes() != checker():
        return EXIT_DOES_NOT_HOLD, f"not certified: {copy} is not the checker of this ncpc; compile again\n"
    command = [sys.executable, "-I", "-S", "-X", "utf8", certify.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode == BadInput.exit_code:
        raise BadInput(done.stderr.strip().removeprefix("certify: "))
    if done.returncode not in (0, EXIT_DOES_NOT_HOLD):
        return EXIT_DOES_NOT_HOLD, f"not certified: the checker ended with {done.returncode}: {done.stderr[-200:]}\n"
    return done.returncode, done.stdout


def _place(folder: Path) -> Path:
    """Where a build's certificate is: in it, or beside its C in a folder of its own."""
    paths = (folder / CERTIFICATE, *sorted(folder.glob(f"*/{CERTIFICATE}")))
    return next((path.parent for path in paths if path.is_file()), folder)
