"""A point measured: really compiled, run in the target's runtimes, and compared with the original policy."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ncpc.driver.job import data_for, demand_for
from ncpc.driver.lowering import real_step
from ncpc.driver.pipeline import make, misfits
from ncpc.errors import EXIT_MISSING_TOOL, MissingTool, NcpcError
from ncpc.ir.sequences import Sequences, Trace
from ncpc.phases import Phases
from ncpc.report.record import Json, device_run, memory_record
from ncpc.semantics.run import run
from ncpc.tuning.budgets import costs_of
from ncpc.tuning.choice import MeasuredPoint, Point
from ncpc.tuning.knobs import Space, Task, job_of
from ncpc.verification.errors import measure
from ncpc.verification.links import Setting
from ncpc.verification.verdict import Measured, Verification, deciding, ranged, verify


@dataclass(frozen=True, eq=False)
class Originals:
    """What the original policy gives in float64, run once for the same sequences."""

    task: Task
    known: dict[str, Trace] = field(default_factory=dict)

    def trace(self, data: Sequences) -> Trace:
        """Over ``data``."""
        arrays = [np.ascontiguousarray(a) for a in (data.x, data.dt, data.reset) if a is not None]
        key = hashlib.sha256(b"".join(str(a.shape).encode() + a.tobytes() for a in arrays)).hexdigest()
        if key not in self.known:
            self.known[key] = run(real_step(self.task.policy, self.task.job.options.dt), data)
        return self.known[key]


def measured_point(task: Task, space: Space, point: Point, originals: Originals) -> MeasuredPoint:
    """Compile a point into a folder that is gone afterwards, verify it, measure it. What cannot be built, and links
    that do not hold, become reasons; a missing tool is raised, as no other point could do without it.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ncpc-tune-") as folder:
            found, memory = _verified(task, space, point, Path(folder))
            return _measured(task, point, found, memory, originals)
    except MissingTool:
        raise
    except NcpcError as error:
        return MeasuredPoint(point, reasons=(str(error),))


def _verified(task: Task, space: Space, point: Point, folder: Path) -> tuple[Verification, Json | None]:
    """What a compilation does up to its verdict, without certificates, reports and a search that does not count."""
    job = job_of(task, space, point, certify="none")
    made = make(folder, job, Phases())
    lowered, artifact = made.lowering.lowered, made.artifact
    setting = Setting(job.target, artifact, folder, lowered, job.options, data_for(job, lowered, artifact.links))
    demand = demand_for(job, misfits(job, made.built))
    demand = replace(demand, search=demand.search and demand.counting == "all")
    found = verify(setting, demand, Phases())
    return found, memory_record(made.built.memory, device_run(found))


def _measured(task: Task, point: Point, found: Verification, memory: Json | None, originals: Originals
              ) -> MeasuredPoint:
    """The costs and errors of what was verified. Raises MissingTool where what decides was not run."""
    if found.verdict.exit_code == EXIT_MISSING_TOOL:
        raise MissingTool("; ".join(found.verdict.reasons))
    against = [_against(m, originals, found) for m in found.measured]
    error, own = deciding(ranged(against)).error.fraction, found.deciding.error.fraction
    broken = any(not link.holds for chain in found.chains for link in chain.links if not link.not_run)
    if broken or found.demand.reasons or not np.isfinite([error, own]).all():
        return MeasuredPoint(point, reasons=found.verdict.reasons)
    beside = () if found.verdict.holds or own > found.demand.tolerance else found.verdict.reasons
    return MeasuredPoint(point, _costs(costs_of(task.job.target), found, memory), error, own, beside)


def _against(m: Measured, originals: Originals, found: Verification) -> Measured:
    reference = originals.trace(m.ran)
    return replace(m, reference=reference, error=measure(reference, m.trace, found.setting.lowered.program, m.ran))


def _costs(names: Sequence[str], found: Verification, memory: Json | None) -> dict[str, int]:
    """By name. Raises MissingTool where no runtime measured one: no budget could be said to be met."""
    device = device_run(found)
    held = memory or {}
    all_of = {
        "flash": held.get("flash_bytes"),
        "ram": None if held.get("ram_bytes") is None else (held["ram_bytes"] or 0) + (held["step_stack_bytes"] or 0),
        "cycles": None if device is None or device.cycles is None else int(device.cycles.upper.max()),
        "bytes": sum(map(len, found.setting.artifact.files.values())),
    }
    absent = [name for name in names if all_of[name] is None]
    if absent:
        raise MissingTool(f"{found.setting.target.name}: {', '.join(absent)} could not be measured: "
                          f"{'; '.join(found.verdict.not_run) or 'no runtime counted it'}")
    return {name: int(all_of[name] or 0) for name in names}
