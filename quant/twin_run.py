"""A torch module over sequences, called as its reader found, with a state that is carried and differentiable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ncpc.errors import Unsupported
from ncpc.frontend.models import ATTRIBUTES, ModelRead
from ncpc.frontend.ncps_torch import flatten
from ncpc.frontend.traced.forward import Forward
from ncpc.quant.twin_parameters import Once
from ncpc.system.torch_library import torch_module

Run = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""(module, x (B, T, inputs), dt (B, T), state or None) -> (y (B, T, outputs), state)."""


def runner(found: ModelRead, once: Once, shape: Sequence[int] | None, carry: Any) -> Run:
    """How modules of the kind that was read run over sequences. Raises Unsupported where they keep their state in
    attributes, which no gradient may follow from one call into the next.
    """
    if carry == ATTRIBUTES:
        raise Unsupported("ncpc.quant.fine_tune: the module keeps its state in attributes; train it in a loop of your "
                          "own, which knows when to reset and to detach that")
    forward = found.forward

    def run(module: Any, x: Any, dt: Any, state: Any) -> tuple[Any, Any]:
        once.begin()
        try:
            return _listed(module, x, dt, state, shape) if forward is None else _whole(forward, module, x, dt, state)
        finally:
            once.end()

    return run


def carries_state(found: ModelRead) -> bool:
    """Whether a sequence may be cut: what a call gives, the next one takes."""
    return found.forward is None or bool(found.forward.takes.state and found.forward.gives.states)


def _listed(module: Any, x: Any, dt: Any, state: Any, shape: Sequence[int] | None) -> tuple[Any, Any]:
    """A cell, or a list of modules."""
    from ncpc.cells import Sequential  # needs torch

    run = module if isinstance(module, Sequential) else Sequential(flatten(module), shape)
    y, after = run(x, state, dt)
    return y, after


def _whole(forward: Forward, module: Any, x: Any, dt: Any, state: Any) -> tuple[Any, Any]:
    """A module with a forward of its own; where that takes timespans, each sequence of a batch alone: the cells of ncps
    take timespans at a batch of one.
    """
    if not forward.takes.timespans:
        return _rows(forward, module, x, dt, state)
    rows = zip(x.split(1), dt.split(1), state or [None] * len(x), strict=True)
    ys, states = zip(*(_rows(forward, module, *row) for row in rows), strict=True)
    return torch_module().cat(ys), list(states)


def _rows(forward: Forward, module: Any, x: Any, dt: Any, state: Any) -> tuple[Any, Any]:
    found, after = forward.over_calls(lambda *given: module(**forward.given(module, *given)), x, dt, state)
    return torch_module().cat(found, -1), after


def detached(state: Any) -> Any:
    """A state that no gradient leaves."""
    parts, put = _flat(state)
    return put([part.detach() for part in parts])


def _flat(state: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The tensors of a state, and how they are put together again."""
    if isinstance(state, dict):
        parts, put = _flat(list(state.values()))
        return parts, lambda own: dict(zip(state, put(own), strict=True))
    if isinstance(state, (list, tuple)):
        found = [_flat(part) for part in state]
        ends = [0]
        for parts, _ in found:
            ends.append(ends[-1] + len(parts))

        def together(own: Sequence[Any]) -> Any:
            made = [put(own[lo:hi]) for (_, put), (lo, hi) in zip(found, pairwise(ends), strict=True)]
            return type(state)(*made) if hasattr(state, "_fields") else type(state)(made)

        return [part for parts, _ in found for part in parts], together
    if torch_module().is_tensor(state):
        return [state], lambda own: own[0]
    return [], lambda own: state
