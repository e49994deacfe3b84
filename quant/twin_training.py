"""Fine-tuning of prepared modules: they are taught what their float module does. Importing this needs torch."""

from __future__ import annotations

import copy
import hashlib
import io
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncpc.errors import BadInput, ProofFailed, Unsupported
from ncpc.frontend.api import ANY
from ncpc.frontend.data import frames_of, read_sequences
from ncpc.frontend.models import Shape
from ncpc.ir.held_out import FEW, split
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.phases import Phases
from ncpc.quant.twin import Twin, finished, read_twin, refresh, require_twin
from ncpc.quant.twin_run import Run, carries_state, detached, runner
from ncpc.semantics.run import run as evaluate
from ncpc.system.files import write_atomically
from ncpc.system.torch_library import copy_of, torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

WHERE = "ncpc.quant.fine_tune"
FORM = 2
"""Of checkpoints."""
PEAKS = 100.0
"""Weight of the fourth powers: at an error of 10 % of the range they count as much as the squares."""
TINY = 1e-12
"""The smallest error that others are compared with."""
LEAST = 1e-6
"""The smallest range of an output that errors are shares of."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast: see ``fine_tune``."""

    epochs: int = 20
    batch: int = 16
    window: int = 32
    rate: float = 5e-4
    patience: int = 10
    seed: int = 0


@dataclass
class Tuning:
    """What came of it: ``losses`` of every update; ``errors`` and ``peaks`` of the integer program against the float
    module on what was held out, rms and largest in shares of the outputs' range, before the first epoch and after each
    (infinite where no program came about).

    ``best`` is the one whose weights were kept: where of both, in shares of those of the start, the larger is least.
    """

    losses: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        both = np.array([self.errors, self.peaks])
        return int(np.argmin((both / np.maximum(both[:, :1], TINY)).max(axis=0)))


@dataclass(frozen=True, eq=False)
class _Lesson:
    """All that stays the same during a training."""

    twin: Twin
    teacher: Any
    run: Run
    recipe: Recipe
    seen: Sequences
    held_out: Sequences
    window: int
    span: Any
    exact: Any


def error_loss(y: torch.Tensor, target: torch.Tensor, span: torch.Tensor) -> torch.Tensor:
    """Mean of squares plus that of fourth powers of the error in shares of each output's range: large errors count
    more.
    """
    error = (y - target) / span
    return (error**2).mean() + PEAKS * (error**4).mean()


def fine_tune(
    module: Any,
    sequences: object,
    *,
    epochs: int = 20,
    batch: int = 16,
    window: int = 32,
    rate: float = 5e-4,
    patience: int = 10,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    phases: Phases | None = None,
) -> Tuning:
    """Train what ``ncpc.quant.prepare`` made, in place, to give the outputs of the float module; no labels are needed.

    ``sequences``: inputs in any form that ``ncpc.save`` takes for a calibration. A fifth is held out. Adam, its rate
    falling from ``rate`` to 0 along a cosine over ``epochs``; in each, ``batch`` sequences at a time are gone through
    in windows of ``window`` steps, an update each, the state carried from one to the next and gradients cut there
    (truncated backpropagation through time). Grids are asked for anew after each epoch, and the integer program that
    compiling would give is run on what is held out. It ends early after ``patience`` epochs without a smaller error
    (see ``Tuning``); the weights with the smallest are kept, those of the start, which are what the compiler makes of
    the float module, included. Dropout is off and running statistics stand still. ``checkpoint``: a file written after
    each epoch, from which the same call goes on and ends with the same weights. ``phases`` watches progress.

    The same ``seed`` gives the same weights on the same machine. Raises ``BadInput`` for a module that was not
    prepared, sequences that do not fit it, hold NaN, or are too few, and a checkpoint of another training.
    """
    recipe, phases = Recipe(epochs, batch, window, rate, patience, seed), phases or Phases()
    _require_sound(recipe)
    lesson = _lesson(require_twin(module, WHERE), sequences, recipe)
    training = module.training
    module.eval()
    try:
        with phases.phase("fine-tune") as running:
            tuning = _trained(lesson, None if checkpoint is None else Path(checkpoint), running.advance)
            running.note = f"{tuning.errors[0]:.2%} to {tuning.errors[tuning.best]:.2%} of the range, rms"
    finally:
        module.train(training)
    return tuning


