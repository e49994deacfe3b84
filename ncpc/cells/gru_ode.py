"""The GRU-ODE of De Brouwer, Simm, Arany and Moreau 2019 (arXiv 1905.12374), its input held, as a torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.cells.over_time import over_time
from ncpc.ir import gated
from ncpc.ir.tensors import dense_of
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class GruOde(torch.nn.Module):
    """``dh/dt = (1 - z)*(g - h)`` by ``unfolds`` Euler steps of dt/unfolds; the output is ``h``.

    ``r = sigmoid(reset [x, h])``, ``z = sigmoid(update [x, h])``, ``g = tanh(detect [x, r*h])``. One step of dt = 1 is
    the GRU of Cho et al. 2014 (arXiv 1406.1078), which resets the state before its matrix.
    """

    def __init__(self, inputs: int, units: int, *, unfolds: int = 4) -> None:
        super().__init__()
        self.units, self.unfolds = units, unfolds
        self.reset, self.update, self.detect = (torch.nn.Linear(inputs + units, units) for _ in range(3))

    def layer(self) -> gated.GruOde:
        """The cell as data."""
        return gated.GruOde(dense_of(self.reset), dense_of(self.update), dense_of(self.detect), self.unfolds)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, units) and final state (B, units) for ``x`` (B, T, inputs); ``timespans`` is (T,) or (B, T),
        1.0 each when left out. Without the batch dimension for ``x`` (T, inputs).
        """
        return over_time(self._step, x, x.new_zeros(self.units) if hx is None else hx, timespans)

    def _step(self, x: torch.Tensor, h: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(self.unfolds):
            seen = torch.cat([x, h], dim=1)
            r, z = torch.sigmoid(self.reset(seen)), torch.sigmoid(self.update(seen))
            g = torch.tanh(self.detect(torch.cat([x, r * h], dim=1)))
            h = h + dt / self.unfolds * (1 - z) * (g - h)
        return h, h
