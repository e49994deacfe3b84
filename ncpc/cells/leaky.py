"""Leaky integrators that look ahead (Haider et al. 2021, Latent Equilibrium, arXiv 2110.14549) as a torch module."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ncpc.cells.over_time import over_time
from ncpc.ir import cells
from ncpc.ir.tensors import array_of
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class LeakyIntegrator(torch.nn.Module):
    """``tau du/dt = i - u`` with ``i = read x + recur r``; the rate is ``r = function(u + lookahead du/dt)``.

    ``i`` is held over a step of length dt, so the step ``u <- i + exp(-dt/tau)*(u - i)`` is exact. ``tau`` > 0 is
    trained per unit, starting at ``tau``. The look-ahead is ``ahead*tau``, ``ahead`` in [0, 1] and not trained: 1 makes
    a unit as fast as its input (its rate is function(i)), 0 is a leaky integrator. The output is ``r``; the state holds
    ``u`` and ``r``. ``function`` is ``tanh``, ``sigmoid``, ``relu`` or ``identity``.
    """

    def __init__(
        self, inputs: int, units: int, *, tau: float = 1.0, ahead: float = 1.0, function: str = "tanh"
    ) -> None:
        super().__init__()
        if function not in ("tanh", "sigmoid", "relu", "identity"):
            raise ValueError(f"function is {function!r}; give 'tanh', 'sigmoid', 'relu' or 'identity'")
        if not (tau > 0 and 0 <= ahead <= 1):
            raise ValueError(f"tau is {tau} and ahead {ahead}; give tau > 0 and ahead between 0 and 1")
        self.inputs, self.units, self.ahead, self.function = inputs, units, ahead, function
        self.read = torch.nn.Linear(inputs, units)
        self.recur = torch.nn.Linear(units, units, bias=False)
        self.raw_tau = torch.nn.Parameter(torch.full((units,), math.log(math.expm1(tau))))

    def tau(self) -> torch.Tensor:
        """The time constants, (units,)."""
        return torch.nn.functional.softplus(self.raw_tau)

    def lookahead(self) -> torch.Tensor:
        """How far each unit looks ahead, (units,), in the unit of tau."""
        return self.ahead * self.tau()

    def rate(self, u: torch.Tensor) -> torch.Tensor:
        """``function(u)``."""
        return u if self.function == "identity" else getattr(torch, self.function)(u)

    def layer(self) -> cells.LeakyIntegrator:
        """The cell as data."""
        return cells.LeakyIntegrator(array_of(self.read.weight), array_of(self.recur.weight), array_of(self.read.bias),
                                     array_of(self.tau()), array_of(self.lookahead()), self.function)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rates (B, T, units) and final state (B, 2*units) for ``x`` (B, T, inputs); ``timespans`` (T,) or (B, T).

        Without the batch dimension for ``x`` (T, inputs).
        """
        u = x.new_zeros(self.units)
        return over_time(self._step, x, torch.cat([u, self.rate(u)]) if hx is None else hx, timespans)

    def _step(self, x: torch.Tensor, state: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u, r = state.chunk(2, dim=1)
        i = self.read(x) + self.recur(r)
        u = i + torch.exp(-dt / self.tau()) * (u - i)
        r = self.rate(u + self.ahead * (i - u))
        return r, torch.cat([u, r], dim=1)
