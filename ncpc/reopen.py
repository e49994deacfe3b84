"""A build folder, used again: verified on other data, run, stepped. Nothing is written to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncpc import builds
from ncpc.errors import BadInput
from ncpc.ir.sequences import Sequences
from ncpc.job import Job, Request, data_for, demand_for, facts_for, job_for, links, require_tolerance, setting_for
from ncpc.lowering import Lowering, lower_for
from ncpc.phases import Phases
from ncpc.pipeline import Outcome
from ncpc.report.record import Json, build_report
from ncpc.session import OpenBuild
from ncpc.targets.base import Built, Memory, RunResult, Session
from ncpc.verify.compare import state_names
from ncpc.verify.verdict import verify


def verify_build(
    folder: str | Path,
    inputs: object | None = None,
    *,
    tolerance: float | None = None,
    strict: bool | None = None,
    steps: int | None = None,
    phases: Phases | None = None,
) -> Outcome:
    """Verify a build again, on ``inputs`` (an npz file, array or mapping; None: generated sequences).

    ``tolerance`` and ``strict`` None are what it was compiled with. Files that changed since then count as reasons
    against the verdict.
    """
    phases, folder = phases or Phases(), Path(folder)
    report = builds.read_report(folder)
    job = reopened(folder, report, strict=strict, steps=steps)
    require_tolerance(tolerance)
    if tolerance is not None:  # the verdict's alone: what was built is sized by the tolerance it was built for
        job = dataclasses.replace(job, request=dataclasses.replace(job.request, tolerance=tolerance))
    with phases.phase("lower"):
        lowering = lower_for(job.container, job.options)
    data = data_for(job, lowering.lowered, inputs)
    setting = setting_for(job, folder, lowering.lowered, data)
    found = verify(setting, demand_for(job, builds.changed(folder, report)), phases)
    facts = facts_for(job, lowering, _built(report, lowering), found, data.words)
    again = build_report(dataclasses.replace(facts, files=report["files"]))
    return Outcome(folder, again, found.verdict.exit_code, found)


def open_build(folder: str | Path, runtime: str | None = None) -> Session:
    """The build in ``folder``, ready to step: ``reset()``, ``step(x, dt) -> y``, ``status``, ``close()``. ``x`` is
    (inputs,), or a frame where the policy reads frames.

    ``runtime`` is one of the build's links (``host``, the simulated device, ...); None takes the one nearest to the
    device. Raises BadInput for another one, MissingTool when what it needs is not installed.
    """
    folder = Path(folder)
    job = reopened(folder, builds.read_report(folder))
    lowered = lower_for(job.container, job.options).lowered
    runtimes = [link.runtime for link in links(job, lowered)]
    if runtime is not None and runtime not in runtimes:
        raise BadInput(f"runtime '{runtime}': the build in {folder} has {', '.join(runtimes)}")
    return OpenBuild(job.policy, job.target.open(folder, lowered, job.options, runtime or runtimes[-1]))


def simulate_build(
    folder: str | Path, inputs: object | None = None, *, steps: int = 1000, phases: Phases | None = None
) -> tuple[RunResult, Sequences]:
    """Run a build in the runtime nearest to the device; the run, and the data as the policy saw it."""
    phases, folder = phases or Phases(), Path(folder)
    job = reopened(folder, builds.read_report(folder), steps=steps)
    lowered = lower_for(job.container, job.options).lowered
    data = data_for(job, lowered, inputs).sequences
    runtime = links(job, lowered)[-1].runtime
    with phases.phase(f"run on {runtime}") as phase:
        result = job.target.run(folder, lowered, job.options, data, runtime)
        phase.note = f"{data.steps} steps"
    return result, data


def reopened(folder: Path, report: Json, **changes: Any) -> Job:
    """The job a build came from, with some of its request changed."""
    target, verdict = report["target"], report["verdict"]
    asked = Request(
        target=target["name"], quant=report["quant"]["scheme"], dt=target["dt"], cc=target["cc"],
        tolerance=verdict["tolerance"], strict=verdict["strict"], extra=target["options"],
    )
    given = {name: value for name, value in changes.items() if value is not None}
    return job_for(folder / builds.POLICY, dataclasses.replace(asked, **given))


def _built(report: Mapping[str, Any], lowering: Lowering) -> Built:
    """What the report says of the build; of formats and proof only where they are not the Program's."""
    memory, formats, proof = report["memory"], report["quant"]["formats"], report["proof"]
    kept = None if memory is None else Memory(memory["flash_bytes"], memory["ram_bytes"], memory["stack_bytes"])
    built = Built(memory=kept, tools=report["tools"], extra=report["extra"])
    if formats == lowering.lowered.formats or proof is None:
        return built
    box = [(end.get("lo"), end.get("hi")) for end in proof.get("box", ())]
    if len(box) != len(state_names(lowering.lowered.program)):
        raise BadInput(f"report.json: damaged, {len(box)} proved ranges for another number of states; compile again")
    return dataclasses.replace(built, formats=formats, proof={**proof, "box": box})
