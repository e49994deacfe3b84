"""Whole networks in files of weights alone: an architecture names the layers, the file holds their weights in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.frontend.foreign import read_or_refused
from ncpc.frontend.heads import merged
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.architecture import Architecture, InputBranch, LayerTable, read_architecture, with_steps
from ncpc.frontend.keras.fitting import guessed_kind, named_weights, require_shapes, require_stages, width_of
from ncpc.frontend.keras.heads import Shape
from ncpc.frontend.keras.held import HeldLayer, held_layers
from ncpc.frontend.keras.layers import NOTHING
from ncpc.frontend.keras.model import LTC, WIRED, KerasLayer, Weights, Wiring
from ncpc.frontend.keras.read import appended, finished
from ncpc.frontend.keras.weights import told_wiring
from ncpc.frontend.keras.wiring import made_wiring, stages_of
from ncpc.frontend.with_widths import with_widths
from ncpc.ir.policy import INPUT, ChannelGroup, Layer, Tap, Taps

Pairs = list[tuple[LayerTable, HeldLayer | None]]


OVER_FRAMES = ("Conv2D", "Normalization", "BatchNormalization", "Dense")
"""Kinds whose ``i`` is the channels of a frame, where they read one."""


def import_network(path: str | Path, architecture: str | Path, steps: tuple[str, int] | None = None) -> Imported:
    """The network whose weights are in a Keras ``.h5`` or ``.hdf5`` file, as the TOML file ``architecture`` has it.

    Layers with weights are matched in the order of the file's ``layer_names``, weights in that of ``weight_names``.
    ``steps``, a fixed method and how many of its steps, takes the place of solvers that are adaptive.
    Nothing in either file is run. Raises ``BadInput`` naming the layer, the weight and both shapes where they differ.
    """
    told, where = with_steps(read_architecture(architecture), steps, str(architecture)), str(path)
    source = {"source": "keras weights", "architecture": Path(architecture).name}
    with read_or_refused(Path(path), "Keras"):
        pairs = iter(_matched(told, held_layers(Path(path)), where))
        if not told.branches:
            return Imported(finished(_row(list(pairs), told.shape, where), where), source)
        found = [with_widths(merged(_row(list(islice(pairs, len(branch.layers))), branch.shape, where)))
                 for branch in told.branches]
        widths = [layers[-1].outputs if layers else prod(branch.shape)
                  for layers, branch in zip(found, told.branches, strict=True)]
        last = finished(_row(list(pairs), (sum(widths),), where), where)
        return _joined(told.branches, found, last, source)


def _row(pairs: Pairs, shape: Shape, where: str) -> list[Layer]:
    """The layers of tables that run one after the other."""
    layers: list[Layer] = []
    for table, held in pairs:
        for layer in _read_as(table, held, shape, where):
            layers, shape = appended(layers, shape, layer, where)
    return layers


def _joined(
    branches: Sequence[InputBranch], found: Sequence[tuple[Layer, ...]], last: tuple[Layer, ...],
    source: Mapping[str, object],
) -> Imported:
    """Branches over parts of the inputs, and the layers that read what all of them give."""
    layers: list[Layer] = []
    wires: list[Taps] = []
    ends: list[Tap] = []
    start = 0
    for branch, own in zip(branches, found, strict=True):
        tap = Tap(INPUT, start, start := start + prod(branch.shape))
        for layer in own:
            wires.append((tap,))
            layers.append(layer)
            tap = Tap(len(layers) - 1, 0, layer.outputs)
        ends.append(tap)
    behind = [(Tap(len(layers) + i, 0, layer.outputs),) for i, layer in enumerate(last)]
    groups = tuple(ChannelGroup(branch.name, branch.shape) for branch in branches)
    return Imported((*layers, *last), source, (*wires, tuple(ends), *behind), input_groups=groups, width=start)


def _matched(told: Architecture, held: Sequence[HeldLayer], where: str) -> Pairs:
    """Each table with the layer of the file whose weights are its own, None where it has none."""
    held = [layer for layer in held if layer.weights]
    holding = [table for table in told.tables if table.told.holds]
    if len(holding) != len(held):
        there, named = ", ".join(layer.name for layer in held), ", ".join(table.kind for table in holding)
        raise BadInput(f"{where}: holds {len(held)} layers with weights ({there}), but the architecture names "
                       f"{len(holding)} ({named}); name every one, in the order of the file")
    rest = iter(held)
    pairs = [(table, next(rest) if table.told.holds else None) for table in told.tables]
    for table, layer in pairs:
        if layer is not None and table.name not in (None, layer.name):
            raise BadInput(f"{where}: {table.where} is to be layer '{table.name}', but in the order of the file comes "
                           f"'{layer.name}'; correct the order or the name")
    return pairs


def _read_as(table: LayerTable, held: HeldLayer | None, shape: Shape, where: str) -> Iterator[KerasLayer]:
    """The layer as its reader knows it, its weights checked; a CT-RNN's scale is a layer behind it."""
    kind, name = table.told.read_as, table.kind if held is None else held.name
    if held is None:
        yield from () if kind in NOTHING else (KerasLayer(kind, name, table.options, {}),)
        return
    at = f"{where}: layer '{name}' ({table.kind})"
    weights = _named(table, held, at)
    inputs = width_of(shape, table.kind in OVER_FRAMES, at)
    if kind != WIRED:
        require_shapes(table.kind, weights, inputs, at)
    wiring = _wiring(table, weights, inputs, at)
    yield KerasLayer(kind, name, _options(table), _run_with(table, weights), wiring, table.told.memory)
    if table.kind == "CTRNNCell":
        yield KerasLayer("Rescaling", name, {"scale": weights["scale"]}, {})


