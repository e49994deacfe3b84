"""``ncpc.save`` and ``ncpc.load``: from a trained model to a policy container and back."""

from __future__ import annotations

import math
import operator
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncpc.errors import BadInput
from ncpc.frontend.container import read_policy, write_policy
from ncpc.frontend.data import frames_of, read_sequences
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.live import is_keras
from ncpc.frontend.ranges import MARGIN, guessed, short_calibration
from ncpc.frontend.validate import check_dt_range, check_input_range, check_policy
from ncpc.ir.names import MOST, policy_name
from ncpc.ir.policy import ASSUMED_MEANS, DtRange, Layer, Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.wires import group_names
from ncpc.passes.lower import reads_dt
from ncpc.system.torch_library import copy_of

ANY = DtRange(0.0, math.inf, 1.0)
"""What timespans of a calibration may be before anything is declared."""

Check = Callable[[Policy, str], None]
"""Raises ``BadInput`` where the policy and the model it was read from differ."""


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
    input_shape: Sequence[int] | None = None,
    outputs: str = "values",
) -> Policy:
    """Read a trained model, check that the policy computes what it computes, and write the container to ``path``.

    ``model``: an ncps.torch ``LTC`` or ``LTCCell``, an ordered list of modules around one, a Keras model with a cell of
    ncps.keras, or what a frontend has read already (``Imported``, or layers of ``ncpc.ir.policy``), which is taken as
    it is. ``like``: the torch module that an ordered list was taken from; its own forward, run on (B, T, inputs) from
    its first state (and on ``timespans`` (B, T), where it takes such), must give the same outputs, (B, T, outputs),
    those of the last step alone, or a tuple that begins with them. ``calibration``: typical inputs, (T, inputs) or
    (B, T, inputs), as array, torch tensor, npz path (``x``, optional ``dt``, ``reset``) or mapping of those.
    ``input_range``: (inputs, 2) or one (lo, hi) for all; left out, it is guessed: the calibration's, wider by
    ``margin`` of its width at either end, one range for all of a frame. ``dt``: the timespan in the unit of training
    (1.0 where none were given), or the range (lo, hi) of timespans the policy may meet; left out, that of the
    calibration's timespans, and without those 1.0: where a cell reads dt, the policy then says that this is assumed,
    and a warning too. ``sample_hz`` documents how often steps happen.
    ``clip_negative`` sets negative w, cm, gleak to 0, as ``apply_weight_constraints()`` does, without touching
    ``model``. ``input_shape`` is that of one step's input where torch modules read frames, (channels, height, width); a
    Keras model tells it by itself. A calibration may hold frames or flat ones. ``outputs="logits"`` says that the
    policy is a classifier: reports then compare its decisions too.

    Returns the policy as written. Raises ``BadInput`` or ``Unsupported``; nothing is written then.
    """
    read, check = _read_model(model, clip_negative, _shape(input_shape))
    where, told = str(path), ANY if dt is None else _dt_range(dt)
    if dt is not None:
        check_dt_range(told, where)
    draft = _drafted(read, _identifier(Path(path).stem) if name is None else name)
    data = None if calibration is None else read_sequences(
        calibration, draft.inputs, told, _source(calibration), frames_of(draft), draft.outputs, draft.input_groups)
    policy = replace(
        draft, input_range=_range(input_range, data, draft, margin, where),
        dt=told if dt is not None else _spanned(data),
        input_names=tuple(input_names or draft.input_names), output_names=tuple(output_names or draft.output_names),
        calibration=data, sample_hz=None if sample_hz is None else float(sample_hz),
        meaning=outputs, compared=_compared(model, check, like),
        range_guessed=input_range is None,
    )
    check_policy(policy, where)
    policy = _assuming(policy, where) if dt is None and (data is None or data.dt is None) else policy
    _compare(policy, where, check, None if like is None else _comparison(like, clip_negative, _shape(input_shape)))
    write_policy(policy, path)
    return policy


def _drafted(read: Imported, name: str) -> Policy:
    """The policy of what was read, its input range still to be told."""
    unknown = np.tile([-1.0, 1.0], (read.inputs, 1))
    policy = Policy(name, read.layers, unknown, provenance=read.provenance, wires=read.wires, initial=read.initial,
                    input_groups=read.input_groups, output_groups=read.output_groups)
    return replace(policy, input_names=group_names(read.input_groups) or tuple(f"x{i}" for i in range(policy.inputs)),
                   output_names=group_names(read.output_groups) or tuple(f"y{i}" for i in range(policy.outputs)))


def _compare(policy: Policy, where: str, *checks: Check | None) -> None:
    """Make every check that there is; warn of a calibration too short for its width."""
    for check in checks:
        if check is not None:
            check(policy, where)
    if short := short_calibration(policy):
        warnings.warn(f"{where}: {short}", stacklevel=3)


def load(path: str | Path) -> Policy:
    """The policy in the container at ``path``. Raises ``BadInput`` for any file that is not a valid one."""
    return read_policy(path)


