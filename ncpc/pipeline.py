"""The compiler from end to end, as a recipe: read, lower, emit, build, verify, report.

Each stage is a function of frozen values; this module calls them in order and keeps the folder whole.
"""

from __future__ import annotations

import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpc import builds
from ncpc.errors import EXIT_DOES_NOT_HOLD, NcpcError
from ncpc.frontend.container import policy_bytes
from ncpc.ir.policy import Policy
from ncpc.job import Data, Job, Request, data_for, demand_for, facts_for, job_for, setting_for, to_json
from ncpc.lowering import Lowering, lower_for
from ncpc.phases import Phases
from ncpc.report.html import page
from ncpc.report.record import Facts, Json, build_report, dumps
from ncpc.targets.base import Built
from ncpc.verify.verdict import Verdict, Verification, verify


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


@dataclass
class _Progress:
    """How far a compilation has come; what is there when it fails."""

    lowering: Lowering | None = None
    built: Built = dataclasses.field(default_factory=Built)


def compile_policy(
    policy: str | Path | Policy,
    out: str | Path,
    request: Request,
    *,
    calibrate: str | Path | None = None,
    phases: Phases | None = None,
) -> Outcome:
    """Compile ``policy`` (a container's path, or a Policy) for ``request.target`` into the folder ``out``.

    ``calibrate`` is an npz file that replaces the container's calibration data. The folder is kept when the verdict
    does not hold. Raises BadInput, Unsupported or MissingTool, and leaves nothing behind then.
    """
    phases = phases or Phases()
    with phases.phase("read") as phase:
        job = job_for(policy, request, calibrate)
        phase.note = f"{job.policy.name}: {', '.join(layer.kind for layer in job.policy.layers)}"
    with builds.staged(Path(out)) as folder:
        outcome = _compile_into(folder, job, phases)
        builds.write_files(folder, {builds.TIMING: to_json({"seconds": phases.seconds})})
    return dataclasses.replace(outcome, folder=Path(out))


def _compile_into(folder: Path, job: Job, phases: Phases) -> Outcome:
    """The recipe; what fails on the way becomes a report with that reason when its exit code says "does not hold"."""
    so_far = _Progress()
    try:
        lowering, built = _make(folder, job, phases, so_far)
        data = data_for(job, lowering.lowered, None)
        setting = setting_for(job, folder, lowering.lowered, data)
        found = verify(setting, demand_for(job, misfits(job, built)), phases)
    except NcpcError as error:
        if error.exit_code != EXIT_DOES_NOT_HOLD:
            raise
        return _failed(folder, job, so_far, error)
    with phases.phase("report"):
        return _report(folder, facts_for(job, lowering, built, found, data.words), data)


def _make(folder: Path, job: Job, phases: Phases, so_far: _Progress) -> tuple[Lowering, Built]:
    """Lower, emit, build: everything up to the artifact."""
    with phases.phase("quantize and lower" if job.options.quant in ("int16", "int8") else "lower") as phase:
        lowering = so_far.lowering = lower_for(job.container, job.options)
        phase.note = lowering.note
    with phases.phase("emit") as phase:
        files = job.target.emit(lowering.lowered, job.options)
        phase.note = f"{len(files)} files, {sum(map(len, files.values())):,} bytes"
    builds.write_files(folder, {builds.POLICY: policy_bytes(job.policy, lowering.formats), **files})
    with phases.phase("build") as phase:
        built = so_far.built = job.target.build(folder, lowering.lowered, job.options)
        phase.note = "; ".join(built.missing)
    return lowering, built


def misfits(job: Job, built: Built) -> list[str]:
    """Why the artifact does not fit the core, one line each."""
    if built.memory is None:
        return []
    can, memory = job.target.capabilities, built.memory
    limits = [("flash", memory.flash_bytes, memory.flash_has or can.flash_bytes),
              ("RAM", memory.ram_bytes, memory.ram_has or can.ram_bytes)]
    return [f"needs {used:,} bytes of {what}, {job.target.name} has {has:,}" for what, used, has in limits
            if has is not None and used > has]


def _report(folder: Path, facts: Facts, data: Data) -> Outcome:
    """Everything of the build folder that is not the artifact."""
    assert facts.verification is not None
    builds.write_files(folder, {
        builds.TRACE: to_json(facts.built.trace),
        builds.VECTORS: vectors(facts.verification, data),
    })
    return _written(folder, facts, facts.verification.verdict.exit_code)


def _failed(folder: Path, job: Job, so_far: _Progress, error: NcpcError) -> Outcome:
    """A build that ended before the verdict: the files there are, and a report that says why."""
    if not (folder / builds.POLICY).exists():
        builds.write_files(folder, {builds.POLICY: policy_bytes(job.policy, job.container.formats)})
    facts = facts_for(job, so_far.lowering, so_far.built, None)
    verdict = Verdict(False, (str(error),), (), error.exit_code)
    return _written(folder, dataclasses.replace(facts, verdict=verdict), error.exit_code)


def _written(folder: Path, facts: Facts, exit_code: int) -> Outcome:
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    facts = dataclasses.replace(facts, files=builds.hashes(folder, names))
    report = build_report(facts)
    builds.write_files(folder, {builds.REPORT: dumps(report).encode(), builds.PAGE: page(report, facts).encode()})
    return Outcome(folder, report, exit_code, facts.verification)


def vectors(found: Verification, data: Data) -> bytes:
    """vectors.npz: what was fed in (x, dt, reset) and what the deployed policy gave back (y), in physical units."""
    rows, length = found.deployed_trace.y.shape[:2]
    sequences = data.sequences
    arrays: dict[str, Any] = {"x": sequences.x[:rows, :length], "y": found.deployed_trace.y}
    if sequences.dt is not None:
        arrays["dt"] = sequences.dt[:rows, :length]
    if sequences.reset is not None:
        arrays["reset"] = sequences.reset[:rows, :length]
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
