"""Small torch modules for what the libraries leave out. Importing this needs torch (extra ``torch``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ncpc.torch_library import ncps_torch_module, torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

State = tuple[Any, ...]


class Sequential(torch.nn.Module):
    """An ordered list of modules around recurrent cells, run over sequences.

    ``torch.nn.Sequential`` cannot run an ncps ``LTC``, which returns (output, state); this one takes the output,
    carries the state, and gives each sequence of a batch its own timespans.
    """

    def __init__(self, layers: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(layers)

    def forward(
        self, x: torch.Tensor, hx: State | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, State]:
        """Outputs and final states for ``x`` (T, inputs) or (B, T, inputs), always batch first.

        ``timespans`` is (T,) or (B, T), 1.0 each when left out. ``hx`` holds one state per recurrent layer, (B, units)
        each, zeros when left out; the returned tuple can be passed back in to continue.
        """
        if x.dim() == 2:
            y, hx = self.forward(x[None], hx, None if timespans is None else timespans[None])
            return y[0], hx
        if timespans is None:
            timespans = x.new_ones(x.shape[:2])
        timespans = timespans.expand(x.shape[:2])[..., None]
        carried, states = iter(hx or ()), []
        for layer in self.layers:
            if is_recurrent(layer):
                x, state = _run_cell(layer, x, next(carried, None), timespans)
                states.append(state)
            else:
                x = layer(x)
        return x, tuple(states)


def is_recurrent(layer: object) -> bool:
    """Whether ``layer`` carries a state from step to step."""
    ncps = ncps_torch_module()
    return isinstance(layer, (ncps.LTC, ncps.LTCCell))


def _run_cell(layer: Any, x: torch.Tensor, state: Any, timespans: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Step an LTC's cell over time, ``timespans`` (B, T, 1): ncps' own loop mixes up the batch and the neurons."""
    cell = getattr(layer, "rnn_cell", layer)
    if state is None:
        state = x.new_zeros(x.shape[0], cell.state_size)
    outputs = []
    for t in range(x.shape[1]):
        y, state = cell(x[:, t], state, timespans[:, t])
        outputs.append(y)
    return torch.stack(outputs, dim=1), state
