"""The compiler from end to end, as a recipe: read, lower, emit, build, verify, report.

Each stage is a function of frozen values; this module calls them in order and keeps the folder whole.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.cores.boards import roomier
from ncpc.cores.boards.clock import board_of
from ncpc.driver import builds
from ncpc.driver.again import Differs
from ncpc.driver.certification import certificates
from ncpc.driver.job import Job, Request, data_for, demand_for, facts_for, job_for, require_data, to_json
from ncpc.driver.lowering import LoweringResult, lower_for
from ncpc.driver.request_file import request_bytes
from ncpc.driver.step_proof import StepProof, step_proof
from ncpc.errors import EXIT_DOES_NOT_HOLD, BadInput, NcpcError
from ncpc.frontend.container import policy_bytes
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import SCHEMES
from ncpc.phases import Phases
from ncpc.report.html import page
from ncpc.report.record import Json, ReportFacts, build_report, device_run, dumps
from ncpc.targets.base import MODEL, Artifact, Built
from ncpc.verification.data import DataSet
from ncpc.verification.deadline import StepTime, step_time, timely
from ncpc.verification.explain import explain
from ncpc.verification.links import Setting
from ncpc.verification.verdict import Verdict, Verification, arithmetic, verify


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a compilation or verification came to: the folder, its report (schema 1), the command line's exit code."""

    folder: Path
    report: Json
    exit_code: int
    verification: Verification | None = None

    @property
    def holds(self) -> bool:
        """The verdict."""
        return bool(self.report["verdict"]["holds"])


@dataclass(frozen=True, eq=False)
class Made:
    """A policy at every level, what its target made of that, and what the outside tools made of its files."""

    lowering: LoweringResult
    artifact: Artifact
    built: Built


@dataclass
class Progress:
    """How far a compilation has come; what is there when it fails."""

    lowering: LoweringResult | None = None
    artifact: Artifact | None = None
    built: Built = dataclasses.field(default_factory=Built)


def compile_policy(
    policy: str | Path | Policy,
    out: str | Path,
    request: Request,
    *,
    calibrate: str | Path | None = None,
    force: bool = False,
    phases: Phases | None = None,
) -> Outcome:
    """Compile ``policy`` (a container's path, or a Policy) for ``request.target`` into the folder ``out``.

    ``calibrate`` is an npz file that replaces the container's calibration data. A build of a policy of the same name
    for the same target is replaced, another one only with ``force``. The folder is kept when the verdict does not hold.
    Raises BadInput, Unsupported or MissingTool, and leaves nothing behind then.
    """
    phases = phases or Phases()
    with phases.phase("read") as phase:
        job = ready(policy, out, request, calibrate, force)
        phase.note = f"{job.policy.name}: {', '.join(layer.kind for layer in job.policy.layers)}"
    with builds.staged(Path(out)) as folder:
        outcome = compile_into(folder, job, phases)
        builds.write_files(folder, {builds.TIMING: to_json({"seconds": phases.seconds})})
    return dataclasses.replace(outcome, folder=Path(out))


def ready(
    policy: str | Path | Policy, out: str | Path, request: Request, calibrate: str | Path | None = None,
    force: bool = False,
) -> Job:
    """The job of ``compile_policy``, which raises here what can be seen before any work."""
    job = job_for(policy, placed(request), calibrate)
    require_data(job)
    builds.require_place(Path(out), job.policy.name, job.target.name, force)
    return job


def placed(request: Request) -> Request:
    """The request with the whole path of a compiler that is given by a relative one."""
    cc = Path(request.cc)
    return request if cc.name == request.cc else dataclasses.replace(request, cc=str(cc.absolute()))


def compile_into(
    folder: Path, job: Job, phases: Phases, own: DataSet | None = None, look: Callable[[Built], object] = bool
) -> Outcome:
    """The recipe; what fails on the way becomes a report with that reason when its exit code says "does not hold".

    ``own`` are sequences of the user's beside those that the policy carries. ``look`` sees what was built before it is
    run; what it raises counts as what fails on the way.
    """
    so_far = Progress()
    builds.write_files(folder, {builds.REQUEST: request_bytes(job)})
    try:
        made = make(folder, job, phases, so_far)
        look(made.built)
        lowered = made.lowering.lowered
        step = step_proof(made.artifact, lowered, folder, job.request.prove, phases)
        sets = data_for(job, lowered, made.artifact.links, own)
        setting = Setting(job.target, made.artifact, folder, lowered, job.options, sets)
        faults = [*misfits(job, made.built), *(() if step is None else step.reasons)]
        found = verify(setting, demand_for(job, faults), phases)
        time = _time(job, found, step)
        found = timely(found, time)
        why = explain(found, phases)
    except NcpcError as error:
        if error.exit_code != EXIT_DOES_NOT_HOLD:
            raise
        return _failed(folder, job, so_far, error)
    with phases.phase("report"):
        return _report(folder, facts_for(job, made.lowering, made.built, found, why, step, time))


