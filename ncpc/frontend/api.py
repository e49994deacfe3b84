"""``ncpc.save`` and ``ncpc.load``: from a trained model to a policy container and back."""

from __future__ import annotations

import copy
import operator
import re
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
from ncpc.frontend.validate import check_dt_range, check_input_range, check_policy
from ncpc.ir.policy import DtRange, Layer, Ltc, Policy
from ncpc.ir.sequences import Sequences

Check = Callable[[Policy, str], None]
"""Raises ``BadInput`` where the policy and the model it was read from differ."""


def save(
    model: Any,
    path: str | Path,
    *,
    calibration: object | None = None,
    input_range: ArrayLike | None = None,
    dt: float | tuple[float, float] = 1.0,
    name: str | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    sample_hz: float | None = None,
    margin: float = 0.1,
    clip_negative: bool = False,
    input_shape: Sequence[int] | None = None,
) -> Policy:
    """Read a trained model, check that the policy computes what it computes, and write the container to ``path``.

    ``model``: an ncps.torch ``LTC`` or ``LTCCell``, an ordered list of modules around one, a Keras model with a cell of
    ncps.keras, or what a frontend has read already (``Imported``, or layers of ``ncpc.ir.policy``), which is taken as
    it is. ``calibration``: typical inputs, (T, inputs) or (B, T, inputs), as array, torch tensor, npz path (``x``,
    optional ``dt``, ``reset``) or mapping of those. ``input_range``: (inputs, 2) or one (lo, hi) for all; left out, it
    is the calibration's widened at either end by ``margin`` of its width, one range for all numbers of a frame.
    ``dt``: the timespan in the unit of training (1.0 where none were given), or the range (lo, hi) of timespans the
    policy may meet. ``sample_hz`` documents how often steps happen. ``clip_negative`` sets negative w, cm, gleak to 0,
    as ``apply_weight_constraints()`` does, without touching ``model``. ``input_shape`` is that of one step's input
    where torch modules read frames, (channels, height, width); a Keras model tells it by itself. A calibration may
    hold frames or flat ones.

    Returns the policy as written. Raises ``BadInput`` or ``Unsupported``; nothing is written then.
    """
    read, check = _read_model(model, clip_negative, _shape(input_shape))
    where, dt_range = str(path), _dt_range(dt)
    check_dt_range(dt_range, where)
    inputs, outputs, frames = read.layers[0].inputs, read.layers[-1].outputs, frames_of(read.layers[0])
    data = None if calibration is None else read_sequences(calibration, inputs, dt_range, _source(calibration), frames)
    policy = Policy(
        name=_identifier(Path(path).stem) if name is None else name,
        layers=read.layers,
        input_range=_range(input_range, data, read.layers[0], margin, where),
        dt=dt_range,
        input_names=tuple(input_names or (f"x{i}" for i in range(inputs))),
        output_names=tuple(output_names or (f"y{i}" for i in range(outputs))),
        calibration=data,
        sample_hz=None if sample_hz is None else float(sample_hz),
        provenance=read.provenance,
    )
    check_policy(policy, where)
    if check is not None:
        check(policy, where)
    write_policy(policy, path)
    return policy


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
        modules = copy.deepcopy(modules)
        ncps_torch.clip_negative(modules)
    read = ncps_torch.import_model(modules, shape)
    return read, lambda policy, where: agreement.check_agreement(policy, modules, where, shape)


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


def _range(
    given: ArrayLike | None, data: Sequences | None, first: Layer, margin: float, where: str
) -> NDArray[np.float64]:
    inputs = first.inputs
    if given is None and data is None:
        raise BadInput(f"{where}: neither calibration nor input_range given; pass typical inputs or their bounds")
    if given is None:
        assert data is not None
        return of_frames(widened(data, margin)) if hasattr(first, "windows") else widened(data, margin)
    try:
        bounds = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"{where}: input_range is not bounds (lo, hi) or an array ({inputs}, 2)") from None
    bounds = np.tile(bounds, (inputs, 1)) if bounds.shape == (2,) else bounds
    check_input_range(bounds, inputs, where)
    return bounds


def widened(data: Sequences, margin: float) -> NDArray[np.float64]:
    """Each channel's range in ``data``, (inputs, 2), wider by ``margin`` of its width at either end.

    A channel that never changes says nothing of its width: it gets its value plus and minus max(|value|, 1).
    """
    if not 0 <= margin < np.inf:
        raise BadInput(f"margin is {margin:g}; give a fraction of each channel's width, 0 or more")
    lo, hi = data.x.min(axis=(0, 1)), data.x.max(axis=(0, 1))
    extra = np.where(hi > lo, margin * (hi - lo), np.maximum(np.abs(lo), 1.0))
    return np.stack([lo - extra, hi + extra], axis=1)


def of_frames(bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """One range for all numbers of a frame: a pixel that was dark in every frame may be bright in the next."""
    return np.tile([bounds[:, 0].min(), bounds[:, 1].max()], (len(bounds), 1))


def _identifier(text: str) -> str:
    """A file's stem as a policy name: letters, digits and _, no digit first."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII)
    return name if name[:1].isalpha() or name.startswith("_") else f"policy_{name}"
