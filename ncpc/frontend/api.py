"""``ncpc.save`` and ``ncpc.load``: from a trained model to a policy container and back."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncpc.errors import BadInput
from ncpc.frontend.container import read_policy, write_policy
from ncpc.frontend.data import frames_of, read_sequences, told_data
from ncpc.frontend.imported import Imported
from ncpc.frontend.models import Asked, Check, ModelRead, Shape, read_model
from ncpc.frontend.ranges import MARGIN, guessed, short_calibration
from ncpc.frontend.validate import check_dt_range, check_input_range, check_policy, require_meaning
from ncpc.ir.names import MOST, policy_name
from ncpc.ir.policy import ASSUMED_MEANS, DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.wires import group_names
from ncpc.passes.lower import reads_dt
from ncpc.phases import Phases

ANY = DtRange(0.0, math.inf, 1.0)
"""What timespans of a calibration may be before anything is declared."""


def save(
    model: Any,
    path: str | Path,
    *,
    like: Any = None,
    calibration: object | None = None,
    input_range: ArrayLike | None = None,
    dt: float | tuple[float, float] | None = None,
    name: str | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    sample_hz: float | None = None,
    margin: float = MARGIN,
    clip_negative: bool = False,
    input_shape: Shape = None,
    outputs: str = "values",
    head: str | Sequence[str] = (),
    carry: str | Mapping[str, str | int] | None = None,
    phases: Phases | None = None,
) -> Policy:
    """Read a trained model, check that the policy computes what it computes, and write the container to ``path``.

    ``model``: any torch module with a forward of its own, which is run once and watched; a cell of ncps.torch; an
    ordered list of modules around one; a Keras model with a cell of ncps.keras; or what a frontend has read already
    (``Imported``, or layers of ``ncpc.ir.policy``), which is taken as it is; or the path of an ONNX file. ``carry``
    names states that nothing else tells: the key (or place) of each output that is one, by the argument that takes it
    next; ``"attributes"``: the module keeps it. ``like``: the torch module that an ordered list was taken from; its own
    forward, run on (B, T, inputs) from its first state (and on ``timespans`` (B, T), where it takes such), must give
    the same outputs, (B, T, outputs), those of the last step alone, or a tuple that begins with them. ``calibration``:
    typical inputs, (T, inputs) or (B, T, inputs), as array, torch tensor, npz path (``x``, optional ``dt``, ``reset``)
    or mapping of those; where forward has several arguments, an array by the name of each. ``input_range``: (inputs, 2)
    or one (lo, hi) for all; left out, it is guessed: the calibration's, wider by ``margin`` of its width at either end,
    one range for all of a frame. ``dt``: the timespan in the unit of training (1.0 where none were given), or the range
    (lo, hi) of timespans the policy may meet; left out, that which forward fixes, that of the calibration's timespans,
    and without those 1.0: where a cell reads dt, the policy and a warning say that this is assumed. ``sample_hz``
    documents how often steps happen. ``clip_negative`` sets negative w, cm, gleak to 0, as
    ``apply_weight_constraints()`` does, without touching ``model``. ``input_shape``: that of one step's input where
    torch modules read frames, (channels, height, width), or a mapping of such by the arguments of forward; Keras tells
    it. ``outputs="logits"`` says that the policy is a classifier: reports compare its decisions too. ``head`` names the
    outputs to deploy, of several that have names (``--head`` of the command line): ``head="action"`` or ``("action",
    "value")``; left out, all. ``phases`` watches progress.

    Returns the policy as written. Raises ``BadInput`` or ``Unsupported``; nothing is written then.
    """
    where, heads, phases = str(path), (head,) if isinstance(head, str) else tuple(head), phases or Phases()
    require_meaning(outputs, where)
    calibration, source = told_data(calibration, input_range, where)
    asked = Asked(like, clip_negative, input_shape, calibration, input_range, heads, carry)
    with phases.phase("read"):
        found = read_model(model, asked, where)
    draft = policy_of(found, asked, dt, where, _identifier(Path(path).stem) if name is None else name, source, margin)
    policy = replace(
        draft, input_names=tuple(input_names or draft.input_names), compared=found.compared,
        output_names=tuple(output_names or draft.output_names), meaning=outputs,
        sample_hz=None if sample_hz is None else float(sample_hz),
    )
    data, told = policy.calibration, dt is not None or found.imported.dt is not None
    return _written(policy, path, not told and (data is None or data.dt is None), found.checks, phases)


def _written(policy: Policy, path: str | Path, assumed: bool, checks: Sequence[Check], phases: Phases) -> Policy:
    """The policy once every check has passed, in its file; one whose dt is ``assumed`` says so."""
    where = str(path)
    check_policy(policy, where)
    policy = _assuming(policy, where) if assumed else policy
    _compare(policy, where, checks, phases)
    write_policy(policy, path)
    return policy


def policy_of(found: ModelRead, asked: Asked, dt: float | tuple[float, float] | None, where: str, name: str,
              source: str, margin: float = MARGIN) -> Policy:
    """The policy of what was read, with what a caller of ``save`` says of ranges, timespans and calibration, which
    messages call ``source``.
    """
    told = _told_timespan(found.imported, dt, where)
    draft = _drafted(found.imported, name)
    data = None if asked.calibration is None else _sequences(asked.calibration, draft, told or ANY, source)
    return replace(draft, input_range=_range(asked.input_range, data, draft, margin, where), dt=told or _spanned(data),
                   calibration=data, range_guessed=asked.input_range is None)


def _sequences(calibration: object, draft: Policy, told: DtRange, source: str) -> Sequences:
    """The calibration as the policy's inputs."""
    return read_sequences(calibration, draft.inputs, told, source, frames_of(draft), draft.outputs, draft.input_groups)


