"""``ncpc tune`` as a recipe: what each thing does alone, the search, the choice, the build of what was chosen."""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ncpc.driver import builds
from ncpc.driver.job import Request, asked, job_for, own_options, require_data, to_json, tools
from ncpc.driver.pipeline import compile_policy, placed
from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, BadInput, reason
from ncpc.frontend.container import policy_bytes, write_policy
from ncpc.phases import Phases
from ncpc.report.record import Json, plain
from ncpc.system.files import write_all_atomically
from ncpc.system.places import alone
from ncpc.tuning import study
from ncpc.tuning.budgets import OBJECTIVES, costs_of, require_costs
from ncpc.tuning.choice import Demands, MeasuredPoint, Search, choose, front, meets, nearest, what_stops, why_chosen
from ncpc.tuning.knobs import Space, Task, changed, request_of
from ncpc.tuning.measuring import Originals, measured_point
from ncpc.tuning.picture import front_svg
from ncpc.tuning.sensitivity import sensitivity

RECORD, PLOT, POLICY, CHOSEN = "tune.json", "tune.svg", "tuned.safetensors", "chosen"


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a tuning came to: its folder, tune.json, the command line's exit code."""

    folder: Path
    record: Json
    exit_code: int


def tune_policy(
    policy: str | Path, out: str | Path, request: Request, demands: Demands, search: Search,
    calibrate: str | Path | None = None, phases: Phases | None = None,
) -> Tuned:
    """Search number schemes, steps and pruning of ``policy`` for what ``demands`` ask, measuring every point by a build
    for ``request.target``; the folder ``out`` gets the study, tune.json, tune.svg, where a point meets everything
    ``chosen``, its build, and tuned.safetensors where that is of another policy.

    A study in ``out`` is gone on with. Raises BadInput, Unsupported or MissingTool. Interrupted, the study is kept.
    """
    phases, out, began = phases or Phases(), Path(out), time.monotonic()
    study.require_optuna()
    task = _task(Path(policy), dataclasses.replace(placed(request), tolerance=demands.tolerance), calibrate)
    require_costs(demands.budgets, task.job.target)
    builds.require_place(out / CHOSEN, task.policy.name, task.job.target.name, force=True)
    _make(out)
    with alone(out) as mine:
        if not mine:
            raise BadInput(f"{out}: another ncpc tunes in it; wait for that, or give another folder with -o")
        setting, names = _setting(task, search), costs_of(task.job.target)
        held = study.opened(out, setting, 1 + sum(name in OBJECTIVES for name in names), search.seed)
        space, effects = held.plan(lambda: sensitivity(task, phases))
        _measure(task, space, held, search, began, phases)
        rows = held.rows()
        record = {**setting, "schema": 1, **_measured(space, rows, names, demands), "sensitivity": effects}
        chosen, code = _chosen(task, out, space, rows, demands, phases)
        record = plain(record | chosen)
        write_all_atomically({out / RECORD: to_json(record), out / PLOT: front_svg(record).encode()})
    return Tuned(out, record, code)


def _task(path: Path, request: Request, calibrate: str | Path | None) -> Task:
    data = None if calibrate is None else Path(calibrate)
    task = Task(path, data, job_for(path, request, data))
    require_data(task.job)
    return task


def _make(out: Path) -> None:
    """The folder. Raises BadInput where something else than a study stands there."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        strange = bool(os.listdir(out)) and not (out / study.JOURNAL).is_file()
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({reason(error)}); give a path in a writable folder") from None
    if strange:
        raise BadInput(f"{out}: exists and holds no study of ncpc; give another folder with -o")


def _setting(task: Task, search: Search) -> Json:
    """What must be the same where a study is gone on with."""
    job = task.job
    policy = {"policy": task.policy.name, "target": job.target.name,
              "sha256": builds.sha256(policy_bytes(task.policy, job.container.formats))}
    return {**policy, **asked(job.request, job.target), "seed": search.seed, "ncpc": tools()["ncpc"]}


def _measure(task: Task, space: Space, held: study.TuningStudy, search: Search, began: float, phases: Phases) -> None:
    """Measure points until there are as many as asked for, all there are, or time is up."""
    size, names, originals = len(space.points), costs_of(task.job.target), Originals(task)
    most = min(search.trials, size)
    for number in range(len(held.rows()) + 1, most + 1):
        if search.timeout is not None and time.monotonic() - began > search.timeout:
            break
        trial = held.following(space, whole=size <= search.trials)
        with phases.phase(f"{number}/{most} {' '.join(trial.params.values())}") as phase:
            phase.advance((number - 1) / most)
            row = measured_point(task, space, dict(trial.params), originals)
            held.keep(trial, row, None if row.error is None else row.objectives(names))
            phase.mark = "✗" if row.error is None else "✓"
            phase.note = row.reasons[0] if row.error is None else row.words


def _measured(space: Space, rows: Sequence[MeasuredPoint], names: Sequence[str], demands: Demands) -> Json:
    """What tune.json says of the search."""
    places = [list(rows).index(row) for row in front(rows, names)]
    return {
        "tolerance": demands.tolerance, "budget": dict(demands.budgets), "costs": list(names),
        "space": {knob: list(values) for knob, values in space.values.items()}, "combinations": len(space.points),
        "points": [row.as_json() | {"meets": meets(row, demands)} for row in rows], "front": places,
    }


def _chosen(task: Task, out: Path, space: Space, rows: Sequence[MeasuredPoint], demands: Demands, phases: Phases
            ) -> tuple[Json, int]:
    """The choice, built, or the nearest point and what stops it; and the exit code."""
    names = costs_of(task.job.target)
    best = choose(rows, names, demands)
    _clear(out)
    if best is None:
        close = nearest(rows, demands)
        why = what_stops(close, demands) if close is not None else [*rows[0].reasons] if rows else []
        return {"chosen": None, "nearest": None if close is None else close.as_json(),
                "why": why or ["no point was measured"], "command": None, "policy_file": None}, EXIT_DOES_NOT_HOLD
    policy = changed(task.policy, space, best.point)
    own = POLICY if policy is not task.policy else ""
    if own:
        write_policy(policy, out / POLICY)
    source, data = (out / POLICY, None) if own else (task.path, task.calibrate)
    request = request_of(task, best.point)
    outcome = compile_policy(source, out / CHOSEN, request, calibrate=data, force=True, phases=phases)
    holds = outcome.exit_code == EXIT_HOLDS
    why = why_chosen(best, rows, names, demands) if holds else outcome.report["verdict"]["reasons"]
    said: Json = {"chosen": best.as_json() | {"meets": holds}, "nearest": None, "why": why, "policy_file": own or None,
                  "command": _command(source, out / CHOSEN, request, task, data)}
    return said, outcome.exit_code


def _clear(out: Path) -> None:
    """Take away what an earlier run chose."""
    if (out / CHOSEN / builds.REPORT).is_file():
        shutil.rmtree(out / CHOSEN)
    (out / POLICY).unlink(missing_ok=True)


def _command(source: Path, folder: Path, request: Request, task: Task, calibrate: Path | None) -> str:
    """The command that makes the build again."""
    given = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)
             if field.name not in ("target", "extra") and getattr(request, field.name) != field.default}
    own = own_options(request, task.job.target)
    data = {} if calibrate is None else {"calibrate": calibrate}
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in {**given, **own, **data}.items()]
    return " ".join([f"ncpc compile {shlex.quote(str(source))} --target {request.target}", *words,
                     f"-o {shlex.quote(str(folder))}"])
