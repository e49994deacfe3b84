"""CT-RNN and neural ODE, the baselines of Hasani et al. 2021 (arXiv 2006.04439), as torch modules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ncpc.cells.over_time import over_time
from ncpc.cells.solvers import explicit_step, known_solver
from ncpc.ir import cells
from ncpc.ir.policy import F64
from ncpc.ir.tensors import array_of
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class CtRnn(torch.nn.Module):
    """``dh/dt = -h/tau + tanh(W [x, h] + b)``, ``unfolds`` steps of ``step*dt``; the output is ``h``.

    ``tau="trained"`` learns one positive time constant (softplus of a parameter that starts at tau = 1); ``tau="one"``
    is the published code, which keeps tau = 1 even where it creates a variable for it. ``feedback=False`` (published
    default) leaves ``h`` out of the tanh. ``solver`` is ``euler`` (published) or another of
    ``ncpc.ir.tableau``; ``clip`` > 0 limits ``h``.
    Weights start as ``torch.nn.Linear``'s.
    """

    def __init__(
        self, inputs: int, units: int, *, tau: str = "trained", feedback: bool = False, unfolds: int = 6,
        step: float = 0.1, solver: str = "euler", clip: float = 0.0,
    ) -> None:
        super().__init__()
        if tau not in ("trained", "one"):
            raise ValueError(f"tau is {tau!r}; give 'trained' or 'one'")
        self.inputs, self.units, self.feedback = inputs, units, feedback
        self.unfolds, self.step, self.solver, self.clip = unfolds, step, known_solver(solver), clip
        self.dense = torch.nn.Linear(inputs + units if feedback else inputs, units)
        self.raw_tau = torch.nn.Parameter(torch.tensor([math.log(math.e - 1)])) if tau == "trained" else None

    def tau(self) -> torch.Tensor:
        """The time constant, (1,)."""
        one = torch.ones_like(self.dense.bias[:1])
        return one if self.raw_tau is None else torch.nn.functional.softplus(self.raw_tau)

    def layer(self) -> cells.CtRnn:
        """The cell as data."""
        weight_x, weight_h, bias = _split(self.dense, self.inputs)
        tau = np.broadcast_to(array_of(self.tau()), bias.shape).copy()
        return cells.CtRnn(weight_x, weight_h, bias, tau, self.unfolds, self.step, self.solver, self.clip)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, units) and final state (B, units) for ``x`` (B, T, inputs); ``timespans`` (T,) or (B, T).

        Without the batch dimension for ``x`` (T, inputs).
        """
        return _solved(self, x, hx, timespans)

    def slope(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """``dh/dt``."""
        seen = torch.cat([x, h], dim=1) if self.feedback else x
        drive: torch.Tensor = torch.tanh(self.dense(seen))
        return drive - h / self.tau()


class NeuralOde(torch.nn.Module):
    """``dh/dt = tanh(W [x, h] + b)`` (Chen et al. 2018, as a recurrent cell); the output is ``h``.

    ``unfolds`` steps of ``step*dt`` with ``solver`` ``rk4`` (published: 6 steps of 0.1) or another; ``clip`` > 0
    limits ``h``. Weights start as ``torch.nn.Linear``'s.
    """

    def __init__(
        self, inputs: int, units: int, *, unfolds: int = 6, step: float = 0.1, solver: str = "rk4", clip: float = 0.0
    ) -> None:
        super().__init__()
        self.inputs, self.units = inputs, units
        self.unfolds, self.step, self.solver, self.clip = unfolds, step, known_solver(solver), clip
        self.dense = torch.nn.Linear(inputs + units, units)

    def layer(self) -> cells.NeuralOde:
        """The cell as data."""
        return cells.NeuralOde(*_split(self.dense, self.inputs), self.unfolds, self.step, self.solver, self.clip)

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, units) and final state (B, units) for ``x`` (B, T, inputs); ``timespans`` (T,) or (B, T).

        Without the batch dimension for ``x`` (T, inputs).
        """
        return _solved(self, x, hx, timespans)

    def slope(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """``dh/dt``."""
        drive: torch.Tensor = torch.tanh(self.dense(torch.cat([x, h], dim=1)))
        return drive


def _split(dense: torch.nn.Linear, inputs: int) -> tuple[F64, F64, F64]:
    """The columns that meet the input, the rest (zeros where the cell has no feedback), and the bias."""
    weight, bias = array_of(dense.weight), array_of(dense.bias)
    fed_back = weight.shape[1] > inputs
    return weight[:, :inputs], weight[:, inputs:] if fed_back else np.zeros((len(bias), len(bias))), bias


def _solved(
    cell: CtRnn | NeuralOde, x: torch.Tensor, hx: torch.Tensor | None, timespans: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The cell's ODE over sequences: ``unfolds`` steps, each limited to its ``clip``, per input."""

    def step(x: torch.Tensor, h: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for _ in range(cell.unfolds):
            h = explicit_step(lambda now: cell.slope(x, now), h, cell.step * dt, cell.solver)
            h = h.clamp(-cell.clip, cell.clip) if cell.clip > 0 else h
        return h, h

    return over_time(step, x, x.new_zeros(cell.units) if hx is None else hx, timespans)
