"""What the picture of a wiring shows of a cell: LTCs as they are, wired CfCs by the weights of their heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.gated import MixedMemory, WiredCfc
from ncpc.ir.policy import F64, I64, INPUT, Layer, Ltc, Policy, Synapses, Taps
from ncpc.ir.wires import taps_of


@dataclass(frozen=True, eq=False)
class Drawing:
    """Neurons and synapses of a cell. ``sigma`` and ``mu`` of its synapses are NaN where there are none."""

    inputs: int
    names: tuple[str, ...]
    roles: tuple[str, ...]
    sensory: Synapses
    recurrent: Synapses

    @property
    def neurons(self) -> int:
        return len(self.names)


def drawings(policy: Policy) -> list[tuple[Ltc | Drawing, tuple[str, ...]]]:
    """Every wired cell of a policy, and the names of its inputs where they are the policy's."""
    found = [(taps, drawing_of(layer)) for layer, taps in zip(policy.layers, taps_of(policy), strict=False)]
    return [(drawn, _names_read(policy, taps)) for taps, drawn in found if drawn is not None]


def _names_read(policy: Policy, taps: Taps) -> tuple[str, ...]:
    """The names of the inputs that a layer reads, where it reads nothing else."""
    if not policy.input_names or any(tap.source != INPUT for tap in taps):
        return ()
    return tuple(name for tap in taps for name in policy.input_names[tap.start : tap.stop])


def drawing_of(layer: Layer) -> Ltc | Drawing | None:
    """The cell as a drawing; None where it has no wiring."""
    if isinstance(layer, MixedMemory):
        return drawing_of(layer.cell)
    if isinstance(layer, WiredCfc):
        return _wired_cfc(layer)
    return layer if isinstance(layer, Ltc) else None


def _wired_cfc(layer: WiredCfc) -> Drawing:
    """A synapse's weight is that of ff1 or ff2, whichever is larger; each layer reads itself and the one before."""
    starts = np.cumsum([0, *(stage.neurons for stage in layer.stages)])
    sensory: list[tuple[I64, I64, F64]] = []
    recurrent: list[tuple[I64, I64, F64]] = []
    for i, stage in enumerate(layer.stages):
        strongest = stage.ff1.weight
        if stage.ff2 is not None:
            other = stage.ff2.weight
            strongest = np.where(np.abs(other) > np.abs(strongest), other, strongest)
        before, own = strongest[:, : stage.inputs], strongest[:, stage.inputs :]
        (recurrent if i else sensory).append(_listed(before, int(starts[i - 1]) if i else 0, int(starts[i])))
        recurrent.append(_listed(own, int(starts[i]), int(starts[i])))
    names = tuple(name for stage in layer.stages for name in stage.names)
    roles = tuple(role for stage in layer.stages for role in stage.roles)
    return Drawing(layer.inputs, names, roles, _joined(sensory), _joined(recurrent))


def _listed(weight: F64, first_pre: int, first_post: int) -> tuple[I64, I64, F64]:
    post, pre = np.nonzero(weight)
    return pre + first_pre, post + first_post, weight[post, pre]


def _joined(parts: list[tuple[I64, I64, F64]]) -> Synapses:
    pre, post, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.lexsort((pre, post))
    nothing = np.full(len(pre), np.nan)
    return Synapses(pre[order], post[order], np.abs(weight)[order], nothing, nothing, np.sign(weight)[order])
