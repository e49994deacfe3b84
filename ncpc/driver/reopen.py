"""A build folder, used again: verified on other data, run, stepped. Nothing is written to it, and nothing in it is run:
its policy and request make the build again elsewhere, the folder is compared with that byte by byte, and that is run.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ncpc.driver import builds
from ncpc.driver.again import Comparison, Differs, Original, Otherwise, artifacts, derived
from ncpc.driver.job import Job, counting, generated, given, job_for, require_data, require_steps, require_tolerance
from ncpc.driver.pipeline import Made, Outcome, compile_into, make
from ncpc.driver.request_file import read_request, request_bytes
from ncpc.driver.session import OpenBuild
from ncpc.driver.signing import require_signed
from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, EXIT_MISSING_TOOL, BadInput
from ncpc.frontend.container import policy_bytes
from ncpc.ir.sequences import Sequences
from ncpc.phases import Phases
from ncpc.proofs.errors.certificate import ERROR_CERTIFICATE
from ncpc.targets.base import Artifact, Built, RunResult
from ncpc.verification.data import Counting, DataSet

COMPILER = re.compile(r"([a-z0-9_.]+-)*(gcc|clang)(-[0-9.]+)?")
"""Names of C compilers that are called for a folder's word, from PATH; a path in a request is never called."""


def verify_build(
    folder: str | Path,
    inputs: object | None = None,
    *,
    tolerance: float | None = None,
    verdict: Counting | None = None,
    strict: bool = False,
    steps: int | None = None,
    key: str | Path | None = None,
    phases: Phases | None = None,
) -> Outcome:
    """Verify a build again, and on ``inputs`` (an npz file, array or mapping) too, which are data of the user's own.

    ``tolerance`` and ``verdict`` (what counts: data, data+generated, all) None are what it was compiled with;
    ``strict`` is ``verdict="all"``. Every file that is not, byte for byte, what the
    build's policy and request make is a reason against the verdict; a file that cannot be made again here, for want of
    the tool that made it, is exit code 3. ``key`` is the public key (a minisign file, or its text) of whoever must have
    signed the build: nothing else is looked at before that is sure, and what cannot be made again is believed then.
    """
    phases, folder = phases or Phases(), Path(folder)
    if key is not None:
        with phases.phase("signature") as phase:
            phase.note = require_signed(folder, key)
    original, asked = _read(folder)
    require_tolerance(tolerance)
    job = _changed(asked, tolerance=tolerance, verdict=counting(verdict, strict), steps=steps)
    own = None if inputs is None else given(job, inputs)
    require_data(job, own)
    with _scratch() as made:
        seen: list[Comparison] = []

        def look(built: Built) -> None:
            builds.write_files(made, {builds.REQUEST: request_bytes(asked)})
            with phases.phase("compare with the folder") as phase:
                seen.append(_compared(original, made, built, asked))
                phase.note = f"{seen[-1].compared} of {len(original.names())} files"
            if seen[-1].faults:
                raise Differs(seen[-1].faults)

        outcome = compile_into(made, job, phases, own, look)
        if seen and not seen[-1].faults:
            with phases.phase("compare with the report") as phase:
                seen.append(derived(original, made, outcome.report, _otherwise(asked, job, own, seen[-1])))
                phase.note = f"{seen[-1].compared} more files"
                phase.mark = "✗" if seen[-1].faults else "-" if seen[-1].notes or seen[-1].unmade else "✓"
    return dataclasses.replace(_judged(outcome, seen, key is not None), folder=folder)


def open_build(folder: str | Path, runtime: str | None = None) -> OpenBuild:
    """The build in ``folder``, ready to step: ``reset()``, ``step(x, dt) -> y``, ``status``, ``close()``. ``x`` is
    (inputs,), or a frame where the policy reads frames.

    ``runtime`` is one of the build's links (``host``, the simulated device, ...); None takes the one nearest to the
    device. Raises BadInput for another one, MissingTool when what it needs is not installed, and an error of exit code
    1 where the folder is not what its policy and request make.
    """
    with ExitStack() as made:
        job, again, files = made.enter_context(_made(Path(folder), Phases()))
        session = opened(job, again.artifact, files, runtime)
        session.at_close = made.pop_all().close
    return session


def opened(job: Job, artifact: Artifact, folder: Path, runtime: str | None = None) -> OpenBuild:
    """``open_build`` of a job whose files stand in ``folder`` as long as the session is open."""
    runtimes = [link.runtime for link in artifact.links]
    if runtime is not None and runtime not in runtimes:
        raise BadInput(f"runtime '{runtime}': the build of {job.policy.name} has {', '.join(runtimes)}")
    session = artifact.open(folder, runtime or runtimes[-1])
    return OpenBuild(job.policy, session, takes_dt=job.options.dt == "runtime")