def _named(table: LayerTable, held: HeldLayer, where: str) -> Weights:
    """Raises ``BadInput`` that says which kind the weights look like, where that is another one."""
    try:
        return named_weights(table.kind, held, where)
    except BadInput:
        likely = guessed_kind(held)
        if likely in (None, table.kind):
            raise
        raise BadInput(f"{where}: its weights look like those of kind {likely}, {held.words}; correct the kind, or the "
                       "order of the layers") from None


def _options(table: LayerTable) -> Mapping[str, Any]:
    """By the names that readers know."""
    options = dict(table.options)
    if table.told.read_as == LTC:
        options["ode_unfolds"] = options.pop("unfolds")
    if "backbone_activation" in options:
        function = options.pop("backbone_activation")
        options |= {"activation": {"lecun": "lecun_tanh"}.get(function, function), "head": "lecun_tanh"}
    if "forget_bias" in options:
        options["forget_gate_bias"] = options.pop("forget_bias")
    return options


def _run_with(table: LayerTable, weights: Weights) -> Weights:
    """The published mixed cell gives its CfC a timespan of 0 where it is not given one: nothing of time_a remains."""
    if table.options.get("timespan") != "zero":
        return weights
    return {**weights, **{name: np.zeros_like(weights[name]) for name in ("time_a/kernel", "time_a/bias")}}


def _wiring(table: LayerTable, weights: Weights, inputs: int | None, where: str) -> Wiring | None:
    config = table.options.get("wiring")
    if table.told.read_as == LTC:
        made = None if config is None else made_wiring(config, len(weights["sensory_mu"]), where)
        _require_synapses(weights, made, where)
        return told_wiring(weights, table.options["outputs"], None, made)
    if config is None:
        return None
    first = weights["stage0/ff1_weight"]
    wiring = stages_of(made_wiring(config, first.shape[0] - first.shape[-1] if inputs is None else inputs, where))
    require_stages(weights, wiring, where)
    return wiring


def _require_synapses(weights: Weights, wiring: Any, where: str) -> None:
    """Raises ``BadInput`` where the wiring has other synapses than the weights: those whose erev is not 0."""
    if wiring is None:
        return
    for name, adjacency in (("erev", wiring.adjacency_matrix), ("sensory_erev", wiring.sensory_adjacency_matrix)):
        held, drawn = weights[name] != 0, np.asarray(adjacency) != 0
        if held.shape != drawn.shape or (held != drawn).any():
            raise BadInput(f"{where}: weight '{name}' has {int(held.sum())} synapses {held.shape}, its wiring "
                           f"{int(drawn.sum())} {drawn.shape}, and not the same; give the wiring and seed it was "
                           "trained with, or leave wiring out")
