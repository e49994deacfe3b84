"""A whole torch module -> the layers of a policy: one step is watched, then compared with the module's own forward."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from ncpc.errors import BadInput, NcpcError, Unsupported
from ncpc.frontend.data import require_names
from ncpc.frontend.imported import Imported
from ncpc.frontend.traced.cells import CellCalls, Reader, cells_in
from ncpc.frontend.traced.channels import F64, LATER, TIMESPAN, Traced, TracedGraph, of_channels
from ncpc.frontend.traced.forward import (
    CallFailed,
    Carry,
    Forward,
    Results,
    arguments_of,
    at,
    input_groups,
    leaves,
    results_of,
)
from ncpc.frontend.traced.functions import HANDLERS
from ncpc.frontend.traced.mixing import mixed_at
from ncpc.frontend.traced.precision import in_double
from ncpc.frontend.traced.recorder import Recorder, Sizes, as_traced, watching
from ncpc.frontend.traced.tidy import tidied
from ncpc.frontend.traced.timespans import common_timespan
from ncpc.frontend.traced.written_out import CarriedState, CellUnknown, replace_cells
from ncpc.ir.cells import RECURRENT
from ncpc.ir.heads import History
from ncpc.ir.policy import INPUT, ChannelGroup, DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.wires import row
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.system.torch_library import copy_of, torch_module, versions
from ncpc.system.user_code import one_line

STEPS, SEQUENCES = 4, 2
"""How long a reading is tried before it is believed; the whole comparison follows."""
TRIED = 1e-6


class StepsMixed(BadInput):
    """What is read step by step is not what the module computes over ``steps``: ``apart`` is the difference."""

    steps = STEPS

    def __init__(self, message: str, apart: float) -> None:
        super().__init__(message)
        self.apart = apart


@dataclass(frozen=True)
class Reading:
    """The layers of a module and the way its forward is called."""

    imported: Imported
    forward: Forward


def read_module(module: Any, shapes: Mapping[str, Sequence[int]] | None, known: Reader, where: str,
                heads: Sequence[str] = (), carry: Carry | None = None, states: Sequence[Sequence[int]] = ()) -> Reading:
    """The layers that compute what ``module``'s forward computes.

    ``shapes``: those of one step's inputs by argument, or under '' of the only one. ``known``: the reader of cells.
    ``heads``: the outputs that are wanted, all if empty. ``carry``: the arguments that hold the state, and what of the
    results they are next; none if empty, told by their names if None. ``states``: shapes of a state's parts, where
    cells written out in elementary functions are to be found; the module then returns the parts behind its outputs.
    Raises Unsupported or BadInput, with the line of the user's file, for what cannot be read.
    """
    _require_finite(module, where)
    takes = arguments_of(module, shapes or {}, where, carry)
    require_names(filter(None, shapes or ()), takes.inputs, where)
    alone, held = len(takes.inputs) == 1, "', '".join(takes.state)
    shapes = {name or takes.inputs[0]: shape for name, shape in (shapes or {}).items() if name or alone}
    groups = input_groups(takes.inputs, shapes, where)
    failures: list[str] = []
    refusal: NcpcError | None = None
    for way in _ways(module, takes.required):
        forward = Forward(f"{type(module).__name__}.forward", groups, takes, Results({}, ()), *way)
        try:
            reading = _watched(module, forward, known, where, heads, states)
            apart = _apart(module, reading, where)
        except CallFailed as error:
            failures.append(one_line(error.__cause__ or error))
            continue
        except NcpcError as error:
            refusal = refusal or error
            continue
        except Exception as error:
            failures.append(one_line(error))
            continue
        if apart <= TRIED:
            return reading
        line = mixed_at(module, forward)
        refusal = refusal or StepsMixed(
            f"{where}: {forward.name} computes over a sequence of {STEPS} steps otherwise than step by step (outputs "
            f"differ by {apart:.3g}): it mixes steps of time{f' at {line}' if line else ''}, which cells alone may do: "
            "those of ncps, torch.nn and ncpc.cells"
            + (f"; '{held}' is taken for its state" if held and not reading.forward.gives.states else ""), apart)
    told = ", ".join(f"{group.name} {group.shape}" for group in groups)
    if takes.required and refusal is None:
        raise BadInput(f"{where}: forward of {type(module).__name__} must be given '{held}', of which no "
                       f"cell tells the shape ({failures[0]}); let it be None by default, and begin from zeros then")
    raise refusal or BadInput(f"{where}: {type(module).__name__}.forward failed on one step of {told} ({failures[0]}); "
                              "give input_shape where that is not the shape of a step")


def _require_finite(module: Any, where: str) -> None:
    """A parameter that is NaN makes every output so: said before outputs are compared with anything."""
    for name, parameter in module.named_parameters():
        if not np.isfinite(parameter.detach().double().cpu().numpy()).all():
            raise BadInput(f"{where}: parameter {name} holds NaN or infinity; train again or restore an earlier "
                           "checkpoint")


def require_kept(module: Any, forward: Forward, where: str) -> None:
    """Raises BadInput where a module keeps nothing from one call to the next."""
    width = sum(group.width for group in forward.groups)
    data = np.random.default_rng(0).uniform(-1, 1, (1, STEPS, width)), np.ones((1, STEPS))
    if forward.over_time and len(forward.cuts(module, data, where)) < 2:
        raise BadInput(f"{where}: carry='attributes' says that the module keeps its state, but the same call again "
                       "gives the same; leave carry out, or name the arguments and results that hold it")


def _ways(module: Any, required: bool) -> list[tuple[bool, bool, bool]]:
    """Ways to call a forward, the likeliest first: over time, with time first, step by step; where a state is
    ``required``, first with one of zeros, then with None.
    """
    turned = any(getattr(part, "batch_first", True) is False for part in module.modules())
    ways = [(True, False), *([(True, True)] if turned else []), (False, False)]
    return [(*way, zeros) for way in ways for zeros in ((True, False) if required else (False,))]


def _watched(module: Any, forward: Forward, known: Reader, where: str, heads: Sequence[str],
             entering: Sequence[Sequence[int]]) -> Reading:
    """One step of the module, as layers."""
    (copied,) = copy_of([module])
    copied = copied.eval().cpu().double()
    width = sum(group.width for group in forward.groups)
    graph = TracedGraph(width + sum(map(math.prod, entering)))
    recorder = Recorder(graph, HANDLERS, _longer(module, forward, where))
    cells = cells_in(copied)
    calls = CellCalls(recorder, known)
    given = _called(copied, forward, recorder, cells, calls, entering)
    states = [path for path, tensor in leaves(given) if (path[0] == 1 if entering else _is_state(recorder, tensor))]
    if entering:
        _find_cells(recorder, width, entering, [at(given, path) for path in states])
    constants = [path for path, tensor in leaves(given) if id(tensor) not in recorder.traced]
    gives = _wanted(results_of(given, states, constants, forward.takes), heads, where)
    outputs = {name: as_traced(recorder.seen(at(given, path))) for name, path in gives.outputs.items()}
    if all(traced.constant for traced in outputs.values()):
        raise Unsupported(f"{where}: the output '{next(iter(outputs), '')}' does not depend on the inputs")
    channels = {name: recorder.graph.plain(traced) for name, traced in outputs.items()}
    groups = tuple(ChannelGroup(name, _shape(at(given, gives.outputs[name]))) for name in channels)
    imported = _imported(recorder, calls, np.concatenate(list(channels.values())), forward, groups, cells)
    return Reading(imported, replace(forward, gives=gives, whole=any(isinstance(x, History) for x in imported.layers)))


def _longer(module: Any, forward: Forward, where: str) -> Sizes:
    """The shapes of what functions give over two steps; none where forward cannot be run so."""
    (copied,) = copy_of([module])
    copied, recorder = copied.eval().cpu().double(), Recorder(TracedGraph(0), {})
    x = np.random.default_rng(0).uniform(-1, 1, (1, 2, sum(group.width for group in forward.groups)))
    with suppress(NcpcError), in_double(), watching(recorder, copied, cells_in(copied), lambda *_: None):
        if forward.over_time:
            forward.call(copied, x, np.ones((1, 2)), None, where)
    return recorder.sizes


def _find_cells(recorder: Recorder, width: int, entering: Sequence[Sequence[int]], leaving: Sequence[Any]) -> None:
    """Cells in the place of what computes the states, which are no inputs any more."""
    ends = np.cumsum([width, *map(math.prod, entering)])
    replace_cells(recorder.graph, width, [CarriedState(np.arange(lo, hi), as_traced(recorder.seen(tensor)))
                                          for (lo, hi), tensor in zip(pairwise(ends), leaving, strict=True)])
    recorder.graph.inputs = width


def _called(module: Any, forward: Forward, recorder: Recorder, cells: Mapping[str, Any], calls: CellCalls,
            entering: Sequence[Sequence[int]]) -> Any:
    """What forward gives for one step of random numbers, watched."""
    torch, width = torch_module(), sum(group.width for group in forward.groups)
    numbers = np.random.default_rng(0).uniform(-1, 1, (1, 1, width))
    x, dt = torch.as_tensor(numbers), torch.ones((1, 1), dtype=torch.float64)
    given, ids = forward.arguments(x, dt), forward.arguments(of_channels(0, (1, 1, width)).channel, dt)
    given = {name: tensor.clone() for name, tensor in given.items()}
    for group in forward.groups:
        channel = ids[group.name]
        time = (0 if forward.time_first else 1) if forward.over_time else None
        recorder.mark(given[group.name], replace(of_channels(0, channel.shape), channel=channel, time=time))
    if forward.takes.timespans:
        spans = given[forward.takes.timespans]
        recorder.mark(spans, replace(of_channels(0, spans.shape), channel=torch.full(spans.shape, float(TIMESPAN),
                                                                                    dtype=torch.float64)))
    if forward.takes.state and forward.takes.required:
        given.update(forward.takes.given_state(forward.first(module, 1, torch.float64)))
    if entering and forward.takes.state:
        given.update(forward.takes.given_state(_states(recorder, width, entering)))
    with in_double(), watching(recorder, module, cells, calls.called):
        return module(**given)


def _states(recorder: Recorder, first: int, shapes: Sequence[Sequence[int]]) -> tuple[Any, ...]:
    """A state whose parts are channels from ``first`` on."""
    found = []
    for shape in shapes:
        channels = of_channels(first, (1, *shape))
        found.append(torch_module().as_tensor(np.random.default_rng(first).uniform(-1, 1, channels.shape)))
        recorder.mark(found[-1], channels)
        first += math.prod(shape)
    return tuple(found)


def _is_state(recorder: Recorder, tensor: Any) -> bool:
    """Whether a tensor holds the states of cells, or all that a cell gives where that is its state."""
    traced = recorder.traced.get(id(tensor))
    if not isinstance(traced, Traced):
        return False
    channels = np.asarray(traced.channel).reshape(-1)
    kept = bool(((channels < TIMESPAN) & (channels > LATER)).all())
    return kept or (traced.plain and bool(np.isin(channels, _cells(recorder)).all()))


def _cells(recorder: Recorder) -> Any:
    graph = recorder.graph
    return np.concatenate([np.zeros(0), *(np.arange(lo, hi) for lo, hi, layer in zip(
        graph.firsts[1:], graph.ends[1:], graph.layers, strict=True) if layer.kind in RECURRENT)])


def _wanted(gives: Results, heads: Sequence[str], where: str) -> Results:
    """Those outputs that were asked for."""
    if unknown := [name for name in heads if name not in gives.outputs]:
        raise BadInput(f"{where}: no output '{unknown[0]}'; forward gives {', '.join(gives.outputs)}")
    return replace(gives, outputs={name: gives.outputs[name] for name in heads}) if heads else gives


def _shape(tensor: Any) -> tuple[int, ...]:
    """The shape of one step's output, without batch and time."""
    shape = tuple(tensor.shape)
    while len(shape) > 1 and shape[0] == 1:
        shape = shape[1:]
    return shape or (1,)


