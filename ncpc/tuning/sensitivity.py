"""One thing at a time: what each rounding costs, and what each change of the policy, which decides what is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ncpc.driver.lowering import lower_for, real_step
from ncpc.errors import MissingTool, NcpcError
from ncpc.ir.heads import affordable
from ncpc.ir.held_out import calibrating
from ncpc.ir.policy import F64, Policy
from ncpc.ir.program import statements
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences
from ncpc.phases import Phases
from ncpc.report.record import Json, plain
from ncpc.semantics.run import run
from ncpc.targets.base import PROGRAM, DtMode
from ncpc.tuning.knobs import NONE, PRUNE, QUANT, STEP, TRAINED, ZEROS, Space, Task, pruned, stepped, steps
from ncpc.tuning.pruning import Dropped, rounded_to_zero, synapses_of, unmissed
from ncpc.verification.compare import largest, widest_range
from ncpc.verification.rounding import rounding_costs
from ncpc.verification.sequences import prefix, suite, within
from ncpc.verification.verdict import arithmetic

LOOKED_AT, ROUNDED = 2000, 300
"""Steps of calibration data, and of generated sequences, that changes are judged by; steps that roundings are."""
ALONE, FEWEST = 24_000, 100
"""Steps for leaving out single synapses, all together, and at least for each."""
DEAREST = 6
"""Roundings of each scheme that are kept."""


@dataclass(frozen=True, eq=False)
class Probe:
    """What every change is compared on: data sets and the original's outputs."""

    dt: DtMode
    sets: tuple[Sequences, ...]
    expected: tuple[F64, ...]

    def apart(self, policy: Policy) -> float:
        """How far the outputs of ``policy`` are from the original's over the reals, a fraction of their range."""
        real = real_step(policy, self.dt)
        return max(largest(run(real, data).y, y) / (widest_range(y) or 1.0)
                   for data, y in zip(self.sets, self.expected, strict=True))


def sensitivity(task: Task, phases: Phases) -> tuple[Space, Json]:
    """The space to search, and what each rounding and each change does alone.

    A step, or pruning, which alone is further from the original than the tolerance allows is not in the space.
    """
    probe = _probe(task, LOOKED_AT)
    with phases.phase("one rounding at a time"):
        roundings = {name: _roundings(task, name, probe.sets[0]) for name in task.job.target.capabilities.schemes}
    with phases.phase("one change at a time") as phase:
        drops = _drops(task, probe)
        changes = [_change(task, STEP, name, *_apart(probe, stepped(task.policy, name))) for name in steps(task.policy)]
        changes += [_change(task, PRUNE, name, probe.apart(pruned(task.policy, out)),
                            f"{sum(map(len, out))} of {len(synapses_of(task.policy))} synapses left out")
                    for name, out in drops.items()]
        space = _space(task, [one["value"] for one in changes if one["tried"]], drops)
        phase.note = f"{len(space.points)} combinations to try"
    record: Json = plain({"roundings": roundings, "changes": changes})
    return space, record


def _change(task: Task, knob: str, value: str, error: float | None, why: str) -> Json:
    tried = error is not None and error <= task.job.tolerance
    return {"knob": knob, "value": value, "error": error, "why": why, "tried": tried}


def _space(task: Task, tried: list[str], drops: dict[str, Dropped]) -> Space:
    target, given = task.job.target, task.job.request.extra
    shapes = {option.name: option.choices for option in target.options if option.shape and option.name not in given}
    left_out = {name: out for name, out in drops.items() if name in tried}
    values: dict[str, Sequence[str]] = {
        QUANT: target.capabilities.schemes,
        STEP: (TRAINED, *(name for name in tried if name not in drops)),
        PRUNE: (NONE, *dict.fromkeys(name.partition("@")[0] for name in left_out)),
    }
    return Space(values | shapes, left_out)


def _probe(task: Task, most: int) -> Probe:
    """Calibration data that quantization sees, where there is some, and generated sequences: both cut short."""
    policy, dt = calibrating(task.policy), task.job.options.dt
    count, real = affordable(policy.layers, most), real_step(policy, dt)
    sets = [suite(policy, count, dt == "runtime")]
    if policy.calibration is not None:
        sets.insert(0, prefix(within(policy.calibration, policy, dt == "runtime")[0], count))
    return Probe(dt, tuple(sets), tuple(run(real, data).y for data in sets))


def _apart(probe: Probe, policy: Policy) -> tuple[float | None, str]:
    """How far it is from the original; None and why, where it is refused."""
    try:
        with np.errstate(invalid="ignore"):
            error = probe.apart(policy)
    except NcpcError as refusal:
        return None, str(refusal)
    return (error, "") if np.isfinite(error) else (None, "its states run away")


def _drops(task: Task, probe: Probe) -> dict[str, Dropped]:
    """Synapses to leave out, by share of the tolerance, and those that a scheme rounds to 0 by ``zeros@scheme``."""
    policy, data = task.policy, Probe(probe.dt, probe.sets[:1], probe.expected[:1])
    short = _probe(task, max(FEWEST, min(LOOKED_AT, ALONE // max(1, len(synapses_of(policy))))))
    single = Probe(probe.dt, short.sets[:1], short.expected[:1])
    zeros = {f"{ZEROS}@{name}": rounded_to_zero(policy, SCHEMES[name]) for name in task.job.target.capabilities.schemes}
    shares = unmissed(policy, lambda out: single.apart(pruned(policy, out)),
                      lambda out: data.apart(pruned(policy, out)), task.job.tolerance)
    return {name: out for name, out in {**zeros, **shares}.items() if any(out)}


def _roundings(task: Task, scheme: str, data: Sequences) -> Json:
    """The dearest roundings of a scheme as shares of the output range, ``stored`` and ``all`` of them; or ``why`` none.
    """
    job = task.job
    options = replace(job.options, quant=SCHEMES[scheme].name)
    if SCHEMES[scheme].arithmetic != "integer":
        return {"why": "rounds to no integers"}
    try:
        lowered = lower_for(job.container, options).lowered
        if arithmetic(job.target.prepare(lowered, options)) != PROGRAM:
            return {"why": f"target '{job.target.name}' has arithmetic of its own"}
    except MissingTool:
        raise
    except NcpcError as error:
        return {"why": str(error)}
    rows = len(list(statements(lowered.program.body)))
    length = affordable(job.policy.layers, min(ROUNDED, data.x.shape[1]), rows)
    costs = rounding_costs(lowered.real, lowered.program, data.part(slice(1), slice(length)))
    wide = widest_range(run(lowered.real, data).y) or 1.0
    dearest = [{"value": one.value, "layer": one.layer, "format": one.format, "error": one.max_abs / wide}
               for one in costs.values[:DEAREST]]
    return {"why": "", "all": costs.all / wide, "stored": costs.stored / wide, "values": dearest}
