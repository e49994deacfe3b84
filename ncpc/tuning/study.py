"""The search, through optuna: which point comes next, what is known already, kept in a file while it goes on.

Where the whole grid is small enough it is measured in order. Else a sampler for several objectives chooses (TPE: Ozaki
et al. 2022, "Multiobjective Tree-Structured Parzen Estimator"), anew for every point from a seed of its own, so that
what comes next hangs on the seed and on the points before alone: a study that was interrupted goes on as it would have.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput, MissingTool
from ncpc.report.record import Json
from ncpc.tuning.choice import MeasuredPoint, Point, point_from
from ncpc.tuning.knobs import QUANT, Space

NAME, JOURNAL = "tune", "study.log"
SETTING, PLAN, ROW = "setting", "plan", "row"
"""Attributes: of the study, what it is of and what is tried; of a trial, what was measured."""
RANDOM = 10
"""Points drawn at random before the sampler learns from what was measured."""
SEEDS = 1_000_003
"""Between the seeds of one study and the next: more than a study has points."""


def require_optuna() -> Any:
    """The library. Raises MissingTool without it."""
    try:
        found: Any = importlib.import_module("optuna")
        importlib.import_module("optuna.storages.journal")
    except ImportError:
        raise MissingTool("tuning needs optuna: pip install 'ncpc[tune]'") from None
    found.logging.set_verbosity(found.logging.ERROR)
    return found


@dataclass(frozen=True, eq=False)
class TuningStudy:
    """A study of optuna's, with ``seed``."""

    held: Any
    seed: int

    def plan(self, made: Callable[[], tuple[Space, Json]]) -> tuple[Space, Json]:
        """The space and the sensitivity that were kept; at first those that ``made`` gives."""
        kept = self.held.user_attrs.get(PLAN)
        if kept is None:
            space, sensitivity = made()
            kept = {"values": space.values, "drops": space.drops, "sensitivity": sensitivity}
            self.held.set_user_attr(PLAN, kept)
        return Space(kept["values"], kept["drops"]), kept["sensitivity"]

    def rows(self) -> list[MeasuredPoint]:
        """What was measured, in order."""
        trials = self.held.get_trials(deepcopy=False)
        return [point_from(trial.user_attrs[ROW]["row"]) for trial in trials if ROW in trial.user_attrs]

    def following(self, space: Space, whole: bool) -> Any:
        """The next trial, of a point that was not measured: first each number scheme with everything as it was,
        then the others in order where ``whole``, else what the sampler asks for.
        """
        optuna, rows = require_optuna(), self.rows()
        grid = {_key(point): point for point in space.points}
        known = {_key(row.point) for row in rows}
        left = [point for key, point in grid.items() if key not in known]
        plain = [point for point in left if all(point[knob] == values[0] for knob, values in space.values.items()
                                                if knob != QUANT)]
        if not whole and not plain:
            self.held.sampler = optuna.samplers.TPESampler(seed=self.seed * SEEDS + len(rows), n_startup_trials=RANDOM)
            trial = self.held.ask(_distributions(optuna, space))
            if _key(trial.params) in grid and _key(trial.params) not in known:
                return trial
            _tell(self.held, trial.number, None)
            left = [left[np.random.default_rng([self.seed, len(rows)]).integers(len(left))]]
        self.held.sampler = _only((plain or left)[0])
        return self.held.ask(_distributions(optuna, space))

    def keep(self, trial: Any, row: MeasuredPoint, objectives: list[float] | None) -> None:
        """Record what was measured of a trial, or that it came to nothing."""
        trial.set_user_attr(ROW, {"row": row.as_json(), "objectives": objectives})
        _tell(self.held, trial.number, objectives)


def opened(folder: Path, setting: Mapping[str, Any], objectives: int, seed: int) -> TuningStudy:
    """The study in ``folder``, a new one where there is none. Raises BadInput where it is of something else than
    ``setting``, naming that; what a process that was stopped had not measured to the end counts as not begun.
    """
    optuna, path = require_optuna(), folder / JOURNAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            journal = optuna.storages.journal
            storage = journal.JournalStorage(journal.JournalFileBackend(str(path)))
            held = optuna.create_study(study_name=NAME, storage=storage, load_if_exists=True,
                                       directions=["minimize"] * objectives)
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise BadInput(f"{path}: is no study that can be gone on with ({type(error).__name__}); give another "
                           "folder with -o") from None
    kept = held.user_attrs.get(SETTING)
    if kept is None:
        held.set_user_attr(SETTING, dict(setting))
    else:
        _require_same(folder, kept, json.loads(json.dumps(setting)))
    for trial in held.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        _tell(held, trial.number, trial.user_attrs.get(ROW, {}).get("objectives"))
    return TuningStudy(held, seed)


def _tell(held: Any, number: int, objectives: list[float] | None) -> None:
    """A trial is over: with these values, or None of them."""
    state = require_optuna().trial.TrialState.FAIL if objectives is None else None
    held.tell(number, objectives, state=state)


def _require_same(folder: Path, kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    unlike = [name for name in {**kept, **wanted} if kept.get(name) != wanted.get(name)]
    if not unlike:
        return
    name = unlike[0]
    what = f"{name} {kept.get(name, 'none')}, not {wanted.get(name, 'none')}"
    if name == "sha256":
        what = f"another policy '{kept.get('policy')}' (its bytes differ)"
    raise BadInput(f"{folder}: holds a study with {what}; give another folder with -o")


def _only(point: Point) -> Any:
    """A sampler of this point alone."""
    samplers = require_optuna().samplers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna calls it experimental
        return samplers.PartialFixedSampler(dict(point), samplers.RandomSampler(seed=0))


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    return {name: optuna.distributions.CategoricalDistribution(tuple(values)) for name, values in space.values.items()}


def _key(point: Point) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(point.items()))
