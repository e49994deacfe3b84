"""Reads the recurrent modules of ``torch.nn`` and of ``ncpc.cells``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.cells import CELLS
from ncpc.ir.gated import Gru, Lstm, OdeRnn, Rnn
from ncpc.ir.kinds import load
from ncpc.ir.policy import F64, Dense, Layer
from ncpc.ir.tensors import array_of, class_name, dense_of
from ncpc.system.torch_library import torch_module

Parameters = tuple[F64, F64, F64, F64]
"""weight_ih, weight_hh, bias_ih, bias_hh."""


def torch_readers() -> dict[Any, Callable[[Any], list[Layer]]]:
    """The reader of each class of ``torch.nn``; a module of several layers gives several."""
    nn = torch_module().nn
    return {
        nn.LSTM: lambda m: [_lstm(p) for p in _layers(m)],
        nn.GRU: lambda m: [_gru(p) for p in _layers(m)],
        nn.RNN: lambda m: [_rnn(p, str(m.nonlinearity)) for p in _layers(m)],
        nn.LSTMCell: lambda m: [_lstm(_parameters(m, ""))],
        nn.GRUCell: lambda m: [_gru(_parameters(m, ""))],
        nn.RNNCell: lambda m: [_rnn(_parameters(m, ""), str(m.nonlinearity))],
    }


def own_readers() -> dict[Any, Callable[[Any], list[Layer]]]:
    """The reader of each class of ``ncpc.cells``."""
    return {load(kind.module): _alone(load(kind.reader)) for kind in CELLS if kind.module}


def _alone(reader: Callable[[Any], Layer]) -> Callable[[Any], list[Layer]]:
    return lambda module: [reader(module)]


def _layers(module: Any) -> list[Parameters]:
    if module.bidirectional:
        raise Unsupported(f"{class_name(module)} with bidirectional=True reads the future and cannot run step by step; "
                          "train it with bidirectional=False")
    if getattr(module, "proj_size", 0):
        raise Unsupported(f"{class_name(module)} with proj_size cannot be read; put a Linear after it instead")
    return [_parameters(module, f"_l{i}") for i in range(module.num_layers)]


def _parameters(module: Any, suffix: str) -> Parameters:
    weight_x, weight_h = (array_of(getattr(module, f"weight_{name}{suffix}")) for name in ("ih", "hh"))
    if not module.bias:
        return weight_x, weight_h, np.zeros(weight_x.shape[0]), np.zeros(weight_x.shape[0])
    bias_x, bias_h = (array_of(getattr(module, f"bias_{name}{suffix}")) for name in ("ih", "hh"))
    return weight_x, weight_h, bias_x, bias_h


def _lstm(p: Parameters) -> Lstm:
    return Lstm(p[0], p[1], p[2] + p[3])


def _gru(p: Parameters) -> Gru:
    return Gru(*p)


def _rnn(p: Parameters, function: str) -> Rnn:
    return Rnn(p[0], p[1], p[2] + p[3], function)


def read_ode_rnn(module: Any) -> OdeRnn:
    """An ``OdeRnn`` of ``ncpc.cells``."""
    (cell,) = torch_readers()[type(module.cell)](module.cell)
    return OdeRnn(cell, _flow(module.flow, class_name(module)), module.first, module.unfolds, module.solver)


def read_ode_lstm(module: Any) -> OdeRnn:
    """An ``ODELSTMCell`` of github.com/mlech26l/ode-lstms: three fixed steps after the LSTM's.

    With another solver its code integrates from the earliest timespan of a batch on: a sequence alone not at all.
    """
    solver = str(module.solver_type)
    if solver not in ("fixed_euler", "fixed_heun", "fixed_rk4"):
        raise Unsupported(f"{class_name(module)} with solver_type '{solver}' depends on the rest of its batch; train "
                          "it with 'fixed_euler', 'fixed_heun' or 'fixed_rk4'")
    flow = _flow(module.f_node, class_name(module))
    return OdeRnn(_lstm(_parameters(module.lstm, "")), flow, "cell", 3, solver.removeprefix("fixed_"))


def _flow(parts: Any, where: str) -> tuple[Dense, ...]:
    """Linear layers with Tanh between them. Raises Unsupported for others."""
    nn, parts = torch_module().nn, list(parts)
    for k, part in enumerate(parts):
        if not isinstance(part, nn.Tanh if k % 2 else nn.Linear) or len(parts) % 2 == 0:
            raise Unsupported(f"{where}: the ODE of its state is made of {', '.join(type(p).__name__ for p in parts)}; "
                              "known are Linear layers with a Tanh between each two")
    return tuple(dense_of(part) for part in parts[::2])