def _read_model(
    model: Any, clip_negative: bool, shape: Sequence[int] | None = None
) -> tuple[Imported, Check | None]:
    """What ``model`` says, and the check against it (none where there is no running model)."""
    if isinstance(model, Imported):
        return (_clipped(model) if clip_negative else model), None
    parts = list(model) if isinstance(model, (list, tuple)) else [model]
    if parts and all(isinstance(part, Layer) for part in parts):
        return _read_model(Imported(tuple(parts), {"source": "layers"}), clip_negative)
    if is_keras(model):
        return _read_keras(model, clip_negative)
    return _read_torch(model, clip_negative, shape)


def _read_keras(model: Any, clip_negative: bool) -> tuple[Imported, Check | None]:
    """A model that is to be clipped is not compared with: it computes something else."""
    from ncpc.frontend.keras import agreement, read

    found = read.import_model(model)
    if clip_negative:
        return _clipped(found), None
    return found, lambda policy, where: agreement.check_agreement(policy, model, where)


def _read_torch(model: Any, clip_negative: bool, shape: Sequence[int] | None) -> tuple[Imported, Check | None]:
    from ncpc.frontend import agreement, ncps_torch  # need torch

    modules = ncps_torch.flatten(model)
    if clip_negative:
        modules = copy_of(modules)
        ncps_torch.clip_negative(modules)
    read = ncps_torch.import_model(modules, shape)
    return read, lambda policy, where: agreement.check_agreement(policy, modules, where, shape)


def _compared(model: Any, check: Check | None, like: Any) -> str:
    """With what the policy is compared (``COMPARED``)."""
    from ncpc.frontend.forward import runs

    if like is not None and runs(like):
        return "forward"
    if check is None:
        return "nothing"
    return "parts" if isinstance(model, (list, tuple)) and len(model) > 1 else "forward"


def _comparison(like: Any, clip_negative: bool, shape: Sequence[int] | None) -> Check:
    """The check against the own forward of the module that the layers were taken from."""
    from ncpc.frontend import forward, ncps_torch  # need torch

    (module,) = copy_of([forward.require_module(like)])
    if clip_negative:
        ncps_torch.clip_negative(module.modules())
    return lambda policy, where: forward.check_forward(policy, ncps_torch.unwrapped(module), where, shape)


def _clipped(read: Imported) -> Imported:
    """Every negative w, cm, gleak of an LTC at 0, as the cell's ``apply_weight_constraints()`` does."""
    return replace(read, layers=tuple(_clip_ltc(x) if isinstance(x, Ltc) else x for x in read.layers))


def _clip_ltc(layer: Ltc) -> Ltc:
    sensory, recurrent = (replace(s, w=np.maximum(s.w, 0.0)) for s in (layer.sensory, layer.recurrent))
    cm, gleak = np.maximum(layer.cm, 0.0), np.maximum(layer.gleak, 0.0)
    return replace(layer, sensory=sensory, recurrent=recurrent, cm=cm, gleak=gleak)


def _source(calibration: object) -> str:
    return str(calibration) if isinstance(calibration, (str, Path)) else "calibration"


def _shape(given: Sequence[int] | None) -> tuple[int, ...] | None:
    """The shape of one step's input, of one to three dimensions."""
    if given is None:
        return None
    try:
        shape = tuple(operator.index(n) for n in given)
    except TypeError:
        shape = ()
    if not 1 <= len(shape) <= 3 or min(shape) < 1:
        raise BadInput(f"input_shape is {given!r}; give the shape of one step's input, without batch and time: "
                       "(channels, height, width), (channels, width) or (inputs,)")
    return shape


def _dt_range(dt: float | tuple[float, float]) -> DtRange:
    """The nominal timespan is 1 where the range holds it, else the range's geometric mean."""
    try:
        lo, hi = (float(value) for value in (dt if isinstance(dt, (tuple, list)) else (dt, dt)))
    except (TypeError, ValueError):
        raise BadInput(f"dt is {dt!r}; give one timespan or a pair (lo, hi)") from None
    middle = 1.0 if lo <= 1.0 <= hi else float(np.sqrt(lo * hi)) if 0 < lo < hi else lo
    return DtRange(lo, hi, float(np.clip(middle, lo, hi)) if lo <= hi else middle)


def _spanned(data: Sequences | None) -> DtRange:
    """The range of the calibration's timespans, the library's default where it has none."""
    return DtRange() if data is None or data.dt is None else _dt_range((float(data.dt.min()), float(data.dt.max())))


def _assuming(policy: Policy, where: str) -> Policy:
    """The policy that says its dt is assumed, where it reads one; warns then."""
    if not reads_dt(policy):
        return policy
    policy = replace(policy, dt=replace(policy.dt, assumed=True))
    warnings.warn(f"{where}: {policy.dt.words}: {ASSUMED_MEANS}; save it with dt=..., the timespan or the range "
                  "(lo, hi) of training, dt=1.0 where none were given", stacklevel=3)
    return policy


def _range(
    given: ArrayLike | None, data: Sequences | None, policy: Policy, margin: float, where: str
) -> NDArray[np.float64]:
    inputs = policy.inputs
    if given is None and data is None:
        raise BadInput(f"{where}: neither calibration nor input_range given; pass typical inputs or their bounds "
                       "(ncpc import: --calibrate FILE.npz, --input-range LO HI)")
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
