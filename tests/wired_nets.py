"""Random policies whose layers branch and join: cells side by side, gates, several outputs, initial states."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ncpc.ir.cells import RECURRENT
from ncpc.ir.gated import Gru
from ncpc.ir.policy import INPUT, Activation, ChannelGroup, Dense, DtRange, InitialState, Layer, Policy, Tap, Taps
from ncpc.ir.wires import taps_of
from ncpc.passes.lower import lower
from ncpc.semantics.run import Sequences, run
from tests.nets import random_ltc

INPUTS = 6


def random_gru(rng: np.random.Generator, inputs: int, neurons: int = 4) -> Gru:
    """Weights of a size at which gates are neither open nor shut."""
    rows = 3 * neurons
    return Gru(rng.normal(size=(rows, inputs)) * 0.7, rng.normal(size=(rows, neurons)) * 0.7,
               rng.normal(size=rows) * 0.3, rng.normal(size=rows) * 0.3)


def random_taps(rng: np.random.Generator, widths: list[int], pieces: int) -> Taps:
    """Some channels of the input and of layers, the last layer's among them."""
    taps = []
    for k in range(pieces):
        source = len(widths) - 1 if k == 0 else int(rng.integers(len(widths)))
        start = int(rng.integers(widths[source]))
        taps.append(Tap(source + INPUT, start, int(rng.integers(start + 1, widths[source] + 1))))
    return tuple(taps)


def wired_policy(seed: int, layers: int = 6) -> Policy:
    """Every layer reads one to three pieces of what is there already; so do the outputs, two groups of them."""
    rng = np.random.default_rng(seed)
    widths, made, wires, initial = [INPUTS], [], [], []
    for k in range(layers):
        taps = random_taps(rng, widths, int(rng.integers(1, 4)))
        layer = random_layer(rng, sum(tap.width for tap in taps), ("ltc", "dense", "activation", "gru")[(seed + k) % 4])
        if layer.kind == "ltc" and rng.random() < 0.5:
            initial.append(InitialState(k, rng.uniform(-0.8, 0.8, layer.neurons)))
        made.append(layer)
        wires.append(taps)
        widths.append(layer.outputs)
    wires.append(random_taps(rng, widths, 3))
    first, *rest = (tap.width for tap in wires[-1])
    groups = (ChannelGroup("action", (first,)), ChannelGroup("value", (sum(rest),)))
    return Policy("wired", tuple(made), np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(0.5, 2.0, 1.0), wires=tuple(wires),
                  initial=tuple(initial), output_groups=groups)


def random_layer(rng: np.random.Generator, inputs: int, kind: str) -> Layer:
    if kind == "ltc":
        return random_ltc(int(rng.integers(2**30)), neurons=6, inputs=inputs, outputs=2)
    if kind == "gru":
        return random_gru(rng, inputs)
    if kind == "activation":
        return Activation(str(rng.choice(["tanh", "sigmoid", "relu"])), inputs)
    return Dense(rng.normal(size=(3, inputs)) * 0.8, rng.normal(size=3))


def layer_by_layer(policy: Policy, data: Sequences) -> np.ndarray:
    """What the wires mean: every layer run on its own, on channels put together by hand."""
    given = [data.x]
    for k, (layer, taps) in enumerate(zip(policy.layers, taps_of(policy), strict=False)):
        alone = Policy("alone", (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)), policy.dt,
                       initial=tuple(replace(start, layer=0) for start in policy.initial if start.layer == k))
        assert layer.kind in RECURRENT or not alone.initial
        given.append(run(lower(alone), replace(data, x=_together(given, taps))).y)
    return _together(given, taps_of(policy)[-1])


def _together(given: list[np.ndarray], taps: Taps) -> np.ndarray:
    return np.concatenate([given[tap.source + 1][..., tap.start : tap.stop] for tap in taps], axis=-1)
