"""``ncpc certify --error``: how far a build's outputs can ever be from the network that was trained."""

from __future__ import annotations

from pathlib import Path

from ncpc.driver.certification import certify_build, require_c
from ncpc.driver.reopen import made_build
from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, BadInput
from ncpc.phases import Phases
from ncpc.proofs.certify import text_of
from ncpc.proofs.errors.certify import certify, dumps, read
from ncpc.proofs.errors.words import words
from ncpc.system.files import write_atomically

LIMITS = ("  this is about the C in the folder as it stands; that it is what the policy gives, and a library or ELF\n"
          "  what the C gives, is another question: 'ncpc verify' makes the build again and compares\n")


def certified(folder: Path, error: bool, out: Path | None, given: Path | None, phases: Phases) -> tuple[int, str]:
    """``ncpc certify``: the error with ``error``, else that nothing overflows. Raises BadInput."""
    if error:
        return certify_errors(folder, out, given, phases)
    if out or given:
        raise BadInput("--out, --check: they go with --error; give that too, or leave them out")
    code, text = certify_build(folder)
    return code, text + (LIMITS if code == EXIT_HOLDS else "")


def certify_errors(
    folder: Path, out: Path | None = None, given: Path | None = None, phases: Phases | None = None
) -> tuple[int, str]:
    """Exit code (0: certified, 1: not) and what there is to say of a build.

    The certificate, or the outcome without one, goes to the file ``out``; ``given`` is one to check, without a search.
    Raises Differs for a folder that is not what its policy and request make, ``Unsupported`` for what none covers.
    """
    phases = phases or Phases()
    text = None if given is None else _text(given)
    job, made = made_build(folder, phases)
    policy, program = job.policy, made.lowering.lowered.program
    require_c(job, program, made.artifact.files)
    with phases.phase("certify the error" if text is None else "check the certificate") as phase:
        found = certify(policy, program) if text is None else read(policy, program, text, str(given))
        phase.note = f"{found.count} inequalities" if found.certificate is not None else "not certified"
    if out is not None:
        write_atomically(out, dumps(found).encode())
    return EXIT_HOLDS if found.certificate is not None else EXIT_DOES_NOT_HOLD, words(policy, program, found)


def _text(path: Path) -> str:
    try:
        return text_of(path)
    except OSError as error:
        why = error.strerror
    except UnicodeDecodeError:
        why = "no text in UTF-8"
    raise BadInput(f"{path}: cannot be read ({why}); give a file made by 'ncpc certify --error -o'")
