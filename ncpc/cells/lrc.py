"""The liquid-resistance liquid-capacitance cell (Farsang et al. 2024, arXiv 2403.08791) as a torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.cells.over_time import over_time
from ncpc.ir.cells import Lrc
from ncpc.ir.tensors import array_of, dense_of
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

RANGES = {"gleak": (0.001, 1.0), "vleak": (-0.2, 0.2), "w": (0.001, 1.0), "sigma": (3.0, 8.0), "mu": (0.3, 0.8)}
"""Where parameters start: as those of an LTC in ncps."""


class LRC(torch.nn.Module):
    """``dh/dt = e(o)*(tanh(u)*vleak - sigmoid(f)*h)``, ``unfolds`` Euler steps of dt/unfolds; the output is ``h``.

    Of each synapse from ``y = [x, h]``, ``s = sigmoid(sigma*(y - mu))``; ``f = gleak + sum w*s``,
    ``u = gleak + sum k*s``, ``o = elastance y``. ``elastance`` is ``symmetric``,
    ``e = sigmoid(o + shift) - sigmoid(o - shift)``, or ``asymmetric``, ``e = sigmoid(o)``. ``w``, ``gleak`` and
    ``shift`` stay positive (softplus). One unfold is the published unit (LRCU).
    """

    vleak: torch.Tensor
    sigma: torch.Tensor
    mu: torch.Tensor
    raw_w: torch.Tensor
    raw_gleak: torch.Tensor

    def __init__(self, inputs: int, units: int, *, elastance: str = "symmetric", unfolds: int = 1) -> None:
        super().__init__()
        if elastance not in ("symmetric", "asymmetric"):
            raise ValueError(f"elastance is {elastance!r}; give 'symmetric' or 'asymmetric'")
        self.inputs, self.units, self.unfolds = inputs, units, unfolds
        for name, (lo, hi) in RANGES.items():
            start = torch.empty((units, inputs + units) if name in ("w", "sigma", "mu") else units).uniform_(lo, hi)
            positive = name in ("w", "gleak")
            self.register_parameter(f"raw_{name}" if positive else name,
                                    torch.nn.Parameter(torch.log(torch.expm1(start)) if positive else start))
        self.k = torch.nn.Parameter(torch.nn.init.orthogonal_(torch.empty(units, inputs + units)))
        self.elastance = torch.nn.Linear(inputs + units, units)
        one = torch.log(torch.expm1(torch.ones(units)))
        self.raw_shift = torch.nn.Parameter(one) if elastance == "symmetric" else None

    def w(self) -> torch.Tensor:
        """Maximal conductances, (units, inputs + units)."""
        return torch.nn.functional.softplus(self.raw_w)

    def gleak(self) -> torch.Tensor:
        """Leak conductances, (units,)."""
        return torch.nn.functional.softplus(self.raw_gleak)

    def shift(self) -> torch.Tensor | None:
        """Half the width of a symmetric elastance, (units,)."""
        return None if self.raw_shift is None else torch.nn.functional.softplus(self.raw_shift)

    def layer(self) -> Lrc:
        """The cell as data."""
        shift, w, gleak = self.shift(), array_of(self.w()), array_of(self.gleak())
        return Lrc(array_of(self.sigma), array_of(self.mu), w, array_of(self.k), gleak, array_of(self.vleak),
                   dense_of(self.elastance), None if shift is None else array_of(shift), self.unfolds)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, units) and final state (B, units) for ``x`` (B, T, inputs); ``timespans`` (T,) or (B, T).

        Without the batch dimension for ``x`` (T, inputs).
        """
        return over_time(self._step, x, x.new_zeros(self.units) if hx is None else hx, timespans)

    def _step(self, x: torch.Tensor, h: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(self.unfolds):
            h = h + dt / self.unfolds * self._slope(torch.cat([x, h], dim=1), h)
        return h, h

    def _slope(self, y: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """``dh/dt``."""
        s = torch.sigmoid(self.sigma * (y[:, None] - self.mu))
        f, u = (self.gleak() + (weight * s).sum(2) for weight in (self.w(), self.k))
        o, shift = self.elastance(y), self.shift()
        e = torch.sigmoid(o) if shift is None else torch.sigmoid(o + shift) - torch.sigmoid(o - shift)
        slope: torch.Tensor = e * (torch.tanh(u) * self.vleak - torch.sigmoid(f) * h)
        return slope
