"""Reads the recurrent modules of ``torch.nn`` and of ``ncpc.cells``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.tensors import F64, array_of, class_name, dense_of
from ncpc.ir.cells import CtGru, CtRnn, Gru, LeakyIntegrator, Lif, Lstm, NeuralOde, Rnn
from ncpc.ir.policy import Layer
from ncpc.torch_library import torch_module

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
    from ncpc import cells  # needs torch

    return {cells.CtRnn: _ct_rnn, cells.NeuralOde: _neural_ode, cells.CtGru: _ct_gru,
            cells.LeakyIntegrator: _leaky_integrator, cells.LIF: _lif}


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


def _ct_rnn(module: Any) -> list[Layer]:
    weight_x, weight_h = _split(module.dense.weight, module.inputs)
    bias, tau = array_of(module.dense.bias), np.broadcast_to(array_of(module.tau()), weight_h.shape[:1]).copy()
    return [CtRnn(weight_x, weight_h, bias, tau, module.unfolds, module.step, module.solver, module.clip)]


def _neural_ode(module: Any) -> list[Layer]:
    weight_x, weight_h = _split(module.dense.weight, module.inputs)
    return [NeuralOde(weight_x, weight_h, array_of(module.dense.bias), module.unfolds, module.step, module.solver,
                      module.clip)]


def _split(weight: Any, inputs: int) -> tuple[F64, F64]:
    """The columns that meet the input, and the rest; zeros where the cell has no feedback."""
    whole = array_of(weight)
    fed_back = whole.shape[1] > inputs
    return whole[:, :inputs], whole[:, inputs:] if fed_back else np.zeros((whole.shape[0], whole.shape[0]))


def _ct_gru(module: Any) -> list[Layer]:
    return [CtGru(dense_of(module.retrieve), dense_of(module.store), dense_of(module.detect), array_of(module.ln_tau),
                  array_of(module.decay), module.clip)]


def _leaky_integrator(module: Any) -> list[Layer]:
    return [LeakyIntegrator(array_of(module.read.weight), array_of(module.recur.weight), array_of(module.read.bias),
                            array_of(module.tau()), array_of(module.lookahead()), module.function)]


def _lif(module: Any) -> list[Layer]:
    weight_h = np.zeros((module.units, module.units)) if module.recur is None else array_of(module.recur.weight)
    parameters = (array_of(getattr(module, name)) for name in ("r", "v_leak", "v_threshold", "v_reset"))
    return [Lif(array_of(module.read.weight), weight_h, array_of(module.read.bias), array_of(module.tau()).copy(),
                *parameters)]
