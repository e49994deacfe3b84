"""Where in the user's file numbers of two steps of time first meet outside of a cell: only said, never relied upon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from ncpc.frontend.traced.cells import cells_in, tensors_of
from ncpc.frontend.traced.forward import Forward, at
from ncpc.frontend.traced.precision import doubled, in_double
from ncpc.frontend.traced.recorder import user_line
from ncpc.system.torch_library import copy_of, functions_seen, torch_module

Tensor = Any
Marks = tuple[Tensor, Tensor]
"""Which elements of a tensor depend on the first step, and which on the second."""


@dataclass
class Meeting:
    """Elements by the steps they depend on, found by running each function on NaN in their place."""

    marks: dict[int, Marks] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    inside: int = 0
    """How many cells are running: they may mix steps."""
    line: str | None = None

    def mark(self, tensor: Tensor, marks: Marks) -> None:
        self.marks[id(tensor)] = marks
        self.kept.append(tensor)

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a function; note where its results come from."""
        func, args, kwargs = doubled(func, args, kwargs)
        known = [v for v in tensors_of((args, kwargs)) if id(v) in self.marks]
        if self.inside or self.line or not known:
            return func(*args, **kwargs)
        found = [self._nans(func, args, kwargs, step) for step in (0, 1)]
        result = func(*args, **kwargs)
        for tensor, first, second in zip(_changed(result, args), *found, strict=False):
            self.mark(tensor, (first, second))
            if bool((first & second).any()):
                self.line = user_line()
        return result

    def _nans(self, func: Any, args: Any, kwargs: Any, step: int) -> list[Tensor]:
        """Which elements of the results become NaN where those of ``step`` are."""
        torch = torch_module()

        def poisoned(value: Any) -> Any:
            if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
                return type(value)(map(poisoned, value))
            if not torch.is_tensor(value):
                return value
            copy = value.detach().clone()
            return copy.masked_fill_(self.marks[id(value)][step], float("nan")) if id(value) in self.marks else copy

        args, kwargs = poisoned(args), {key: poisoned(value) for key, value in kwargs.items()}
        result = func(*args, **kwargs)
        return [torch.isnan(tensor) if tensor.is_floating_point() else torch.zeros_like(tensor, dtype=torch.bool)
                for tensor in _changed(result, args)]

    def cell(self, cell: Any, given: Any, output: Any) -> None:
        """A cell's outputs depend on the step of its input, whatever its state does."""
        torch, tensors = torch_module(), tensors_of(output)
        marks = self.marks.get(id(next(iter(tensors_of(given)), None)))
        if marks is None or not tensors:
            return
        whole = [bool(part.any()) for part in marks]
        for tensor in tensors:
            self.mark(tensor, tuple(torch.zeros_like(tensor, dtype=torch.bool) for _ in range(2)))
        y, axis = tensors[0], 0 if getattr(cell, "batch_first", True) is False else 1
        for step, part in enumerate(self.marks[id(y)]):
            if all(whole) and y.ndim > axis and y.shape[axis] == 2:
                part.select(axis, step).fill_(True)
            else:
                part.fill_(whole[step] and not all(whole))


def _changed(result: Any, args: Any) -> list[Tensor]:
    """What a function made; or wrote into, where it gives nothing back."""
    return [args[0]] if result is None else tensors_of(result)


def mixed_at(module: Any, forward: Forward) -> str | None:
    """The line at which two steps of ``module`` meet outside of its cells, if one is found."""
    for calls in ([0, 2], [0, 1, 2]) if forward.over_time else ([0, 1, 2],):
        (copied,) = copy_of([module])
        meeting = Meeting()
        with suppress(Exception):  # whatever stops the module has been said by its reading
            _run(copied.eval().cpu().double(), forward, cells_in(copied), meeting, calls)
        if meeting.line is not None:
            return meeting.line
    return None


def _run(module: Any, forward: Forward, cells: Mapping[str, Any], meeting: Meeting,
         calls: Sequence[int]) -> None:
    """Two steps, in one call or in two."""
    torch = torch_module()
    width = sum(group.width for group in forward.groups)
    x = torch.as_tensor(np.random.default_rng(0).uniform(-1, 1, (1, 2, width)))
    steps = torch.tensor([[0.0], [1.0]]).expand(1, 2, width)

    with ExitStack() as stack:
        for name, part in module.named_modules():
            if name in cells:
                stack.callback(part.register_forward_pre_hook(lambda *_: _entered(meeting)).remove)
                stack.callback(part.register_forward_hook(
                    lambda cell, args, output: _left(meeting, cell, args, output)).remove)
        stack.enter_context(torch.no_grad())
        state = None
        for lo, hi in pairwise(calls):
            given = forward.given(module, x[:, lo:hi], torch.ones((1, hi - lo), dtype=torch.float64), state)
            for name, step in forward.arguments(steps[:, lo:hi], torch.ones((1, hi - lo))).items():
                if name != forward.takes.timespans:
                    meeting.mark(given[name], (step == 0, step == 1))
            with in_double(), functions_seen(meeting.call):
                result = module(**given)
            state = _state(forward, result)


def _state(forward: Forward, result: Any) -> Any:
    """What the first call gave for the second: its states, or else whatever stands behind its outputs."""
    if parts := [at(result, path) for path in forward.gives.states]:
        return parts[0] if len(parts) == 1 else tuple(parts)
    return result[-1] if isinstance(result, tuple) and len(result) > 1 else None


def _entered(meeting: Meeting) -> None:
    meeting.inside += 1


def _left(meeting: Meeting, cell: Any, given: Any, output: Any) -> None:
    meeting.inside -= 1
    if not meeting.inside:
        meeting.cell(cell, given, output)
