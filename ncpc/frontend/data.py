"""Input sequences from whatever a user has at hand: npz files, NumPy arrays, torch tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.frontend.npz import read_npz
from ncpc.frontend.validate import check_sequences
from ncpc.ir.policy import INPUT, ChannelGroup, DtRange, Policy, Tap
from ncpc.ir.sequences import Sequences
from ncpc.ir.windows import Windows
from ncpc.ir.wires import taps_of
from ncpc.system.files import is_file

_KEYS = ("x", "dt", "reset", "y")
WRITTEN = "write it with numpy.savez(path, x=...), x (steps, inputs)"
"""How to make a file of data."""

Frames = tuple[tuple[int, ...], ...]
"""Shapes that one step's input may have beside the flat one."""


def require_data(calibration: object, input_range: object, where: str) -> None:
    """Raises BadInput where neither is given, or the calibration is the path of no file: asked before any model is
    read, which may take long.
    """
    if calibration is None and input_range is None:
        raise BadInput(f"{where}: neither calibration nor input_range given; pass typical inputs or their bounds "
                       "(ncpc import: --calibrate FILE.npz, --input-range LO HI)")
    if isinstance(calibration, (str, Path)) and not is_file(Path(calibration)):
        raise BadInput(f"{calibration}: no such file; {WRITTEN}")


def told_data(calibration: object, input_range: object, where: str) -> tuple[object, str]:
    """The calibration, a file's arrays read once, and its name in messages. Raises BadInput as ``require_data`` does,
    and for a file that holds no arrays.
    """
    require_data(calibration, input_range, where)
    if isinstance(calibration, (str, Path)):
        return read_npz(Path(calibration), WRITTEN), str(calibration)
    return calibration, "calibration"


def read_sequences(
    source: object, inputs: int, dt: DtRange, where: str | None = None, frames: Frames = (), outputs: int | None = None,
    groups: Sequence[ChannelGroup] = (),
) -> Sequences:
    """Sequences of a policy with ``inputs`` inputs, from any of the forms in which users have data.

    ``source``: the path of an npz file or a mapping (``x``, optional ``dt``, ``reset``), an array or torch tensor
    (T, inputs) or (B, T, inputs), or ``Sequences``. ``dt`` and ``reset`` are (T,) or (B, T). ``where`` names the
    source in messages. An input may be a frame of one of the shapes ``frames``; of any shape where none are known.
    Where the inputs are several ``groups``, an array of each one's name, (T, *shape) or (B, T, *shape), may stand in
    for ``x``.
    With ``outputs``, an array ``y`` (T, outputs) or (B, T, outputs) is read too, the outputs of the user's own system;
    without, it is left alone.

    Raises ``BadInput`` for a wrong width (naming both), shape, NaN, or dt outside the range.
    """
    where = where or (str(source) if isinstance(source, (str, Path)) else "data")
    if isinstance(source, Sequences):
        sequences = source
    else:
        arrays = _arrays(source, where, groups)
        sequences = _from_arrays(arrays, inputs, where, frames)
        if outputs is not None and "y" in arrays:
            sequences = replace(sequences, y=_recorded(arrays["y"], sequences.x, outputs, where))
    check_sequences(sequences, inputs, dt, where)
    return sequences


def _arrays(source: object, where: str, groups: Sequence[ChannelGroup]) -> Mapping[str, object]:
    if isinstance(source, (str, Path)):
        told = read_npz(Path(source), WRITTEN)
        return _known(_ungrouped(told, where, groups), where)
    if isinstance(source, Mapping):
        return _known(_ungrouped(source, where, groups), where)
    return {"x": source}


def _ungrouped(arrays: Mapping[Any, object], where: str, groups: Sequence[ChannelGroup]) -> Mapping[Any, object]:
    """The arrays, with ``x`` put together from those of all groups where these are given instead."""
    names = [group.name for group in groups]
    if "x" in arrays or not set(names) & set(arrays):
        return arrays
    require_names(arrays, names, where)
    if missing := [name for name in names if name not in arrays]:
        raise BadInput(f"{where}: no array {missing[0]}; give every input: {', '.join(names)}")
    parts = [_group(_numbers(arrays[group.name], group.name, where), group, where) for group in groups]
    if len({part.shape[:-1] for part in parts}) > 1:
        shapes = ", ".join(f"{name} {part.shape[:-1]}" for name, part in zip(names, parts, strict=True))
        raise BadInput(f"{where}: inputs of different lengths: {shapes}")
    return {"x": np.concatenate(parts, axis=-1), **{key: value for key, value in arrays.items() if key not in names}}


def require_names(given: Iterable[object], names: Sequence[str], where: str) -> None:
    """Raises BadInput for a name among the ``given`` that no input has, nor anything else that data hold."""
    for name in given:
        if name not in names and name not in _KEYS:
            close = get_close_matches(str(name), names, 1)
            raise BadInput(f"{where}: no input is called {name!r}; "
                           + (f"did you mean '{close[0]}'? " if close else "") + f"the inputs are {', '.join(names)}")


