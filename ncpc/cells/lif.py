"""Leaky integrate-and-fire neurons of NIR (Pedersen et al. 2024) as a torch module with a surrogate gradient."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ncpc.cells.over_time import over_time
from ncpc.ir.cells import Lif
from ncpc.ir.tensors import array_of
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class LIF(torch.nn.Module):
    """``tau dv/dt = (v_leak - v) + r*i`` by forward Euler, ``i = read x + recur s``; a spike where v > v_threshold.

    One step: ``v <- v + (dt/tau)*((v_leak - v) + r*i)``, ``s <- v > v_threshold``, ``v <- v_reset`` where s. The output
    is ``s`` (0 or 1); the state holds ``v`` and ``s`` and starts at ``v_reset`` and 0. ``tau`` is trained, starts at
    ``tau`` and stays above ``least_tau``, which no dt may exceed; ``shared_tau`` gives all units the same one, as most
    simulators of NIR graphs ask. ``recur`` is there with ``recurrent=True``. ``r``, ``v_leak``, ``v_threshold`` and
    ``v_reset`` are buffers of shape (units,). ``slope`` is the surrogate gradient's steepness.
    """

    r: torch.Tensor
    v_leak: torch.Tensor
    v_threshold: torch.Tensor
    v_reset: torch.Tensor

    def __init__(
        self, inputs: int, units: int, *, recurrent: bool = False, tau: float = 5.0, least_tau: float = 1.0,
        shared_tau: bool = False, r: float = 1.0, v_leak: float = 0.0, v_threshold: float = 1.0, v_reset: float = 0.0,
        slope: float = 10.0,
    ) -> None:
        super().__init__()
        if not tau > least_tau > 0:
            raise ValueError(f"tau is {tau} and least_tau {least_tau}; give tau > least_tau > 0")
        if not v_threshold > v_reset:
            raise ValueError(f"v_threshold is {v_threshold} and v_reset {v_reset}; give v_threshold > v_reset")
        self.inputs, self.units, self.least_tau, self.slope = inputs, units, least_tau, slope
        self.read = torch.nn.Linear(inputs, units)
        self.recur = torch.nn.Linear(units, units, bias=False) if recurrent else None
        count = 1 if shared_tau else units
        self.raw_tau = torch.nn.Parameter(torch.full((count,), math.log(math.expm1(tau - least_tau))))
        for name, value in (("r", r), ("v_leak", v_leak), ("v_threshold", v_threshold), ("v_reset", v_reset)):
            self.register_buffer(name, torch.full((units,), float(value)))

    def tau(self) -> torch.Tensor:
        """The time constants, (units,)."""
        return (self.least_tau + torch.nn.functional.softplus(self.raw_tau)).expand(self.units)

    def layer(self) -> Lif:
        """The cell as data."""
        weight_h = np.zeros((self.units, self.units)) if self.recur is None else array_of(self.recur.weight)
        return Lif(array_of(self.read.weight), weight_h, array_of(self.read.bias), array_of(self.tau()),
                   *map(array_of, (self.r, self.v_leak, self.v_threshold, self.v_reset)))

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Spikes (B, T, units) and final state (B, 2*units) for ``x`` (B, T, inputs); ``timespans`` (T,) or (B, T).

        Without the batch dimension for ``x`` (T, inputs).
        """
        start = torch.cat([self.v_reset, torch.zeros_like(self.v_reset)])
        return over_time(self._step, x, start if hx is None else hx, timespans)

    def _step(self, x: torch.Tensor, state: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v, s = state.chunk(2, dim=1)
        current = self.read(x) if self.recur is None else self.read(x) + self.recur(s)
        v = v + dt / self.tau() * ((self.v_leak - v) + self.r * current)
        s = spike(v - self.v_threshold, self.slope)
        return s, torch.cat([torch.where(s > 0, self.v_reset, v), s], dim=1)


def spike(above: torch.Tensor, slope: float) -> torch.Tensor:
    """1 where ``above`` is positive, else 0; backwards as if it were a fast sigmoid, of derivative
    1/(1 + slope*|above|)**2 (SuperSpike, Zenke & Ganguli 2018).
    """
    soft = above / (1 + slope * above.abs())
    return (above > 0).to(above.dtype) + (soft - soft.detach())
