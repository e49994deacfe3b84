"""Calls of recurrent cells inside a module: which layers they are, what they read, where their state starts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ncpc.cells import is_recurrent
from ncpc.errors import Unsupported
from ncpc.frontend.traced.channels import I64, Tensor, Traced, TracedGraph, of_channels
from ncpc.frontend.traced.recorder import Recorder, as_traced, depends, user_line
from ncpc.frontend.traced.timespans import GivenTimespan, factor_of
from ncpc.ir.policy import InitialState, Layer, Ltc
from ncpc.system.torch_library import torch_module

TIMESPANS = ("timespans", "elapsed_time", "ts")
"""How the cells of ncps and ``ncpc.cells`` name the argument that takes the timespan."""

Reader = Callable[[Any], list[Layer] | None]
"""The layers of a cell; None for a module that is none."""


@dataclass
class CellCalls:
    """What the calls of cells say beyond layers: initial states, and the timespans that they are given."""

    recorder: Recorder
    reader: Reader
    initial: list[InitialState] = field(default_factory=list)
    timespans: dict[str, GivenTimespan] = field(default_factory=dict)
    """By the cell's name."""

    def called(self, name: str, cell: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A cell's call as layers."""
        bound = inspect.signature(cell.forward).bind(*args, **kwargs).arguments
        names = list(inspect.signature(cell.forward).parameters)
        x, hx = bound[names[0]], bound.get(names[1])
        graph, torch = self.recorder.graph, torch_module()
        if not torch.is_tensor(x):
            raise Unsupported(f"{name} is given a {type(x).__name__}; packed sequences are for training, in eval() "
                              "mode give it the tensor")
        if not depends(self.recorder.seen(x)):
            raise Unsupported(f"{name} does not read the inputs")
        entering = as_traced(self.recorder.seen(x))
        layers = list(self.reader(cell) or ())
        layers[0], channels = _entered(graph, layers[0], entering)
        made = graph.row(layers, channels)
        places = range(len(graph.layers) - len(layers), len(graph.layers))
        self._timespan(name, cell, bound, places)
        self._start(name, self.recorder.seen(hx), places)
        y = output[0] if isinstance(output, (tuple, list)) else output
        if not torch.is_tensor(y) or y.numel() != len(made):
            raise Unsupported(f"{name} gives {tuple(getattr(y, 'shape', ()))} in one step of the policy, its layers "
                              f"{len(made)} values; a cell runs once a step: let a step be what the cell reads at once")
        time = entering.time if y.ndim == len(entering.shape) else None
        self.recorder.mark(y, replace(of_channels(int(made[0]), y.shape), time=time))
        rest = output[1:] if isinstance(output, (tuple, list)) else ()
        for tensor in tensors_of(rest):
            if id(tensor) != id(y):
                self.recorder.mark(tensor, _state(graph, tensor, y, made))

    def _timespan(self, name: str, cell: Any, bound: dict[str, Any], places: range) -> None:
        """Note the timespan that a cell is given, that of ncps where none is."""
        taken = [p for p in inspect.signature(cell.forward).parameters if p in TIMESPANS]
        if taken:
            given = bound.get(taken[0])
            factor, constant = (1.0, True) if given is None else factor_of(as_traced(self.recorder.seen(given)), name)
            self.timespans[name] = GivenTimespan(factor, constant, places, user_line())

    def _start(self, name: str, start: Any, places: Sequence[int]) -> None:
        """The cell's state before its first step, where that is a constant other than 0."""
        if depends(start):
            raise Unsupported(f"{name} starts from a state that depends on the inputs, or runs twice in one step; "
                              "a cell runs once a step, from a constant state; resets are up to the build's caller")
        parts = [np.asarray(t.detach().double()) for t in tensors_of(start)]
        if not any(part.any() for part in parts):
            return
        for k, place in enumerate(places):
            own = [part[k] if len(places) > 1 else part for part in parts]
            self.initial.append(InitialState(place, np.concatenate([part.reshape(-1) for part in own])))


def _entered(graph: TracedGraph, layer: Layer, x: Traced) -> tuple[Layer, I64]:
    """The cell and what it reads: an LTC's own input mapping takes gains and offsets in."""
    if not isinstance(layer, Ltc):
        return layer, graph.plain(x)
    gain, offset = (np.asarray(part).reshape(-1) for part in (x.gain, x.offset))
    mapped = replace(layer, input_w=layer.input_w * gain, input_b=layer.input_b + layer.input_w * offset)
    return mapped, graph.known(x)


def _state(graph: TracedGraph, tensor: Tensor, y: Tensor, made: Any) -> Traced:
    """New channels for a state, which are those of the output where it holds the same numbers."""
    torch = torch_module()
    states = graph.states(tensor.numel())
    if tensor.numel() == y.numel() and torch.equal(tensor.reshape(-1), y.reshape(-1)):
        graph.alias.update(zip(states.tolist(), made.tolist(), strict=True))
    return of_channels(int(states[0]), tensor.shape)


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in tuples, lists and dictionaries."""
    if torch_module().is_tensor(value):
        return [value]
    if isinstance(value, Mapping):
        return [t for item in value.values() for t in tensors_of(item)]
    return [t for item in value for t in tensors_of(item)] if isinstance(value, (list, tuple)) else []


def cells_in(module: Any) -> dict[str, Any]:
    """The cells of a module by name, the outermost where one holds another."""
    found: dict[str, Any] = {}
    for name, part in module.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if not inner and is_recurrent(part):
            found[name] = part
    return found
