"""An ordered list of modules, some of them recurrent cells, run over sequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ncpc.cells.ode_rnn import is_ode_lstm
from ncpc.ir.cells import CELLS
from ncpc.ir.kinds import load
from ncpc.system.torch_library import ncps_torch_module, torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

State = tuple[Any, ...]

OWN = tuple(load(kind.module) for kind in CELLS if kind.module)
WHOLE = (torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN)
SINGLE = (torch.nn.LSTMCell, torch.nn.GRUCell, torch.nn.RNNCell)


class Sequential(torch.nn.Module):
    """An ordered list of modules around recurrent cells, run over sequences.

    ``torch.nn.Sequential`` cannot run an ncps ``LTC``, which returns (output, state); this one takes the output,
    carries the state, and gives each sequence of a batch its own timespans. ``input_shape`` is that of one step's input
    where it is a frame (channels, height, width): inputs may then be flat or have that shape.
    """

    def __init__(self, layers: Iterable[torch.nn.Module], input_shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)
        self.input_shape = None if input_shape is None else tuple(input_shape)

    def forward(
        self, x: torch.Tensor, hx: State | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Outputs and final states for ``x`` (T, inputs) or (B, T, inputs), always batch first.

        ``timespans`` is (T,) or (B, T), 1.0 each when left out. ``hx`` holds one state per recurrent layer, as that
        layer gives it ((B, units) for an LTC), zeros when left out; the returned tuple can be passed back in to
        continue.
        """
        shape = self.input_shape or x.shape[-1:]
        x = x.reshape(*(x.shape[:-1] if x.shape[-len(shape) :] != shape else x.shape[: -len(shape)]), *shape)
        if x.dim() == 1 + len(shape):
            y, hx = self.forward(x[None], hx, None if timespans is None else timespans[None])
            return y[0], hx
        if timespans is None:
            timespans = x.new_ones(x.shape[:2])
        timespans = timespans.expand(x.shape[:2])
        carried, states = iter(hx or ()), []
        for layer in self.layers:
            if is_recurrent(layer):
                x, state = _run_cell(layer, x, next(carried, None), timespans)
                states.append(state)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x, tuple(states)


def is_recurrent(layer: object) -> bool:
    """Whether ``layer`` carries a state from step to step."""
    return isinstance(layer, (*OWN, *WHOLE, *SINGLE)) or _is_ncps(layer) or is_ode_lstm(layer)


def _is_ncps(layer: object) -> bool:
    ncps = ncps_torch_module()
    return isinstance(layer, (ncps.LTC, ncps.LTCCell, ncps.CfC, ncps.CfCCell, ncps.WiredCfCCell))


def _run_cell(layer: Any, x: torch.Tensor, state: Any, timespans: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """One recurrent layer over time, ``timespans`` (B, T)."""
    if isinstance(layer, OWN):
        y, after = layer(x, state, timespans)
        return y, after
    if isinstance(layer, WHOLE):
        return _run_whole(layer, x, state)
    step = _single_step if isinstance(layer, SINGLE) else _ode_lstm_step if is_ode_lstm(layer) else _ncps_step
    outputs = []
    for t in range(x.shape[1]):
        y, state = step(layer, x[:, t], state, timespans[:, t, None])
        outputs.append(y)
    return torch.stack(outputs, dim=1), state


def _run_whole(layer: Any, x: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """A ``torch.nn`` recurrent layer, whichever way round it takes time and batch."""
    if layer.batch_first:
        y, state = layer(x, state)
        return y, state
    y, state = layer(x.transpose(0, 1), state)
    return y.transpose(0, 1), state


def _single_step(layer: Any, x: torch.Tensor, state: Any, _: torch.Tensor) -> tuple[torch.Tensor, Any]:
    state = layer(x, state)
    return (state[0] if isinstance(state, tuple) else state), state


def _ode_lstm_step(layer: Any, x: torch.Tensor, state: Any, dt: torch.Tensor) -> tuple[torch.Tensor, Any]:
    zeros = x.new_zeros(x.shape[0], layer.lstm.hidden_size)
    state = layer(x, state or (zeros, zeros), dt[:, 0])
    return state[0], state


def _ncps_step(layer: Any, x: torch.Tensor, state: Any, dt: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """One step of an ncps layer's cell, ``dt`` (B, 1): ncps' own loop mixes up the batch and the neurons."""
    cell, mixed = getattr(layer, "rnn_cell", layer), getattr(layer, "use_mixed", False)
    if state is None:
        zeros = x.new_zeros(x.shape[0], getattr(cell, "state_size", None) or cell.hidden_size)
        state = (zeros, zeros) if mixed else zeros
    if not mixed:
        y, after = cell(x, state, dt)
        return _projected(layer, y), after
    h, c = layer.lstm(x, state)
    y, h = cell(x, h, dt)
    return _projected(layer, y), (h, c)


def _projected(layer: Any, y: torch.Tensor) -> torch.Tensor:
    fc = getattr(layer, "fc", None)
    return y if fc is None else fc(y)