def _require_sound(recipe: Recipe) -> None:
    for name in ("epochs", "batch", "window", "patience"):
        value = getattr(recipe, name)
        if not isinstance(value, int) or value < 1:
            raise BadInput(f"{WHERE}: {name} is {value!r}; give a whole number, at least 1")
    if not (np.isfinite(recipe.rate) and recipe.rate > 0):
        raise BadInput(f"{WHERE}: rate is {recipe.rate!r}; give a number above 0")


def _lesson(twin: Twin, given: object, recipe: Recipe) -> _Lesson:
    found, policy = read_twin(twin, twin.plain)
    told = policy.dt if twin.dt is not None or found.imported.dt is not None else ANY
    data = read_sequences(given, policy.inputs, told, WHERE, frames_of(policy), None, policy.input_groups)
    if data.reset is not None and data.reset.any():
        raise BadInput(f"{WHERE}: sequences with resets; give what is between them as sequences of their own")
    parts = split(data)
    if parts.held_out is None:
        steps = data.x.shape[0] * data.x.shape[1]
        raise BadInput(f"{WHERE}: {steps} steps are too few to hold some out; give at least {5 * FEW}")
    run = runner(found, twin.once, _frame(twin.asked.input_shape), twin.asked.carry)
    seen, held_out = (_timed(part, policy.dt.nominal) for part in (parts.seen, parts.held_out))
    teacher = copy_of([twin.plain])[0].to(_device(twin.module))
    length = recipe.window if carries_state(found) else seen.x.shape[1]
    first, real = next(twin.module.parameters()), lower(policy)
    spread = np.ptp(evaluate(real, seen).y, axis=(0, 1)).clip(min=LEAST)
    span = torch.as_tensor(spread, dtype=first.dtype, device=first.device)
    exact = evaluate(real, held_out).y
    return _Lesson(twin, teacher, run, recipe, seen, held_out, length, span, exact)


def _frame(shape: Shape) -> Any:
    return None if isinstance(shape, dict) else shape


def _timed(data: Sequences, nominal: float) -> Sequences:
    dt = np.full(data.x.shape[:2], nominal) if data.dt is None else data.dt
    return Sequences(data.x, dt)


def _device(module: Any) -> Any:
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _windows(lesson: _Lesson, data: Sequences) -> Iterator[tuple[Any, Any]]:
    """Inputs and timespans, window by window."""
    first = next(lesson.twin.module.parameters())
    assert data.dt is not None
    x, dt = (torch.as_tensor(part, dtype=first.dtype, device=first.device) for part in (data.x, data.dt))
    for lo in range(0, x.shape[1], lesson.window):
        yield x[:, lo : lo + lesson.window], dt[:, lo : lo + lesson.window]


def _errors(lesson: _Lesson) -> tuple[float, float]:
    """Of the integer program on what is held out: rms and largest, in shares of each output's range."""
    program = finished(lesson.twin.module)[1]
    error = (evaluate(program, lesson.held_out).y - lesson.exact) / lesson.span.cpu().double().numpy()
    return float(np.sqrt(np.mean(error**2))), float(np.abs(error).max())


def _trained(lesson: _Lesson, checkpoint: Path | None, advance: Any) -> Tuning:
    module, recipe, tuning = lesson.twin.module, lesson.recipe, Tuning()
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], recipe.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    best: Any = None
    if checkpoint is not None and checkpoint.exists():
        best = _resume(checkpoint, lesson, tuning, optimizer, schedule)
    if not tuning.errors:
        _measure(tuning, lesson)
        best = copy.deepcopy(module.state_dict())
    while len(tuning.errors) <= recipe.epochs and len(tuning.errors) - 1 - tuning.best < recipe.patience:
        _epoch(lesson, optimizer, tuning, advance)
        schedule.step()
        try:
            _measure(tuning, lesson)
        except (ProofFailed, Unsupported):
            _add(tuning, (math.inf, math.inf))
        if tuning.best == len(tuning.errors) - 1:
            best = copy.deepcopy(module.state_dict())
        if checkpoint is not None:
            _write(checkpoint, lesson, tuning, optimizer, schedule, best)
    _load(module, best)
    return tuning


