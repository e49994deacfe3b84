"""What can be turned: values by knob, and the policy and the request that a point stands for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np

from ncpc.driver.job import Job, Request, job_for
from ncpc.frontend.validate import check_policy
from ncpc.ir.policy import Layer, Ltc, Policy, Synapses
from ncpc.ir.schemes import SCHEMES, Scheme
from ncpc.ir.tableau import MEANS, TABLEAUS
from ncpc.report.solver_study import UNFOLDS, ode_cells, solvers, with_solver
from ncpc.tuning.choice import Point

QUANT, STEP, PRUNE = "quant", "step", "prune"
"""The number scheme; solver and unfolds of all ODE cells, as rk4:2; which synapses are left out."""
TRAINED, NONE, ZEROS = "trained", "none", "zeros"
"""No other step; no synapse left out; those whose w rounds to 0 in the point's scheme."""
Drops = Mapping[str, Sequence[Sequence[int]]]
"""By value of ``prune``, ``ZEROS`` by scheme: the synapses of each layer to leave out, recurrent after sensory ones."""


@dataclass(frozen=True)
class Space:
    """``values`` of each knob, the first as it was; ``drops`` what leaving out synapses means."""

    values: Mapping[str, Sequence[str]]
    drops: Drops

    @property
    def points(self) -> list[Point]:
        """The whole grid, number schemes turning slowest; of points that leave out the same synapses the first."""
        found: dict[tuple[str, ...], Point] = {}
        for one in product(*self.values.values()):
            point = dict(zip(self.values, one, strict=True))
            same = (*(value for knob, value in point.items() if knob != PRUNE), str(dropped(self, point)))
            found.setdefault(same, point)
        return list(found.values())


@dataclass(frozen=True, eq=False)
class Task:
    """What is tuned: the policy's file, its own calibration or the one in ``calibrate``, what is asked of all builds.

    ``job`` is the original policy's.
    """

    path: Path
    calibrate: Path | None
    job: Job

    @property
    def policy(self) -> Policy:
        return self.job.policy


def steps(policy: Policy) -> list[str]:
    """The other steps of its ODE cells that evaluate no more than the one it was trained with, as METHOD:UNFOLDS."""
    cells = ode_cells(policy)
    if not cells:
        return []
    most = max(cell.unfolds * _stages(cell.solver) for cell in cells)
    own = {f"{cell.solver}:{cell.unfolds}" for cell in cells}
    counts = sorted({*UNFOLDS, *(cell.unfolds for cell in cells)}, reverse=True)
    found = [f"{solver}:{n}" for solver in solvers(cells) for n in counts if n * _stages(solver) <= most]
    return [name for name in found if {name} != own]


def _stages(solver: str) -> int:
    return 1 if solver in MEANS else TABLEAUS[solver].stages


def stepped(policy: Policy, step: str) -> Policy:
    """The policy whose ODE cells take ``step``."""
    if step == TRAINED:
        return policy
    solver, _, unfolds = step.partition(":")
    layers = tuple(with_solver(layer, solver, int(unfolds)) for layer in policy.layers)
    return dataclasses.replace(policy, layers=layers)


def pruned(policy: Policy, dropped: Sequence[Sequence[int]]) -> Policy:
    """The policy without the synapses ``dropped``, as ``Drops`` has them; itself where there are none."""
    if not any(map(len, dropped)):
        return policy
    layers = tuple(_pruned(layer, out) for layer, out in zip(policy.layers, dropped, strict=True))
    return dataclasses.replace(policy, layers=layers)


def _pruned(layer: Layer, out: Sequence[int]) -> Layer:
    if not isinstance(layer, Ltc) or not out:
        return layer
    kept = np.ones(len(layer.sensory) + len(layer.recurrent), np.bool_)
    kept[list(out)] = False
    own, between = np.split(kept, [len(layer.sensory)])
    return dataclasses.replace(layer, sensory=_some(layer.sensory, own), recurrent=_some(layer.recurrent, between))


def _some(synapses: Synapses, kept: np.ndarray[Any, np.dtype[np.bool_]]) -> Synapses:
    return Synapses(*(getattr(synapses, field.name)[kept] for field in dataclasses.fields(synapses)))


def dropped(space: Space, point: Point) -> list[list[int]]:
    """The synapses that a point leaves out: those of its share, and those whose w rounds to 0 in its scheme."""
    if point[PRUNE] == NONE:
        return []
    parts = [space.drops.get(point[PRUNE], ()), space.drops.get(f"{ZEROS}@{point[QUANT]}", ())]
    return [sorted({i for layer in layers for i in layer}) for layers in zip(*filter(None, parts), strict=True)]


def changed(policy: Policy, space: Space, point: Point) -> Policy:
    """The policy that a point compiles; the same object where it is the original. Another one was never compared with
    a module, and says in its provenance what was changed. Raises BadInput for one that is none.
    """
    found = pruned(stepped(policy, point[STEP]), dropped(space, point))
    if found is policy:
        return policy
    told = {"step": point[STEP], "synapses_left_out": sum(map(len, dropped(space, point)))}
    found = dataclasses.replace(found, compared=None, provenance={**policy.provenance, "tuned": told})
    check_policy(found, policy.name)
    return found


def request_of(task: Task, point: Point) -> Request:
    """What is asked of a point's build. Threshold units are no scheme that can be asked for: the target takes them."""
    usual = {option.name: option.default for option in task.job.target.options}
    own = {name: value for name, value in point.items() if name in usual and value != usual[name]}
    base = task.job.request
    quant = None if SCHEMES[point[QUANT]].arithmetic == "units" else cast(Scheme, point[QUANT])
    return dataclasses.replace(base, quant=quant, extra={**base.extra, **own})


def job_of(task: Task, space: Space, point: Point, **more: Any) -> Job:
    """The job of a point; ``more`` replaces fields of its request."""
    request, policy = dataclasses.replace(request_of(task, point), **more), changed(task.policy, space, point)
    return job_for(task.path, request, task.calibrate) if policy is task.policy else job_for(policy, request)