def _imported(recorder: Recorder, calls: CellCalls, outputs: Any, forward: Forward, groups: tuple[ChannelGroup, ...],
              cells: Mapping[str, Any]) -> Imported:
    graph = recorder.graph
    dt = common_timespan(graph, calls.timespans)
    taps = graph.taps(outputs)
    layers, wires, initial = tidied(graph.layers, [*graph.wires, taps], calls.initial)
    if any(tap.source == INPUT and tap.stop > graph.inputs for taps in wires for tap in taps):
        raise CellUnknown("a state is used outside of its cell; use what the cell gives")
    if not layers:
        raise Unsupported("its outputs are its inputs; there is nothing to deploy")
    named = len(forward.groups) > 1
    plain = wires == row(layers) and not named
    told = {"source": "torch", "module": f"{forward.name}",
            "cells": [{"name": name, "class": type(cell).__name__} for name, cell in cells.items()],
            "versions": versions()}
    return Imported(
        layers, told, () if plain else wires, initial,
        input_groups=forward.groups if named or len(forward.groups[0].shape) > 1 else (),
        output_groups=groups if [group.name for group in groups] != ["y"] else (),
        width=graph.inputs, dt=dt,
    )


def _apart(module: Any, reading: Reading, where: str) -> float:
    """How far the layers are from the module on a few steps of random numbers, relative to outputs beyond 1."""
    read = reading.imported
    nominal = read.dt or 1.0
    x = np.random.default_rng(1).uniform(-1, 1, (SEQUENCES, STEPS, read.inputs))
    dt = np.full(x.shape[:2], nominal)
    policy = Policy("read", read.layers, np.tile([-1.0, 1.0], (read.inputs, 1)), DtRange(nominal, nominal, nominal),
                    wires=read.wires, initial=read.initial)
    expected = run(lower(policy), Sequences(x, dt)).y
    return max(_difference(forward.run(module, (x, dt), where, cut=cut), expected)
               for forward in (reading.forward, *_carrying(module, reading.forward, (x, dt), where))
               for cut in ((0,) if reading.forward.gives.states else forward.cuts(module, (x, dt), where)))


def _carrying(module: Any, forward: Forward, data: tuple[F64, F64], where: str) -> list[Forward]:
    """Where forward takes a state and nothing that it gives is one of cells: the call that takes what it gives last
    for its own state, if it does take that.
    """
    given = forward.call(module, data[0][:1, :1], data[1][:1, :1], None, where) if forward.takes.state else None
    tops = list(dict.fromkeys(path[:1] for path, _ in leaves(given)))
    if forward.gives.states or forward.whole or len(tops) < 2:
        return []
    found = replace(forward, gives=replace(forward.gives, states=(tops[-1],)))
    try:
        found.run(module, data, where, cut=STEPS // 2)
    except BadInput:
        return []
    return [found]


def _difference(outputs: Mapping[str, F64], expected: F64) -> float:
    if len({part.shape[:2] for part in outputs.values()}) > 1:
        return np.inf
    given = np.concatenate(list(outputs.values()), axis=2)
    expected = expected[:, -1:] if given.shape[1] == 1 else expected
    if given.shape != expected.shape:
        return np.inf
    return float(np.abs(given - expected).max()) / max(1.0, float(np.abs(expected).max()))