def _group(array: NDArray[np.float64], group: ChannelGroup, where: str) -> NDArray[np.float64]:
    """(T, width) or (B, T, width) of one group's array; one channel may do without its dimension."""
    shape = group.shape if array.ndim > 2 or group.width > 1 or array.shape[-1:] == (1,) else ()
    lead = array.shape[: array.ndim - len(shape)]
    if array.shape != (*lead, *shape) or len(lead) not in (1, 2):
        sides = ", ".join(map(str, group.shape))
        raise BadInput(f"{where}: {group.name} has shape {array.shape}, expected (steps, {sides}) or "
                       f"(sequences, steps, {sides})")
    return array.reshape(*lead, group.width)


def _known(arrays: Mapping[Any, object], where: str) -> Mapping[str, object]:
    for key in arrays:
        if key not in _KEYS:
            raise BadInput(f"{where}: unknown array {key!r}; known are {', '.join(_KEYS)}")
    if "x" not in arrays:
        raise BadInput(f"{where}: no array x; it must hold the inputs, (steps, inputs) or (sequences, steps, inputs)")
    return arrays


def _from_arrays(arrays: Mapping[str, object], inputs: int, where: str, frames: Frames) -> Sequences:
    x = _flat_frames(_numbers(arrays["x"], "x", where), inputs, frames)
    if x.ndim not in (2, 3):
        known = f", inputs {inputs:,} numbers or a frame of {' or '.join(map(str, frames))}" if frames else ""
        raise BadInput(f"{where}: x has shape {x.shape}, expected (steps, inputs) or (sequences, steps, inputs){known}")
    x = x[None] if x.ndim == 2 else x
    dt = _per_step(arrays.get("dt"), "dt", x, where)
    reset = _per_step(arrays.get("reset"), "reset", x, where)
    return Sequences(x, dt, None if reset is None else reset != 0)


def shapes_in(source: object) -> list[Mapping[str, tuple[int, ...]]]:
    """What one step of each input in ``source`` may look like, by its name ('' of the only one): with sequences before
    steps, or steps alone. What cannot be read says so later.
    """
    arrays: Mapping[Any, Any] = (
        source if isinstance(source, Mapping) else {"x": source.x if isinstance(source, Sequences) else source})
    shapes = {str(name): tuple(np.shape(array)) for name, array in arrays.items()
              if name not in _KEYS or (name == "x" and len(arrays.keys() - set(_KEYS)) == 0)}
    named = {"" if name == "x" else name: shape for name, shape in shapes.items()}
    most = max((len(shape) for shape in named.values()), default=0)
    leads = (1, 2) if most == 2 else (2, 1)
    return [{name: shape[lead:] for name, shape in named.items()} for lead in leads]


def frames_of(policy: Policy) -> Frames:
    """The shapes of a frame, where the policy's inputs are one: a single row may do without its dimension."""
    if len(policy.input_groups) == 1:
        return (policy.input_groups[0].shape,)
    first = [layer for layer, taps in zip(policy.layers, taps_of(policy), strict=False)
             if taps == (Tap(INPUT, 0, policy.inputs),)]
    w: Windows | None = getattr(first[0], "windows", None) if first else None
    if w is None:
        return ()
    full = (w.channels, w.height, w.width) if w.layout == "chw" else (w.height, w.width, w.channels)
    row = (w.channels, w.width) if w.layout == "chw" else (w.width, w.channels)
    return (row, full) if w.height == 1 else (full,)


def _flat_frames(x: NDArray[np.float64], inputs: int, frames: Frames) -> NDArray[np.float64]:
    """Inputs that are frames of more than one dimension, flat."""
    for lead in (2, 1):
        known = x.shape[lead:] in frames or not frames
        if x.ndim > lead + 1 and known and int(np.prod(x.shape[lead:])) == inputs:
            return x.reshape(*x.shape[:lead], inputs)
    return x


def _recorded(value: object, x: NDArray[np.float64], outputs: int, where: str) -> NDArray[np.float64]:
    """Recorded outputs (B, T, outputs); a single output may do without its dimension."""
    y = _numbers(value, "y", where)
    full = (*x.shape[:2], outputs)
    lead = {full[:2], full[1:2]} if len(x) == 1 else {full[:2]}
    if y.shape not in {(*shape, outputs) for shape in lead} | (lead if outputs == 1 else set()):
        raise BadInput(f"{where}: y has shape {y.shape}, expected {full}: the outputs of your own system for x; leave "
                       "it out if it is something else")
    if not np.isfinite(y).all():
        raise BadInput(f"{where}: y holds NaN or infinity; leave out y, or those steps")
    return y.reshape(full)


def _per_step(value: object, name: str, x: NDArray[np.float64], where: str) -> NDArray[np.float64] | None:
    """(T,) or (B, T) to (B, T)."""
    if value is None:
        return None
    array = _numbers(value, name, where)
    if array.shape not in (x.shape[:2], x.shape[1:2]):
        raise BadInput(f"{where}: {name} has shape {array.shape}, expected {x.shape[1:2]} or {x.shape[:2]} as x")
    return np.broadcast_to(array, x.shape[:2]).copy()


def _numbers(value: Any, name: str, where: str) -> NDArray[np.float64]:
    if hasattr(value, "detach"):  # a torch tensor, recognised without importing torch
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise ValueError
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"{where}: {name} is not an array of real numbers") from None