def make(folder: Path, job: Job, phases: Phases, so_far: Progress | None = None) -> Made:
    """Lower, emit, build: everything up to the artifact."""
    so_far = so_far or Progress()
    with phases.phase("quantize and lower" if SCHEMES[job.options.quant].arithmetic == "integer" else "lower") as phase:
        lowering = so_far.lowering = lower_for(job.container, job.options)
        phase.note = lowering.note
    with phases.phase("emit") as phase:
        artifact = so_far.artifact = job.target.prepare(lowering.lowered, job.build_options)
        files = artifact.files
        phase.note = f"{len(files)} files, {sum(map(len, files.values())):,} bytes"
        _require_free(files, job)
    builds.write_files(folder, {builds.POLICY: policy_bytes(job.policy, lowering.formats), **files})
    proofs, note = certificates(job, lowering.lowered, files, phases)
    builds.write_files(folder, proofs)
    with phases.phase("build") as phase:
        built = artifact.build(folder)
        built = so_far.built = dataclasses.replace(built, extra={**built.extra, **note})
        phase.note = "; ".join(built.missing)
    builds.write_files(folder, {builds.TRACE: to_json(built.trace)})
    return Made(lowering, artifact, built)


def _require_free(files: Mapping[str, bytes], job: Job) -> None:
    """Raises BadInput where the policy's name makes a file of the target one of the build's own."""
    for name in sorted(builds.OWN & set(files)):
        raise BadInput(f"policy '{job.policy.name}': target '{job.target.name}' would write {name}, which the build "
                       "needs itself; save the policy under another name")


def _time(job: Job, found: Verification, step: StepProof | None) -> StepTime | None:
    """What a step takes where it is to run; None where no board and no clock were asked for."""
    setup, device, ways = job.setup, device_run(found), None if step is None else step.record["cycles"]
    if setup is None:
        return None
    return step_time(setup, None if device is None else device.cycles, None if ways is None else ways["most"])


def misfits(job: Job, built: Built) -> list[str]:
    """Why the artifact does not fit the core, one line each."""
    if built.memory is None:
        return []
    can, memory = job.target.capabilities, built.memory
    limits = [("flash", memory.flash_bytes, memory.flash_has or can.flash_bytes),
              ("RAM", memory.ram_bytes, memory.ram_has or can.ram_bytes)]
    board = board_of(job.options.extra)
    name = job.target.name if board is None else board.name
    hint = "" if board is None else (f"; fewer bits (--quant) or smaller layers, or "
                                     f"{roomier(memory.flash_bytes, memory.ram_bytes)}")
    return [f"needs {used:,} bytes of {what}, {name} has {has:,}{hint}" for what, used, has in limits
            if has is not None and used > has]


def _report(folder: Path, facts: ReportFacts) -> Outcome:
    """Everything of the build folder that is not the artifact."""
    assert facts.verification is not None
    builds.write_files(folder, {builds.VECTORS: vectors(facts.verification)})
    return _written(folder, facts, facts.verification.verdict.exit_code)


def _failed(folder: Path, job: Job, so_far: Progress, error: NcpcError) -> Outcome:
    """A build that ended before the verdict: the files there are, and a report that says why."""
    if not (folder / builds.POLICY).exists():
        builds.write_files(folder, {builds.POLICY: policy_bytes(job.policy, job.container.formats)})
    facts = facts_for(job, so_far.lowering, so_far.built, None)
    if so_far.artifact is not None and so_far.built.proof is None and arithmetic(so_far.artifact) == MODEL:
        facts = dataclasses.replace(facts, proof=None)  # the Program's says nothing of other arithmetic
    reasons = error.reasons if isinstance(error, Differs) else (str(error),)
    verdict = Verdict(False, reasons, (), error.exit_code)
    return _written(folder, dataclasses.replace(facts, verdict=verdict), error.exit_code)


def _written(folder: Path, facts: ReportFacts, exit_code: int) -> Outcome:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    facts = dataclasses.replace(facts, files=builds.hashes(folder, names))
    report = build_report(facts)
    builds.write_files(folder, {builds.REPORT: dumps(report).encode(), builds.PAGE: page(report, facts).encode()})
    return Outcome(folder, report, exit_code, facts.verification)


def vectors(found: Verification) -> bytes:
    """vectors.npz: the generated sequences (x, dt, reset) and what the deployed policy gave back (y), in physical
    units.
    """
    ran, trace = found.generated.ran, found.generated.trace
    arrays: dict[str, Any] = {"x": ran.x, "y": trace.y, "dt": ran.dt, "reset": ran.reset}
    file = io.BytesIO()
    np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
    return file.getvalue()
