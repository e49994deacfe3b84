"""What a layer consists of, counted: neurons by role, synapses, the products of one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ncpc.ir.cells import RECURRENT
from ncpc.ir.gated import Cfc, MixedMemory, WiredCfc
from ncpc.ir.policy import F64, ROLES, Layer, Policy
from ncpc.ir.program import Op, Program, Stmt
from ncpc.ir.rewrite import with_trips
from ncpc.passes.lower import lower
from ncpc.report.drawing import drawing_of


@dataclass(frozen=True)
class Anatomy:
    """``synapses`` are pairs of neurons of which one reads the other's state by a weight that is not 0, whatever the
    number of its gates; through a backbone every neuron reads all. ``sensory_synapses`` are pairs of an input and a
    neuron. ``roles`` counts neurons by role where the layer names them. ``products`` are those of one step: of weight
    matrices, kernels and synapses.
    """

    neurons: int = 0
    synapses: int = 0
    sensory_synapses: int = 0
    products: int = 0
    roles: dict[str, int] = field(default_factory=dict)


def anatomy(layer: Layer) -> Anatomy:
    """The counts of one layer; a layer without state has products alone."""
    alone = lower(Policy("layer", (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1))))
    products, cell = _products(alone.body, alone), _cell(layer)
    if cell is None:
        return Anatomy(products=products)
    drawn = drawing_of(cell)
    if drawn is None:
        recurrent, sensory = _pairs(cell)
        return Anatomy(cell.outputs, recurrent, sensory, products)
    roles = {role: drawn.roles.count(role) for role in ROLES if role in drawn.roles}
    return Anatomy(drawn.neurons, len(drawn.recurrent), len(drawn.sensory), products, roles)


def parameters(layer: object) -> int:
    """How many trained numbers a layer holds: every float array, those of its parts included."""
    if isinstance(layer, np.ndarray):
        return layer.size if layer.dtype.kind == "f" else 0
    if isinstance(layer, Sequence) and not isinstance(layer, str):
        return sum(map(parameters, layer))
    return sum(map(parameters, vars(layer).values())) if hasattr(layer, "__dataclass_fields__") else 0


def _cell(layer: Layer) -> Layer | None:
    """The layer as a cell with state: one CfC is a row of one, a mixed memory is its cell; None for other layers."""
    if isinstance(layer, MixedMemory):
        return _cell(layer.cell)
    if isinstance(layer, Cfc) and not layer.backbone:
        return WiredCfc((layer,))
    return layer if layer.kind in RECURRENT else None


def _pairs(layer: Layer) -> tuple[int, int]:
    """(neuron, neuron) and (input, neuron) pairs joined by a weight."""
    matrices: list[F64] = [getattr(layer, name) for name in ("weight_h", "weight_x") if hasattr(layer, name)]
    if len(matrices) < 2:
        return layer.outputs**2, layer.outputs * layer.inputs
    found = [int(np.any(m.reshape(-1, layer.outputs, m.shape[1]) != 0, axis=0).sum()) for m in matrices]
    return found[0], found[1]


def _products(body: tuple[Stmt, ...], program: Program) -> int:
    """Products of matrices, kernels and synapses in a body, repeats counted as often as they run."""
    return sum(trips * _of_op(op, program) for op, trips in with_trips(body))


def _of_op(op: Op, program: Program) -> int:
    if op.kind == "matmul":
        return math.prod(program.constants[op.args[0]][0].shape)
    if op.kind == "conv2d":
        return int(op.attrs["rows"] or 0) * int(op.attrs["cols"] or 0) * int(program.constants[op.args[0]][1].size)
    # Each evaluation of a synapse reads its presynaptic number once.
    return math.prod(op.out.shape) if op.kind == "gather" else 0
