"""Histories in integers: everything that one holds, gives and takes has the scale of its state, so that nothing but
slices and concatenations is needed, which copy.
"""

from __future__ import annotations

import numpy as np

from ncpc.ir.heads import History
from ncpc.ir.program import Op, State, Value, statements
from ncpc.semantics.bounds import Range
from ncpc.targets.tflite import affine
from ncpc.targets.tflite.affine import Affine
from ncpc.targets.tflite.rewriter import Rewriter


def is_history(op: Op) -> bool:
    """Whether an op is part of a history."""
    return op.origin is not None and op.origin.layer == History.kind


def history(r: Rewriter, op: Op) -> Affine:
    """A part of the state, or parts of it with the new values behind them."""
    ops = [other for other in statements(r.source.body) if is_history(other) and _place(other) == _place(op)]
    made = {other.out.name for other in ops}
    state = next(state for state in r.source.states if state.out in made)
    if op.kind == "slice":
        return _cut(r, op)
    old = made | {state.inp.name}
    parts = [_atom(r.form(name)) if name in old else _kept(r, name, state) for name in op.args]
    limits = r.boxes[state.out] if op.out.name == state.out else _whole(r, state, op.out.shape[0])
    return affine.of_atom(r.op("concat", op.out.name, *parts, axes=op.out.axes, limits=limits))


def _place(op: Op) -> int | None:
    return op.origin.place if op.origin else None


def _atom(form: Affine) -> Value:
    assert form.atom is not None
    return form.atom


def _cut(r: Rewriter, op: Op) -> Affine:
    past, start = _atom(r.form(op.args[0])), int(op.attrs["start"] or 0)
    limits = Range(*(end[start : start + op.out.shape[0]] for end in r.ranges[past.name]))
    return affine.of_atom(r.op("slice", op.out.name, past, axes=op.out.axes, limits=limits, start=start))


def _kept(r: Rewriter, name: str, state: State) -> Value:
    """New values at the state's scale: by a convolution, whose result may have any."""
    form = r.form(name)
    same = affine.product(np.eye(form.size), form, form.axes)
    return r.value(same, f"{name}_kept", _whole(r, state, form.size))


def _whole(r: Rewriter, state: State, size: int) -> Range:
    """The ends of all of a state, as often as asked for: what decides its scale."""
    return Range(*(np.full(size, end) for end in r.ranges[state.inp.name].ends))