def simulate_build(
    folder: str | Path, inputs: object | None = None, *, steps: int = 1000, phases: Phases | None = None
) -> tuple[RunResult, Sequences]:
    """Run a build in the runtime nearest to the device; the run, and the data as the policy saw it."""
    phases = phases or Phases()
    job = _changed(_read(Path(folder))[1], steps=steps)
    own = None if inputs is None else given(job, inputs)
    with _made(Path(folder), phases) as (_, again, made):
        links = again.artifact.links
        chosen = own or generated(job, links)
        data = chosen.sequences
        runtime = links[-1].runtime
        with phases.phase(f"run on {runtime}") as phase:
            result = again.artifact.run(made, data, runtime)
            phase.note = f"{data.steps} steps"
    return result, data


def job_of(folder: Path) -> Job:
    """What a build was asked for, of which nothing is made. Raises BadInput."""
    return _read(folder)[1]


def made_build(folder: str | Path, phases: Phases) -> tuple[Job, Made]:
    """A build's job and all that it makes, the folder's files being that. Raises Differs for another folder."""
    with _made(Path(folder), phases) as (job, again, _):
        return job, again


@contextmanager
def _made(folder: Path, phases: Phases) -> Iterator[tuple[Job, Made, Path]]:
    """The build made again in a folder for the length of a block. Raises Differs for a folder that is not equal to it,
    as far as its files could be made again: those that could not are not there.
    """
    original, job = _read(folder)
    with _scratch() as made:
        builds.write_files(made, {builds.REQUEST: request_bytes(job)})
        again = make(made, job, phases)
        faults = _compared(original, made, again.built, job).faults
        if faults:
            raise Differs((f"{folder}: {faults[0]}", *faults[1:], f"see 'ncpc verify {folder}'"))
        yield job, again, made


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ncpc-again-") as name:
        yield Path(name)


def _read(folder: Path) -> tuple[Original, Job]:
    """The build as it stands, and the job that its request and policy describe. Raises BadInput."""
    report = builds.read_report(folder)
    request, sha256 = read_request(folder)
    job, original = job_for(folder / builds.POLICY, request), Original(folder, report, sha256)
    held = original.content(ERROR_CERTIFICATE) if request.certify == "error" else None
    certificate = None if held is None else held.decode(errors="replace")
    return original, dataclasses.replace(job, compiler=_compiler(request.cc), certificate=certificate)


def _changed(job: Job, **changes: Any) -> Job:
    """The job with some of its request changed; what is built stays what the build was asked for. Raises BadInput."""
    said = {name: value for name, value in changes.items() if value is not None}
    require_steps(job.policy, said.get("steps"))
    return dataclasses.replace(job, request=dataclasses.replace(job.request, **said))


def _otherwise(asked: Job, job: Job, own: DataSet | None, found: Comparison) -> Otherwise:
    """What of this verification is not as at compile time, where the artifact is as ``found``."""
    same_steps = job.request.steps == asked.request.steps
    if found.unmade:
        return Otherwise("not all of what they speak of could be built again here", same_steps, True)
    if own is not None or job.request != asked.request:
        return Otherwise("they answer to the options and inputs at compile time, not to those given here", same_steps)
    return Otherwise()


def _compiler(cc: str) -> str:
    """What to call for the compiler ``cc`` of a request: one of this name on PATH, so that no folder says what is run.
    The path of a compiler that is not there names the folder that PATH lacks; a relative one leads nobody knows where.
    """
    name = Path(cc).name
    if name != cc and not Path(cc).is_absolute():
        raise BadInput(f"{builds.REQUEST}: '{cc}' is a relative path, of which nobody knows where it leads from; "
                       "compile again with the compiler's name or whole path")
    if cc == "zig":
        return cc
    if COMPILER.fullmatch(name) is None:
        raise BadInput(f"{builds.REQUEST}: '{cc}' is no name of a C compiler that ncpc calls (gcc or clang); to verify "
                       "such a build, link the compiler under such a name on PATH and compile again")
    return shutil.which(name) or name


def _compared(original: Original, made: Path, built: Built, job: Job) -> Comparison:
    found = artifacts(original, made, built)
    if original.policy_sha256 == builds.sha256(policy_bytes(job.policy)):
        return found
    line = f"{builds.POLICY} is not the policy that was compiled ({builds.REQUEST} gives another SHA-256)"
    return dataclasses.replace(found, faults=(line, *found.faults))


def _judged(outcome: Outcome, seen: list[Comparison], signed: bool) -> Outcome:
    """The outcome with what the comparisons with the folder say of it; a signature speaks for what was not made again.
    """
    faults = tuple(line for one in seen[1:] for line in one.faults)
    unmade = tuple(line for one in seen for line in one.unmade)
    notes = tuple(line for one in seen for line in one.notes)
    verdict = outcome.report["verdict"]
    code = outcome.exit_code
    if faults:
        code = EXIT_DOES_NOT_HOLD
    elif unmade and not signed and code == EXIT_HOLDS:
        code = EXIT_MISSING_TOOL
    reasons = [*verdict["reasons"], *faults, *(f"not run: {line}" for line in unmade if not signed)]
    verdict = {**verdict, "holds": code == EXIT_HOLDS, "reasons": reasons,
               "not_run": [*verdict["not_run"], *unmade, *notes]}
    return dataclasses.replace(outcome, report={**outcome.report, "verdict": verdict}, exit_code=code)
