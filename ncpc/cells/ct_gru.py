"""The continuous-time GRU of Mozer, Kazakov and Lindsey 2017 (arXiv 1710.04110) as a torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.cells.over_time import over_time
from ncpc.ir import cells
from ncpc.ir.tensors import array_of, dense_of
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class CtGru(torch.nn.Module):
    """A GRU whose gates choose among ``scales`` memory traces per unit, with time constants 1, 10**0.5, 10, ...

    ``r = softmax(-(retrieve [x, h] - ln tau)**2)``, ``q = tanh(detect [x, sum r*e])``,
    ``s = softmax(-(store [x, h] - ln tau)**2)``, ``e <- (e + s*(q - e)) * decay**dt``, ``h = sum e`` over the scales.
    ``decay="tau"`` is the paper's exp(-1/tau). ``decay="published"`` is exp(-1/ln tau), as the code published with the
    LTC paper has it (where dt = 1): its first trace, ln tau = 0, keeps nothing. ``clip`` > 0 limits the traces.
    """

    ln_tau: torch.Tensor
    decay: torch.Tensor

    def __init__(self, inputs: int, units: int, *, scales: int = 8, decay: str = "tau", clip: float = 0.0) -> None:
        super().__init__()
        if decay not in ("tau", "published"):
            raise ValueError(f"decay is {decay!r}; give 'tau' or 'published'")
        self.inputs, self.units, self.scales, self.clip = inputs, units, scales, clip
        self.retrieve = torch.nn.Linear(inputs + units, units * scales)
        self.store = torch.nn.Linear(inputs + units, units * scales)
        self.detect = torch.nn.Linear(inputs + units, units)
        ln_tau = torch.log(torch.tensor(10.0, dtype=torch.float64)) / 2 * torch.arange(scales, dtype=torch.float64)
        self.register_buffer("ln_tau", ln_tau.float())
        self.register_buffer("decay", torch.exp(-1.0 / (ln_tau if decay == "published" else ln_tau.exp())).float())

    def layer(self) -> cells.CtGru:
        """The cell as data."""
        return cells.CtGru(dense_of(self.retrieve), dense_of(self.store), dense_of(self.detect), array_of(self.ln_tau),
                           array_of(self.decay), self.clip)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, units) and final traces (B, units*scales) for ``x`` (B, T, inputs).

        ``timespans`` is (T,) or (B, T), 1.0 each when left out. Without the batch dimension for ``x`` (T, inputs).
        """
        start = x.new_zeros(self.units * self.scales) if hx is None else hx
        return over_time(self._step, x, start, timespans)

    def _step(self, x: torch.Tensor, e: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        traces = e.reshape(-1, self.units, self.scales)
        seen = torch.cat([x, traces.sum(2)], dim=1)
        recalled = (self._shares(self.retrieve(seen)) * traces).sum(2)
        q = torch.tanh(self.detect(torch.cat([x, recalled], dim=1)))[..., None]
        stored = torch.lerp(traces, q.expand_as(traces), self._shares(self.store(seen)))
        traces = stored * self.decay ** dt[..., None]
        traces = traces.clamp(-self.clip, self.clip) if self.clip > 0 else traces
        return traces.sum(2), traces.flatten(1)

    def _shares(self, ln_tau: torch.Tensor) -> torch.Tensor:
        """How much of each unit's gate falls on each scale."""
        off = ln_tau.reshape(-1, self.units, self.scales) - self.ln_tau
        return torch.softmax(-(off**2), dim=2)