def _measure(tuning: Tuning, lesson: _Lesson) -> None:
    _add(tuning, _errors(lesson))


def _add(tuning: Tuning, errors: tuple[float, float]) -> None:
    tuning.errors.append(errors[0])
    tuning.peaks.append(errors[1])


def _load(module: Any, state: Any) -> None:
    """Weights and their grids; what else grids are made of follows from the weights."""
    module.load_state_dict(state)
    refresh(module)
    module.load_state_dict(state)


def _epoch(lesson: _Lesson, optimizer: Any, tuning: Tuning, advance: Any) -> None:
    """Every sequence once."""
    recipe, module, done = lesson.recipe, lesson.twin.module, len(tuning.errors) - 1
    order = np.random.default_rng([recipe.seed, done]).permutation(len(lesson.seen.x))
    batches = [order[k : k + recipe.batch] for k in range(0, len(order), recipe.batch)]
    for k, rows in enumerate(batches):
        chosen = np.zeros(len(order), bool)
        chosen[rows] = True
        states: list[Any] = [None, None]
        for x, dt in _windows(lesson, lesson.seen.part(chosen)):
            with torch.no_grad():
                target, states[0] = lesson.run(lesson.teacher, x, dt, states[0])
            y, state = lesson.run(module, x, dt, states[1])
            states[1] = detached(state)
            loss = error_loss(y, target, lesson.span)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            for cell in lesson.twin.cells.values():
                cell.apply_weight_constraints()
            tuning.losses.append(float(loss.detach()))
        advance((done + (k + 1) / len(batches)) / recipe.epochs)


def _told(lesson: _Lesson) -> dict[str, Any]:
    """What must be the same for a training to go on."""
    seen = lesson.seen
    data = hashlib.sha256(np.ascontiguousarray(seen.x).tobytes() + np.ascontiguousarray(seen.dt).tobytes()).hexdigest()
    start = hashlib.sha256(b"".join(p.detach().cpu().numpy().tobytes() for p in lesson.twin.plain.parameters()))
    return {"form": FORM, **asdict(lesson.recipe), "scheme": lesson.twin.scheme, "sequences": data,
            "module": start.hexdigest()}


def _write(path: Path, lesson: _Lesson, tuning: Tuning, optimizer: Any, schedule: Any, best: Any) -> None:
    """The whole state of a training; a reader finds the file before or the one after."""
    content = io.BytesIO()
    torch.save({"told": _told(lesson), **asdict(tuning), "best": best,
                "module": lesson.twin.module.state_dict(), "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict()}, content)
    write_atomically(path, content.getvalue())


def _resume(path: Path, lesson: _Lesson, tuning: Tuning, optimizer: Any, schedule: Any) -> Any:
    """Go on where a file left off; what it held as the best."""
    try:
        held = torch.load(path, weights_only=True)
        other = [name for name, value in _told(lesson).items() if held["told"][name] != value]
    except Exception as error:
        raise BadInput(f"{WHERE}: {path} is no checkpoint of a fine-tuning ({type(error).__name__}); delete it, or "
                       "name another file") from None
    if other:
        raise BadInput(f"{WHERE}: {path} is of a training with another {' and '.join(other)}; delete it, or name "
                       "another file")
    _load(lesson.twin.module, held["module"])
    optimizer.load_state_dict(held["optimizer"])
    schedule.load_state_dict(held["schedule"])
    tuning.losses[:], tuning.errors[:], tuning.peaks[:] = (held[name] for name in ("losses", "errors", "peaks"))
    return held["best"]