def _drafted(read: Imported, name: str) -> Policy:
    """The policy of what was read, its input range still to be told."""
    unknown = np.tile([-1.0, 1.0], (read.inputs, 1))
    policy = Policy(name, read.layers, unknown, provenance=read.provenance, wires=read.wires, initial=read.initial,
                    input_groups=read.input_groups, output_groups=read.output_groups)
    return replace(policy, input_names=group_names(read.input_groups) or tuple(f"x{i}" for i in range(policy.inputs)),
                   output_names=group_names(read.output_groups) or tuple(f"y{i}" for i in range(policy.outputs)))


def _told_timespan(read: Imported, dt: float | tuple[float, float] | None, where: str) -> DtRange | None:
    """The timespans that the caller or the module says; None where neither does."""
    told = None if dt is None else _dt_range(dt, where)
    return _fixed_inside(read, told, where) or told


def _fixed_inside(read: Imported, told: DtRange | None, where: str) -> DtRange | None:
    """The timespan that a module's forward gives its cells, where it gives them a constant."""
    if read.dt is None:
        return None
    if told is not None and (told.lo, told.hi) != (read.dt, read.dt):
        raise BadInput(f"{where}: forward gives its cells the timespan {read.dt:g}, whatever dt is; leave dt out, or "
                       "let forward take timespans and hand them on")
    return DtRange(read.dt, read.dt, read.dt)


def _compare(policy: Policy, where: str, checks: Sequence[Check], phases: Phases) -> None:
    """Make every check that there is; warn of a calibration too short for its width."""
    with phases.phase("compare"):
        for check in checks:
            check(policy, where)
    if short := short_calibration(policy):
        warnings.warn(f"{where}: {short}", stacklevel=4)


def load(path: str | Path) -> Policy:
    """The policy in the container at ``path``. Raises ``BadInput`` for any file that is not a valid one."""
    return read_policy(path)


def _dt_range(dt: float | tuple[float, float], where: str) -> DtRange:
    """The nominal timespan is 1 where the range holds it, else the range's geometric mean. Raises BadInput."""
    try:
        lo, hi = (float(value) for value in (dt if isinstance(dt, (tuple, list)) else (dt, dt)))
    except (TypeError, ValueError):
        raise BadInput(f"dt is {dt!r}; give one timespan or a pair (lo, hi)") from None
    middle = 1.0 if lo <= 1.0 <= hi else float(np.sqrt(lo * hi)) if 0 < lo < hi else lo
    told = DtRange(lo, hi, float(np.clip(middle, lo, hi)) if lo <= hi else middle)
    check_dt_range(told, where)
    return told


def _spanned(data: Sequences | None) -> DtRange:
    """The range of the calibration's timespans, the library's default where it has none."""
    timespans = None if data is None else data.dt
    if timespans is None:
        return DtRange()
    return _dt_range((float(timespans.min()), float(timespans.max())), "calibration")


def _assuming(policy: Policy, where: str) -> Policy:
    """The policy that says its dt is assumed, where it reads one; warns then."""
    if not reads_dt(policy):
        return policy
    policy = replace(policy, dt=replace(policy.dt, assumed=True))
    warnings.warn(f"{where}: {policy.dt.words}: {ASSUMED_MEANS}; save it with dt=..., the timespan or the range "
                  "(lo, hi) of training, dt=1.0 where none were given", stacklevel=4)
    return policy


def _range(
    given: ArrayLike | None, data: Sequences | None, policy: Policy, margin: float, where: str
) -> NDArray[np.float64]:
    inputs = policy.inputs
    if given is None:
        assert data is not None
        return guessed(data, policy, margin)
    try:
        bounds = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"{where}: input_range is not bounds (lo, hi) or an array ({inputs}, 2)") from None
    bounds = np.tile(bounds, (inputs, 1)) if bounds.shape == (2,) else bounds
    check_input_range(bounds, inputs, where)
    return bounds


def _identifier(text: str) -> str:
    """A file's stem as a policy name: letters, digits and _, no digit first, nothing that is taken."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)[:MOST - len("policy_")]
    return f"policy_{name}" if any(policy_name(name)) else name
