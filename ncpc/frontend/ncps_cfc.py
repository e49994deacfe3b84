"""Reads ``ncps.torch`` CfC cells, wired ones and the mixed memory's LSTM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.gated import Cfc, Lstm, WiredCfc
from ncpc.ir.policy import ROLES, Dense
from ncpc.ir.tensors import F64, array_of, class_name, dense_of
from ncpc.system.torch_library import torch_module


def read_cfc(cell: Any, roles: tuple[str, ...] | None = None, names: tuple[str, ...] | None = None) -> Cfc:
    """An ``ncps.torch.CfCCell``; without roles given, every neuron is an inter neuron."""
    mask = None if cell.sparsity_mask is None else array_of(cell.sparsity_mask)
    pure = cell.mode == "pure"
    roles = roles or ("inter",) * int(cell.hidden_size)
    return Cfc(
        backbone=_backbone(cell), ff1=_masked(cell.ff1, mask), ff2=None if pure else _masked(cell.ff2, mask),
        time_a=None if pure else dense_of(cell.time_a), time_b=None if pure else dense_of(cell.time_b),
        w_tau=array_of(cell.w_tau)[0] if pure else None, a=array_of(cell.A)[0] if pure else None,
        mode=str(cell.mode), activation=_activation(cell), head="tanh", roles=roles,
        names=names or tuple(f"{role}_{i}" for i, role in enumerate(roles)),
    )


def read_wired_cfc(cell: Any) -> WiredCfc:
    """An ``ncps.torch.WiredCfCCell``: one stage per layer of its wiring."""
    wiring = cell._wiring
    words = [[str(wiring.get_type_of_neuron(n)) for n in wiring.get_neurons_of_layer(i)]
             for i in range(len(cell._layers))]
    return wired_cfc(cell._layers, words)


def wired_cfc(cells: Sequence[Any], words: Sequence[Sequence[str]]) -> WiredCfc:
    """The cells one behind the other; ``words`` says of each cell's neurons what they are."""
    counts, stages = Counter[str](), []
    for cell, of_neurons in zip(cells, words, strict=True):
        roles, names = tuple(map(_role, of_neurons)), []
        for role in roles:
            names.append(f"{role}_{counts[role]}")
            counts[role] += 1
        stages.append(read_cfc(cell, roles, tuple(names)))
    return WiredCfc(tuple(stages))


def _role(word: str) -> str:
    return word if word in ROLES[1:] else "inter"


def read_lstm(cell: Any) -> Lstm:
    """ncps' own LSTM cell: blocks in the order cell, input, forget, output, and 1 added to the forget gate."""
    blocks = (array_of(cell.input_map.weight), array_of(cell.recurrent_map.weight), array_of(cell.input_map.bias))
    weight_x, weight_h, bias = (_reordered(block) for block in blocks)
    bias[bias.shape[0] // 4 : bias.shape[0] // 2] += 1.0
    return Lstm(weight_x, weight_h, bias)


def _reordered(block: F64) -> F64:
    """Rows (cell, input, forget, output) as (input, forget, cell, output)."""
    g, i, f, o = np.split(block, 4)
    return np.concatenate([i, f, g, o])


def _masked(linear: Any, mask: F64 | None) -> Dense:
    dense = dense_of(linear)
    return dense if mask is None else Dense(dense.weight * mask, dense.bias)


def _linears(cell: Any) -> list[Any]:
    return [] if cell.backbone is None else [m for m in cell.backbone if isinstance(m, torch_module().nn.Linear)]


def _backbone(cell: Any) -> tuple[Dense, ...]:
    return tuple(dense_of(linear) for linear in _linears(cell))


def _activation(cell: Any) -> str:
    """The backbone's activation; ``tanh`` where there is no backbone."""
    nn = torch_module().nn
    kinds = {nn.Tanh: "tanh", nn.ReLU: "relu", nn.SiLU: "silu", nn.GELU: "gelu", nn.Linear: "", nn.Dropout: ""}
    for module in cell.backbone or ():
        name = "lecun_tanh" if type(module).__name__ == "LeCun" else kinds.get(type(module))
        if name is None:
            raise Unsupported(f"{class_name(cell)}: its backbone holds {class_name(module)}, which cannot be read; "
                              "supported are Linear, LeCun, Tanh, ReLU, SiLU, GELU and Dropout")
        if name:
            return name
    return "tanh"
