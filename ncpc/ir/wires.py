"""How a policy's layers are wired: what each of them reads, and parts of the policy as policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ncpc.ir.names import identifiers
from ncpc.ir.policy import INPUT, ChannelGroup, Layer, Policy, Tap, Taps
from ncpc.ir.problems import Problems


def taps_of(policy: Policy) -> tuple[Taps, ...]:
    """What every layer reads, in order, and last what the outputs are: those of a row are whole."""
    return policy.wires or row(policy.layers)


def row(layers: Sequence[Layer]) -> tuple[Taps, ...]:
    """Each layer reads all that the one before it gives: what ``Policy.wires`` leaves unsaid."""
    widths = (layers[0].inputs, *(layer.outputs for layer in layers))
    return tuple((Tap(source, 0, width),) for source, width in enumerate(widths, INPUT))


def is_row(policy: Policy) -> bool:
    """Whether each layer reads just what the one before it gives."""
    return not policy.wires or policy.wires == row(policy.layers)


def tap_words(policy: Policy, taps: Taps) -> str:
    """What taps read, for people: ``inputs 0-2, layer 1``; whole sources without their channels."""
    def one(tap: Tap) -> str:
        name = "inputs" if tap.source == INPUT else f"layer {tap.source}"
        width = policy.inputs if tap.source == INPUT else policy.layers[tap.source].outputs
        last = "" if tap.width == 1 else f"-{tap.stop - 1}"
        return name if tap.width == width else f"{name} [{tap.start}{last}]"

    return ", ".join(map(one, taps))


def only_layer(policy: Policy) -> Layer | None:
    """The layer of a policy that is one layer and nothing else; None of any other."""
    return policy.layers[0] if len(policy.layers) == 1 and is_row(policy) and not policy.initial else None


def unlike_row(policy: Policy) -> str:
    """What a policy has beyond a row of layers that start from 0, in words; '' where it has nothing."""
    if is_row(policy):
        return f"layer {policy.initial[0].layer} starts from a state that is not 0" if policy.initial else ""
    def name(source: int) -> str:
        return "the inputs" if source == INPUT else f"layer {source} ({policy.layers[source].kind})"

    k, taps = next((k, taps) for k, (taps, straight) in enumerate(zip(policy.wires, row(policy.layers), strict=True))
                   if taps != straight)
    reader = f"layer {k} ({policy.layers[k].kind}) reads" if k < len(policy.layers) else "the outputs read"
    return f"{reader} {' and '.join(dict.fromkeys(name(tap.source) for tap in taps))}"


def readers(policy: Policy, position: int) -> tuple[int, ...]:
    """Positions of the layers that read what the layer at ``position`` (or ``INPUT``) gives; ``len(layers)`` stands
    for the outputs.
    """
    return tuple(k for k, taps in enumerate(taps_of(policy)) if any(tap.source == position for tap in taps))


def before(policy: Policy, position: int) -> Policy:
    """The policy whose outputs are what the layer at ``position`` reads; a row's is a row."""
    wires, layers = taps_of(policy), policy.layers[:position]
    initial = tuple(start for start in policy.initial if start.layer < position)
    return replace(policy, layers=layers, initial=initial, output_names=(), output_groups=(),
                   wires=wires[: position + 1] if policy.wires or not layers else ())


def frames_in(policy: Policy) -> tuple[slice, ...]:
    """Which inputs are the numbers of one frame, of which any may be what any other is."""
    if policy.input_groups:
        ends = np.cumsum([0, *(group.width for group in policy.input_groups)])
        spans = [slice(int(lo), int(hi)) for lo, hi in pairwise(ends)]
        return tuple(span for span, group in zip(spans, policy.input_groups, strict=True) if len(group.shape) > 1)
    taps = zip(policy.layers, taps_of(policy), strict=False)
    return tuple(slice(tap.start, tap.stop) for layer, (tap, *_) in taps
                 if tap.source == INPUT and hasattr(layer, "windows"))


def group_names(groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    """A name for every channel: the group's own where it has one channel, else numbered (``action_0``)."""
    return tuple(group.name if group.width == 1 else f"{group.name}_{k}"
                 for group in groups for k in range(group.width))


def wire_problems(policy: Policy) -> Problems:
    """What is wrong with the wires, the initial layers and the groups of a policy."""
    if policy.wires:
        yield from _taps(policy)
    for what, groups, width in (("input", policy.input_groups, policy.inputs),
                                ("output", policy.output_groups, policy.outputs)):
        held = [group.width for group in groups]
        if groups and (sum(held) != width or any(side < 1 for group in groups for side in group.shape)):
            yield f"{what} groups hold {held} channels, the policy has {width}"
        yield from identifiers([group.name for group in groups], len(groups), f"{what} groups' names")


def _taps(policy: Policy) -> Problems:
    layers, inputs = policy.layers, len(policy.input_range)
    if len(policy.wires) != len(layers) + 1:
        yield f"has {len(policy.wires)} wires; every layer has its own, and the outputs: {len(layers) + 1}"
    for k, taps in enumerate(policy.wires):
        where = f"layer {k} ({layers[k].kind})" if k < len(layers) else "the outputs"
        for tap in taps:
            if not INPUT <= tap.source < k:
                yield f"{where} read layer {tap.source}, which is not before them"
            width = inputs if tap.source == INPUT else layers[tap.source].outputs
            if not 0 <= tap.start < tap.stop <= width:
                yield f"{where} read channels {tap.start} to {tap.stop} of {width}"
        wanted, given = layers[k].inputs if k < len(layers) else None, sum(tap.width for tap in taps)
        if wanted not in (None, given) or not taps:
            yield f"{where} read {given} channels, and take {wanted}"
